"""Scores of frames: over time, and how often each comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import (
    AMBER,
    BLUE,
    INK,
    OCHRE,
    RED,
    add_legend,
    new_figure,
    save,
    shade_events,
    time_axis,
)

_GROUP_STYLES: tuple[dict[str, Any], ...] = (
    {"fill": True, "alpha": 0.6, "color": BLUE},
    {"lw": 1.8, "color": OCHRE},
)


def plot_scores(
    timestamps: NDArray[Any],
    scores: NDArray[Any],
    threshold: float,
    labels: NDArray[Any] | None,
    path: Path,
    title: str,
    unit: str = "squared scaled units",
) -> None:
    """The score over time, with the threshold, the alerts and the labelled events.

    Args:
        timestamps: (n,) of frames, as for ``canvas.time_axis``.
        scores: (n,); shown on a logarithmic axis.
        threshold: scores at or above it are marked as alerts.
        labels: (n,) non-zero within an event, or None.
        path: PNG to write.
        title: headline.
        unit: of the scores.
    """
    figure, (axes,) = new_figure(title, height=4.6)
    times, label = time_axis(timestamps)
    shown = np.maximum(scores, _lowest(scores, threshold))
    alerting = ~(scores < threshold)
    shade_events(axes, times, labels)
    axes.plot(times, shown, color=BLUE, lw=0.7, label="score", zorder=2)
    axes.plot(times[alerting], shown[alerting], ".", color=RED, ms=2.5, label=f"alert ({alerting.sum():,})", zorder=3)
    axes.axhline(threshold, color=INK, lw=1.2, ls="--", label=f"threshold {threshold:.3g}", zorder=2.5)
    axes.set(yscale="log", xlabel=label, ylabel=f"score ({unit})", xlim=(times[0], times[-1]))
    add_legend(axes, below=True)
    save(figure, path)


def plot_error_histogram(
    scores: NDArray[Any],
    threshold: float,
    path: Path,
    tail: tuple[NDArray[Any], NDArray[Any]] | None = None,
    labels: NDArray[Any] | None = None,
    title: str = "Scores and threshold",
    unit: str = "squared scaled units",
    interval: tuple[float, float] | None = None,
) -> None:
    """How often each score comes, on logarithmic axes, with the threshold.

    Args:
        scores: (n,); those that are not finite are counted in the legend alone.
        threshold: scores at or above it alert.
        path: PNG to write.
        tail: (m,) rising scores and (m,) the density that a fit gives them, per unit of score.
        labels: (n,) non-zero within an event, to show those frames apart; or None.
        title: headline.
        unit: of the scores.
        interval: within which the threshold is known, or None.
    """
    figure, (axes,) = new_figure(title, height=4.6)
    labelled = np.zeros(len(scores), bool) if labels is None else labels != 0
    known = np.isfinite(scores)
    lowest = _lowest(scores[known], threshold)
    edges = _edges(scores[known], lowest, threshold)
    groups = ((~labelled, "frames" if labels is None else "unlabelled frames"), (labelled, "labelled frames"))
    for (chosen, name), style in zip(groups, _GROUP_STYLES, strict=True):
        shown = np.maximum(scores[chosen & known], lowest)
        if len(shown):
            share = float(np.mean(~(scores[chosen] < threshold)))
            heights, _ = np.histogram(shown, edges, density=True)
            axes.stairs(heights, edges, label=f"{name} ({chosen.sum():,}), {_percent(share)} alert", **style)
    if tail is not None:
        axes.plot(*tail, color=RED, lw=1.6, label="fitted tail")
    axes.axvline(threshold, color=INK, lw=1.2, ls="--", label=f"threshold {threshold:.3g}")
    if interval is not None:
        axes.axvspan(*interval, color=AMBER, alpha=0.45, lw=0, label="nine in ten calibrations", zorder=0)
    if not known.all():
        axes.plot([], [], " ", label=f"not finite: {(~known).sum():,}")
    axes.set(xscale="log", yscale="log" if known.any() else "linear", xlim=(edges[0], edges[-1]))
    axes.set(xlabel=f"score ({unit})", ylabel="density (share of frames per unit of score)")
    add_legend(axes, below=True)
    save(figure, path)


def _percent(share: float) -> str:
    return "none" if share == 0 else f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _lowest(scores: NDArray[Any], threshold: float) -> float:
    """What a score of 0 is drawn as on a logarithmic axis."""
    return max(float(scores[scores > 0].min(initial=threshold)), threshold * 1e-6)


def _edges(scores: NDArray[Any], lowest: float, threshold: float) -> NDArray[np.float64]:
    """Edges of bins of equal width on a logarithmic axis that holds all scores and the threshold."""
    highest = max(float(scores.max(initial=threshold)), threshold)
    edges: NDArray[np.float64] = np.geomspace(lowest * 0.9, highest * 1.1, 81)
    return edges
