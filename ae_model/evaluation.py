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

_SECONDS_PER_DAY = 86400.0


def events(labels: NDArray[Any]) -> list[tuple[int, int]]:
    """The runs of non-zero rows as (start, stop), stop exclusive.

    Args:
        labels: (n,) 0 or 1 per row.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (labels != 0).astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


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
    alerts: NDArray[Any], labels: NDArray[Any], rate_hz: float, gap_minutes: float = 10.0
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
    episodes = _merge(events(alerts), gap_minutes * 60.0 * rate_hz)
    false = sum(not np.any(labels[start:stop]) for start, stop in episodes)
    return false / (len(labels) / rate_hz / _SECONDS_PER_DAY)


def _merge(runs: list[tuple[int, int]], gap_rows: float) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in runs:
        # From the last row of one run to the first of the next.
        if merged and start - (merged[-1][1] - 1) < gap_rows:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _check_rows(alerts: NDArray[Any], labels: NDArray[Any]) -> None:
    require(len(alerts) == len(labels), "alerts", f"as many rows as labels ({len(labels)})", len(alerts))
