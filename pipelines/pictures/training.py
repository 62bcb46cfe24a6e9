"""How training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.pictures.canvas import BLUE, GREY, RED, add_legend, new_figure, save


def plot_history(history: Mapping[str, Sequence[float]], path: Path, title: str = "Training") -> None:
    """Loss per epoch on training and validation frames, with the epoch whose weights were kept.

    Args:
        history: ``loss`` and ``val_loss``, one number per epoch.
        path: PNG to write.
        title: headline.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(title, height=4.6)
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], "-o", color=BLUE, ms=3, lw=1.4, label="training frames")
    axes.plot(epochs, history["val_loss"], "-o", color=RED, ms=3, lw=1.4, label="validation frames")
    best = int(np.argmin(history["val_loss"]))
    axes.axvline(epochs[best], color=GREY, ls="--", lw=1.2, label=f"weights kept: epoch {epochs[best]}")
    axes.set(yscale="log", xlabel="epoch", ylabel="loss", xlim=(0.5, epochs[-1] + 0.5))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    save(figure, path)
