"""What all pictures share: colours, axes and files.

Figures are made without pyplot: no global state, no display, safe in any thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BLUE, RED, GREY = "#1f2933", "#2563a8", "#c62f2f", "#9aa5b1"
# Labelled events: behind a line, and as a line of their own.
AMBER, OCHRE = "#f4c95d", "#b7791f"
_DPI = 130


def new_figure(title: str, *, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure ten inches wide with its panels, row by row.

    Args:
        title: headline.
        height: of the whole, in inches.
        rows: of panels.
        columns: of panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, height), dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(title, color=INK, fontsize=13, fontweight="bold", x=0.01, ha="left")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in axes:
        panel.grid(color="#e4e7eb", lw=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(which="both", colors=INK, labelsize=9)
    return figure, axes


def add_legend(axes: Axes, *, below: bool = False, outside: bool = False) -> None:
    """A legend where it hides nothing: by default in the emptiest place within the axes.

    Args:
        axes: whose lines to name.
        below: under the axes, in one line.
        outside: to the right of the axes.
    """
    place: dict[str, Any] = {"loc": "best"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 4}
    if outside:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(frameon=False, fontsize=9, markerscale=2, **place)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; folders that are not there are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
