"""How good alerts are against labelled events.

labels   0 0 1 1 1 0 0 0 0 0 0 1 1 0      events [2, 5) and [11, 13)
alerts   0 0 0 1 0 0 0 1 1 0 0 0 0 0      one event of two found; one false episode, [7, 9)

Rows are frames in order of time, one every 1 / rate_hz seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require

SECONDS_PER_DAY = 86400.0
# Alerts with less silence between them are one episode, as a person on duty would see them.
GAP_MINUTES = 10.0
# Thresholds tried for a budget: each of the highest scores, then one in every 100 or so by rank.
_RANKS = 400
# An alarm that is on for most of the unlabelled time is none, however few its episodes.
ALWAYS_ON = 0.5


def events(labels: NDArray[Any]) -> list[tuple[int, int]]:
    """The runs of non-zero rows as (start, stop), stop exclusive.

    Args:
        labels: (n,) 0 or 1 per row.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (labels != 0).astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def episodes(alerts: NDArray[Any], gap_rows: float) -> list[tuple[int, int]]:
    """Runs of alerting rows as (start, stop), stop exclusive; runs nearer than ``gap_rows`` are one.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        gap_rows: rows from the last of one run to the first of the next that part them.
    """
    merged: list[tuple[int, int]] = []
    for start, stop in events(alerts):
        # From the last row of one run to the first of the next.
        if merged and start - (merged[-1][1] - 1) < gap_rows:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def event_recall(alerts: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of events in which at least one row alerts; NaN where there is no event.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        labels: (n,) true or 1 within an event.

    Raises:
        ConfigError: their lengths differ.
    """
    _check_rows(alerts, labels)
    found = [bool(np.any(alerts[start:stop])) for start, stop in events(labels)]
    return float(np.mean(found)) if found else float("nan")


def false_episodes_per_day(
    alerts: NDArray[Any], labels: NDArray[Any], rate_hz: float, gap_minutes: float = GAP_MINUTES
) -> float:
    """Episodes of alerts that touch no event, per day of rows.

    An episode is a run of alerting rows. Runs with fewer than ``gap_minutes`` between the last
    row of one and the first row of the next are one episode, as a person on duty would see them;
    it is false when no row between its first and last lies in an event.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        labels: (n,) true or 1 within an event.
        rate_hz: rows per second.
        gap_minutes: how long the alerts must be silent for a new episode.

    Raises:
        ConfigError: the lengths differ, there are no rows, or the rate is not positive.
    """
    _check_rows(alerts, labels)
    require(len(labels) > 0, "labels", "at least one row", len(labels))
    require(rate_hz > 0, "rate_hz", "more than 0 rows per second", rate_hz)
    found = episodes(alerts, gap_minutes * 60.0 * rate_hz)
    false = sum(not np.any(labels[start:stop]) for start, stop in found)
    return false / (len(labels) / rate_hz / SECONDS_PER_DAY)


def detection_delays(alerts: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Rows from the start of each event to its first alert, (events,); NaN for an event that was missed.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        labels: (n,) true or 1 within an event.

    Raises:
        ConfigError: their lengths differ.
    """
    _check_rows(alerts, labels)
    found = [np.flatnonzero(alerts[start:stop]) for start, stop in events(labels)]
    return np.array([rows[0] if len(rows) else np.nan for rows in found], np.float64)


def point_precision_recall(alerts: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Share of alerting rows that are labelled, and share of labelled rows that alert; NaN where there are none.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        labels: (n,) true or 1 within an event.

    Raises:
        ConfigError: their lengths differ.
    """
    _check_rows(alerts, labels)
    alerting, labelled = np.asarray(alerts) != 0, np.asarray(labels) != 0
    return _share(labelled, alerting), _share(alerting, labelled)


def false_alarm_rate(alerts: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of unlabelled rows that alert; NaN where all are labelled.

    It tells a short false episode from one that lasts for days, which counts as one too.

    Args:
        alerts: (n,) true or 1 where the row alerts.
        labels: (n,) true or 1 within an event.

    Raises:
        ConfigError: their lengths differ.
    """
    _check_rows(alerts, labels)
    return _share(np.asarray(alerts) != 0, np.asarray(labels) == 0)


def recall_at_budget(
    scores: NDArray[Any], labels: NDArray[Any], rate_hz: float, per_day: float, gap_minutes: float = GAP_MINUTES
) -> float:
    """The highest event recall that a threshold on these scores reaches within a budget of false episodes.

    The threshold is lowered until the budget is spent for the first time, or most unlabelled rows
    alert. It looks at the labels all the way: a ceiling for thresholds fitted without, not a result.

    Args:
        scores: (n,) higher is stranger; NaN alerts always.
        labels: (n,) true or 1 within an event.
        rate_hz: rows per second.
        per_day: false episodes a day that a person bears.
        gap_minutes: as for ``false_episodes_per_day``.

    Returns:
        0 to 1; NaN without events.

    Raises:
        ConfigError: as ``false_episodes_per_day``.
    """
    _check_rows(scores, labels)
    best = 0.0 if events(labels) else float("nan")
    for threshold in _falling_thresholds(scores, labels):
        alerts = ~(scores < threshold)
        # Lower still, episodes flow together and become fewer: an alarm without an end costs nothing.
        always_on = false_alarm_rate(alerts, labels) > ALWAYS_ON
        if always_on or false_episodes_per_day(alerts, labels, rate_hz, gap_minutes) > per_day:
            break
        best = event_recall(alerts, labels)
    return best


def _falling_thresholds(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Where recall can change, at the peak of each event, and enough between that no budget is overstepped unseen."""
    descending = -np.sort(-np.asarray(scores, np.float64)[~np.isnan(scores)])
    ranks = np.unique(np.geomspace(1, max(len(descending), 1), _RANKS).astype(int)) - 1
    peaks = np.array([np.fmax.reduce(scores[start:stop]) for start, stop in events(labels)], np.float64)
    thresholds: NDArray[np.float64] = np.unique(np.concatenate([descending[ranks[: len(descending)]], peaks]))
    return thresholds[~np.isnan(thresholds)][::-1]


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part[whole].mean()) if whole.any() else float("nan")


def _check_rows(alerts: NDArray[Any], labels: NDArray[Any]) -> None:
    require(len(alerts) == len(labels), "alerts", f"as many rows as labels ({len(labels)})", len(alerts))
