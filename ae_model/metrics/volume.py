"""The volume under the surface (VUS): areas under curves that forgive being a little early or late.

Every event is widened by a slope on both sides, by all widths from 0 to ``window``; the volume
is the mean of the areas over the widths.

labels          0 0 0 0 0 1 1 1 0 0 0 0 0
width 4         0 0 0 b a 1 1 1 a b 0 0 0       a = sqrt(1 - 1/4), b = sqrt(1 - 2/4)

Source: Paparrizos et al. 2022, "Volume Under the Surface: A New Accuracy Evaluation Measure for
Time-Series Anomaly Detection", section 3, in the form that the TSB-AD benchmark computes
(Liu and Paparrizos 2024, ``RangeAUC_volume_opt``): 250 thresholds, recall times the share of
events that were touched, and a positive class that grows by half of the slope that is alerted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.metrics.alerts import events

Vector = NDArray[np.float64]

_THRESHOLDS = 250
# The rule of the benchmark for the window: the strongest period among these lags, else 125.
_ROWS_LOOKED_AT = 20_000
_LAGS = 400
_SHORTEST_LAG = 3
_LONGEST_PERIOD = 300
_NO_PERIOD = 125


def volumes(ranks: NDArray[Any], labels: NDArray[np.bool_], window: int) -> tuple[float, float]:
    """VUS-ROC and VUS-PR; NaN where all rows are labelled alike.

    Args:
        ranks: (n,) finite, higher is stranger; only their order counts.
        labels: (n,) True within an event.
        window: the largest width in rows, half of it on each side of an event; 0 widens nothing.

    Raises:
        ConfigError: the window is negative.
    """
    require(window >= 0, "window", "0 or more rows", window)
    if labels.all() or not labels.any():
        return float("nan"), float("nan")
    descending = np.sort(ranks)[::-1]
    thresholds = descending[np.linspace(0, len(ranks) - 1, _THRESHOLDS).astype(int)]
    # A row alerts from this threshold on, as they fall.
    first = np.searchsorted(-thresholds, -ranks, side="left")  # (n,) 0.._THRESHOLDS - 1
    areas = np.array([_areas(first, labels, width) for width in range(window + 1)])  # (window + 1, 2)
    roc, pr = areas.mean(axis=0)
    return float(roc), float(pr)


def find_window(signal: NDArray[Any]) -> int:
    """The width in rows that the benchmark takes for a signal: the strongest period of its autocorrelation.

    Args:
        signal: (n,) finite; the benchmark gives the first channel.

    Returns:
        6 to 303, or 125 where there is no such period.
    """
    correlation = _autocorrelation(np.asarray(signal[:_ROWS_LOOKED_AT], np.float64))[_SHORTEST_LAG:]
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:]))
    if len(peaks) == 0:
        return _NO_PERIOD
    strongest = int(peaks[np.argmax(correlation[peaks])])
    return strongest + _SHORTEST_LAG if 3 <= strongest <= _LONGEST_PERIOD else _NO_PERIOD


def _autocorrelation(signal: Vector) -> Vector:
    """(lags,) at lags 0 to _LAGS or as many as there are; NaN for a constant signal."""
    if len(signal) == 0:
        return signal
    spectrum = np.fft.rfft(signal - signal.mean(), 2 * len(signal))
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[: min(len(signal), _LAGS + 1)]
    with np.errstate(invalid="ignore"):
        correlation: Vector = covariance / covariance[0]
    return correlation


def _areas(first: NDArray[np.int64], labels: NDArray[np.bool_], width: int) -> tuple[float, float]:
    """Areas under the ROC and the precision-recall curve for events widened by ``width`` rows."""
    slope, zones = _widen(labels, width)
    alerts = _cumulate(first)
    inside = _cumulate(first[labels])
    # Rows on a slope count for as much as they are weighted, and only once they alert.
    beside = _cumulate(first, slope)
    touched = _cumulate(np.array([first[start:stop].min() for start, stop in zones])) / len(zones)
    hits = inside + beside
    positives = np.count_nonzero(labels) + beside / 2
    recall = np.minimum(hits / positives, 1) * touched
    fall_out = (alerts - hits) / (len(labels) - positives)
    precision = hits / alerts
    ends = np.concatenate([[0.0], recall, [1.0]]), np.concatenate([[0.0], fall_out, [1.0]])
    roc = np.diff(ends[1]) @ (ends[0][1:] + ends[0][:-1]) / 2
    return float(roc), float(np.diff(recall, prepend=0.0) @ precision)


def _widen(labels: NDArray[np.bool_], width: int) -> tuple[Vector, list[tuple[int, int]]]:
    """Weights (n,) of the rows beside events, 0 within them; and the zones that widened events make."""
    reach = width // 2
    slope = np.zeros(len(labels))
    weights = np.sqrt(1 - np.arange(1, reach + 1) / max(width, 1))  # (reach,) nearest row first
    zones: list[tuple[int, int]] = []
    for start, stop in events(labels):
        before, after = weights[:start], weights[: len(labels) - stop]
        slope[start - len(before) : start] += before[::-1]
        slope[stop : stop + len(after)] += after
        zone = max(start - reach, 0), min(stop + reach, len(labels))
        # Zones that share a row or more are one; those that only meet are two.
        if zones and zone[0] < zones[-1][1]:
            zone = zones.pop()[0], zone[1]
        zones.append(zone)
    return np.where(labels, 0.0, np.minimum(slope, 1.0)), zones


def _cumulate(first: NDArray[np.int64], weights: Vector | None = None) -> Vector:
    """(_THRESHOLDS,) how much alerts at each threshold."""
    counts: Vector = np.bincount(first, weights, minlength=_THRESHOLDS).cumsum().astype(np.float64)
    return counts
