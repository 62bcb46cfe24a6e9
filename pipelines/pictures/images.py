"""Frames that are images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import new_figure, save

# Pixels of white between two images, in those of an image.
_GAP = 2


def plot_images(rows: Mapping[str, NDArray[Any]], path: Path, title: str) -> None:
    """Images side by side, one row for each name: such as originals, and their reconstructions below.

    Args:
        rows: (n, height, width) by name, 0 is black and 1 white; values beyond are clipped.
        path: PNG to write.
        title: headline.
    """
    count, height, width = next(iter(rows.values())).shape
    scale = 9.0 / (count * (width + _GAP))
    figure, axes = new_figure(title, height=0.7 + len(rows) * (0.3 + scale * height), rows=len(rows))
    for panel, (name, images) in zip(axes, rows.items(), strict=True):
        strip = np.ones((height, count * (width + _GAP) - _GAP))
        for number, image in enumerate(np.clip(images, 0, 1)):
            start = number * (width + _GAP)
            strip[:, start : start + width] = image
        panel.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(name, fontsize=10, loc="left")
        panel.set_axis_off()
    save(figure, path)
