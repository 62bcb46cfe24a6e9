"""Scores of frames: over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.metrics.alerts import events
from pipelines.pictures.canvas import AMBER, BLUE, INK, RED, add_legend, new_figure, save

# Milliseconds since 1970 below this are no dates of a recorder but times since its start: 1973.
_FIRST_DATE_MS = 10**11
_UNITS_MS = (("days", 86_400_000.0), ("hours", 3_600_000.0), ("minutes", 60_000.0), ("s", 1000.0))


def plot_scores(
    timestamps: NDArray[np.int64],
    scores: NDArray[Any],
    threshold: float,
    labels: NDArray[Any] | None,
    path: Path,
    title: str,
) -> None:
    """Reconstruction error over time, with the threshold, the alerts and the labelled events.

    Args:
        timestamps: (n,) milliseconds since 1970, or since the start of a file without dates; rising.
        scores: (n,); shown on a logarithmic axis.
        threshold: scores at or above it are marked as alerts.
        labels: (n,) non-zero within an event, or None.
        path: PNG to write.
        title: headline.
    """
    figure, (axes,) = new_figure(title, height=4.6)
    times, label = _time_axis(timestamps)
    lowest = max(float(scores[scores > 0].min(initial=threshold)), threshold * 1e-6)
    shown = np.maximum(scores, lowest)
    alerting = ~(scores < threshold)
    for number, (start, stop) in enumerate(events(labels) if labels is not None else []):
        # A shade of one row would be thinner than a pixel.
        axes.axvspan(
            times[start], times[stop - 1], color=AMBER, alpha=0.55, lw=1.5, label=None if number else "labelled event"
        )
    axes.plot(times, shown, color=BLUE, lw=0.7, label="reconstruction error", zorder=2)
    axes.plot(times[alerting], shown[alerting], ".", color=RED, ms=2.5, label=f"alert ({alerting.sum()})", zorder=3)
    axes.axhline(threshold, color=INK, lw=1.2, ls="--", label=f"threshold {threshold:.3g}", zorder=2.5)
    axes.set(yscale="log", xlabel=label, ylabel="error (squared scaled units)", xlim=(times[0], times[-1]))
    add_legend(axes, below=True)
    save(figure, path)


def _time_axis(timestamps: NDArray[np.int64]) -> tuple[NDArray[Any], str]:
    if timestamps[0] >= _FIRST_DATE_MS:
        return timestamps.astype("datetime64[ms]"), "time (UTC)"
    span = float(timestamps[-1] - timestamps[0])
    unit, size_ms = next((pair for pair in _UNITS_MS if span >= 2 * pair[1]), _UNITS_MS[-1])
    return timestamps / size_ms, f"time since start ({unit})"
