"""Latent codes as a map."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import add_legend, new_figure, save

_COLOURS = (
    "#2563a8",
    "#c62f2f",
    "#2a9d5c",
    "#b7791f",
    "#7c4dbd",
    "#0e8c99",
    "#d4568c",
    "#6b7280",
    "#84a315",
    "#8c5a3c",
)
# More points than this are drawn smaller.
_MANY = 2000


def plot_code_map(
    codes: NDArray[Any],
    baseline_codes: NDArray[Any],
    labels: NDArray[Any],
    path: Path,
    title: str = "Latent codes",
) -> None:
    """Codes of a model and of its baseline on the two directions in which each varies most.

    Args:
        codes: (n, latent).
        baseline_codes: (n, latent) of the same frames.
        labels: (n,) class of each frame, ten at most; one colour each.
        path: PNG to write.
        title: headline.
    """
    figure, axes = new_figure(title, height=5.4, columns=2)
    size = 3 if len(codes) > _MANY else 7
    for panel, points, name in zip(axes, (codes, baseline_codes), ("autoencoder", "PCA baseline"), strict=True):
        flat, shares = _flatten(points)
        for colour, (label, rank) in zip(cycle(_COLOURS), _in_order(labels), strict=False):
            chosen = labels == label
            panel.plot(*flat[chosen].T, ".", ms=size, alpha=0.6, color=colour, label=str(label), zorder=2 + rank / 100)
        panel.set(
            title=name,
            xlabel=f"first direction ({shares[0]:.0%} of the variance)",
            ylabel=f"second direction ({shares[1]:.0%})",
        )
    add_legend(axes[-1], outside=True)
    save(figure, path)


def _in_order(labels: NDArray[Any]) -> list[tuple[Any, int]]:
    """The classes with their ranks: the rarer, the higher, to be drawn on top; numbers in their own order."""
    names, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    ranks = {names[place]: rank for rank, place in enumerate(order)}
    return [(name, ranks[name]) for name in (names if names.dtype.kind in "iu" else names[order])]


def _flatten(points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, latent) on their two principal directions, and each one's share of the variance."""
    centered = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    if len(sizes) < 2:
        return np.hstack([centered, np.zeros_like(centered)]), np.array([1.0, 0.0])
    return centered @ directions[:2].T, sizes[:2] ** 2 / (sizes**2).sum()
