"""What all pictures share: colours, axes and files.

Figures are made without pyplot: no global state, no display, safe in any thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ae_model.metrics.alerts import events

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BLUE, RED, GREY = "#1f2933", "#2563a8", "#c62f2f", "#9aa5b1"
GREEN = "#2a9d5c"
# Labelled events: behind a line, and as a line of their own.
AMBER, OCHRE = "#f4c95d", "#b7791f"
_DPI = 130
_LEAST_MARKER = 6
# Milliseconds since 1970 below this are no dates of a recorder but times since its start: 1973.
_FIRST_DATE_MS = 10**11
_UNITS_MS = (("days", 86_400_000.0), ("hours", 3_600_000.0), ("minutes", 60_000.0), ("s", 1000.0))


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
    from matplotlib.lines import Line2D

    place: dict[str, Any] = {"loc": "best"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 4}
    if outside:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles, labels, frameon=False, fontsize=9, **place)
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            # Dots that are small among many would be lost beside their names.
            handle.set_markersize(max(handle.get_markersize(), _LEAST_MARKER))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; folders that are not there are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def shade_events(axes: Axes, times: NDArray[Any], labels: NDArray[Any] | None) -> None:
    """Mark labelled events behind whatever is drawn over time.

    Args:
        axes: to draw on.
        times: (n,) of the axis.
        labels: (n,) non-zero within an event, or None.
    """
    for number, (start, stop) in enumerate(events(labels) if labels is not None else []):
        label = None if number else "labelled event"
        # A shade of one row would be thinner than a pixel.
        axes.axvspan(times[start], times[stop - 1], color=AMBER, alpha=0.55, lw=1.5, label=label)


def time_axis(times: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """What stands along an axis of time, and its label.

    Args:
        times: (n,) rising; int64 milliseconds since 1970, or since the start of a file without dates;
            float64 numbers of rows where nobody knows how long one takes.
    """
    if times.dtype.kind == "f":
        return times, "row"
    if times[0] >= _FIRST_DATE_MS:
        return times.astype("datetime64[ms]"), "time (UTC)"
    span = float(times[-1] - times[0])
    unit, size_ms = next((pair for pair in _UNITS_MS if span >= 2 * pair[1]), _UNITS_MS[-1])
    return times / size_ms, f"time since start ({unit})"
