"""Numbers of a model beside those of what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.pictures.canvas import AMBER, BLUE, GREY, INK, RED, add_legend, new_figure, save

# So many letters of names fit beside each other.
_FLAT_LETTERS = 90
_BAR_COLOURS = (BLUE, GREY, AMBER, RED)


def plot_entities(
    names: Sequence[str],
    values: Mapping[str, Sequence[float]],
    path: Path,
    title: str,
    label: str,
) -> None:
    """One number of every entity, a bar for each that is compared, and their means as lines.

    Args:
        names: of the entities.
        values: by what is compared, one number per entity; NaN where it is not known.
        path: PNG to write.
        title: headline.
        label: of the numbers' axis.
    """
    figure, (axes,) = new_figure(title, height=4.6)
    width = 0.8 / max(len(values), 1)
    places = np.arange(len(names))
    for number, (name, heights) in enumerate(values.items()):
        colour = _BAR_COLOURS[number % len(_BAR_COLOURS)]
        known = [height for height in heights if not np.isnan(height)]
        mean = sum(known) / len(known) if known else float("nan")
        shift = (number - (len(values) - 1) / 2) * width
        axes.bar(places + shift, heights, width * 0.92, color=colour, label=f"{name} (mean {mean:.3f})")
        axes.axhline(mean, color=colour, lw=1.2, ls=":")
    axes.axhline(0, color=INK, lw=0.8)
    tilted = sum(map(len, names)) > _FLAT_LETTERS
    axes.set_xticks(places, names, rotation=35 if tilted else 0, ha="right" if tilted else "center")
    axes.set(ylabel=label, xlim=(-0.6, len(names) - 0.4))
    axes.grid(visible=False, axis="x")
    add_legend(axes, outside=True)
    save(figure, path)


def plot_rates(
    points: Mapping[str, tuple[float, float]],
    curve: tuple[Sequence[float], Sequence[float]],
    lossless_bytes: float,
    path: Path,
    title: str = "What a code costs and what is lost",
) -> None:
    """Bytes a frame against the error: codes as points, rounding without a model as a curve.

    Args:
        points: by name, bytes a frame and NRMSE, both more than 0.
        curve: bytes a frame and NRMSE of samples that are rounded more and more coarsely.
        lossless_bytes: bytes a frame at which nothing is lost.
        path: PNG to write.
        title: headline.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axes,) = new_figure(title, height=4.6)
    axes.plot(*curve, "-", color=GREY, lw=1.6, label="rounded, then packed: no model")
    axes.axvline(lossless_bytes, color=INK, lw=1.2, ls="--", label=f"lossless: {lossless_bytes:,.1f} bytes")
    for (name, (size, error)), colour, marker in zip(points.items(), (BLUE, RED), "os", strict=False):
        axes.plot([size], [error], marker, color=colour, ms=7, label=f"{name}: {size:,.1f} bytes, NRMSE {error:.3g}")
    axes.set(xscale="log", yscale="log", xlabel="bytes a frame", ylabel="NRMSE (error over spread)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    add_legend(axes, outside=True)
    save(figure, path)
