"""Pictures of what a model does, as PNG files of 1200 pixels and more in width.

Figures are made without pyplot: no global state, no display, safe in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model.metrics.alerts import events

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BLUE, RED, GREY, AMBER = "#1f2933", "#2563a8", "#c62f2f", "#9aa5b1", "#f4c95d"
_DPI = 130
# Milliseconds since 1970 below this are no dates of a recorder but times since its start: 1973.
_FIRST_DATE_MS = 10**11
_UNITS_MS = (("days", 86_400_000.0), ("hours", 3_600_000.0), ("minutes", 60_000.0), ("s", 1000.0))
# A spectrogram's frame in seconds, and how far below its peak it fades to black.
_SPECTRUM_S = 0.032
_FLOOR_DB = -70.0
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
    figure, (axes,) = _figure(title, height=4.6)
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
    _legend(axes, below=True)
    _save(figure, path)


def plot_waveforms(original: NDArray[Any], decoded: NDArray[Any], rate_hz: float, path: Path, title: str = "") -> None:
    """A waveform before and after the code, and both spectrograms on one colour scale.

    Args:
        original: (n,) samples of one channel.
        decoded: (n,) the same samples from the codes alone.
        rate_hz: samples per second.
        path: PNG to write.
        title: headline.
    """
    figure, axes = _figure(title or "Waveform before and after the latent code", height=6.4, rows=2, columns=2)
    seconds = np.arange(len(original)) / rate_hz
    limit = 1.05 * max(float(np.abs(original).max()), float(np.abs(decoded).max()), 1e-9)
    spectra = [_spectrum_db(wave, rate_hz) for wave in (original, decoded)]
    peak = max(float(levels.max()) for _, _, levels in spectra)
    names = ("original", "decoded from codes")
    for row, (wave, name, colour) in enumerate(zip((original, decoded), names, (INK, BLUE), strict=True)):
        axes[2 * row].plot(seconds, wave, color=colour, lw=0.6)
        axes[2 * row].set(title=name, ylabel="amplitude", ylim=(-limit, limit), xlim=(0, seconds[-1]))
        times, frequencies, levels = spectra[row]
        image = axes[2 * row + 1].pcolormesh(
            times, frequencies / 1000, levels - peak, vmin=_FLOOR_DB, vmax=0, cmap="magma", shading="auto"
        )
        axes[2 * row + 1].set(title=name, ylabel="frequency (kHz)", xlim=(0, seconds[-1]))
        figure.colorbar(image, ax=axes[2 * row + 1], label="level (dB)")
    for bottom in axes[2:]:
        bottom.set_xlabel("time (s)")
    _save(figure, path)


def plot_history(history: Mapping[str, Sequence[float]], path: Path, title: str = "Training") -> None:
    """Loss per epoch on training and validation frames, with the epoch whose weights were kept.

    Args:
        history: ``loss`` and ``val_loss``, one number per epoch.
        path: PNG to write.
        title: headline.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(title, height=4.6)
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], "-o", color=BLUE, ms=3, lw=1.4, label="training frames")
    axes.plot(epochs, history["val_loss"], "-o", color=RED, ms=3, lw=1.4, label="validation frames")
    best = int(np.argmin(history["val_loss"]))
    axes.axvline(epochs[best], color=GREY, ls="--", lw=1.2, label=f"weights kept: epoch {epochs[best]}")
    axes.set(yscale="log", xlabel="epoch", ylabel="loss", xlim=(0.5, epochs[-1] + 0.5))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    _save(figure, path)


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
    figure, axes = _figure(title, height=5.4, columns=2)
    for panel, points, name in zip(axes, (codes, baseline_codes), ("autoencoder", "PCA baseline"), strict=True):
        flat, shares = _flatten(points)
        for number, label in enumerate(_by_frequency(labels)):
            chosen = labels == label
            panel.plot(*flat[chosen].T, ".", ms=3, alpha=0.6, color=_COLOURS[number % len(_COLOURS)], label=str(label))
        panel.set(
            title=name,
            xlabel=f"first direction ({shares[0]:.0%} of the variance)",
            ylabel=f"second direction ({shares[1]:.0%})",
        )
    _legend(axes[-1], outside=True)
    _save(figure, path)


def _by_frequency(labels: NDArray[Any]) -> list[Any]:
    """The classes, most frequent first: the rare ones are drawn on top."""
    names, counts = np.unique(labels, return_counts=True)
    return list(names[np.argsort(-counts, kind="stable")])


def _figure(title: str, *, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
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


def _legend(axes: Axes, *, below: bool = False, outside: bool = False) -> None:
    place: dict[str, Any] = {"loc": "best"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 4}
    if outside:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(frameon=False, fontsize=9, markerscale=2, **place)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _time_axis(timestamps: NDArray[np.int64]) -> tuple[NDArray[Any], str]:
    if timestamps[0] >= _FIRST_DATE_MS:
        return timestamps.astype("datetime64[ms]"), "time (UTC)"
    span = float(timestamps[-1] - timestamps[0])
    unit, size_ms = next((pair for pair in _UNITS_MS if span >= 2 * pair[1]), _UNITS_MS[-1])
    return timestamps / size_ms, f"time since start ({unit})"


def _spectrum_db(wave: NDArray[Any], rate_hz: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Middle times (s), frequencies (Hz) and levels (dB) of a short-time Fourier transform."""
    size = min(len(wave), max(16, int(rate_hz * _SPECTRUM_S)))
    hop = max(1, size // 4)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (frames, size // 2 + 1)
    times = (np.arange(len(frames)) * hop + size / 2) / rate_hz
    return times, np.fft.rfftfreq(size, 1 / rate_hz), 10 * np.log10(power.T + 1e-12)


def _flatten(points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, latent) on their two principal directions, and each one's share of the variance."""
    centered = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    if len(sizes) < 2:
        return np.hstack([centered, np.zeros_like(centered)]), np.array([1.0, 0.0])
    return centered @ directions[:2].T, sizes[:2] ** 2 / (sizes**2).sum()
