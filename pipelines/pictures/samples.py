"""Frames that a variational model made up, as a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import BLUE, INK, OCHRE, RED, new_figure, save

# A frame with as many rows and columns is drawn as an image, a smaller one as lines.
_LEAST_SIDE = 8
_IMAGES, _LINES = (8, 16), (4, 6)
# Pixels of white between two images.
_GAP = 2
_COLOURS = (BLUE, RED, OCHRE, INK)


def plot_samples(frames: NDArray[Any], path: Path, title: str) -> None:
    """Draw the first frames side by side, all on one scale per channel.

    Args:
        frames: (n, length, channels), n at least 1. Frames of many samples and channels become
            images, of many samples lines over time, and of one sample a line over the channels.
        path: PNG to write.
        title: headline.
    """
    _, length, channels = frames.shape
    if min(length, channels) >= _LEAST_SIDE:
        _plot_images(frames, path, title)
    else:
        low, high = frames.min(axis=(0, 1)), frames.max(axis=(0, 1))
        # Channels in units of their own share a panel: each from its lowest to its highest value of all.
        heights = (frames - low) / np.where(high > low, high - low, 1.0)
        lines, over = (heights, "time") if length > 1 else (heights.transpose(0, 2, 1), "the channels")
        _plot_lines(lines, path, f"{title}, over {over}")


def _plot_images(frames: NDArray[Any], path: Path, title: str) -> None:
    rows, columns = _IMAGES
    shown = frames[: rows * columns]
    low, high = float(shown.min()), float(shown.max())
    height, width = shown.shape[1:]
    rows = -(-len(shown) // columns)
    sheet = np.full((rows * (height + _GAP), columns * (width + _GAP)), high)
    for number, image in enumerate(shown):
        top, left = (height + _GAP) * (number // columns), (width + _GAP) * (number % columns)
        sheet[top : top + height, left : left + width] = image
    figure, (axes,) = new_figure(title, height=0.7 + 9.6 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    save(figure, path)


def _plot_lines(heights: NDArray[Any], path: Path, title: str) -> None:
    rows, columns = _LINES
    shown = heights[: rows * columns]  # (n, points, lines) in 0..1
    rows = -(-len(shown) // columns)
    figure, panels = new_figure(title, height=0.8 + 1.35 * rows, rows=rows, columns=columns)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, frame in zip(panels, shown, strict=False):
        for number, line in enumerate(frame.T):
            panel.plot(line, color=_COLOURS[number % len(_COLOURS)], lw=1.0)
        panel.set(ylim=(-0.05, 1.05), xticks=[], yticks=[])
    save(figure, path)
