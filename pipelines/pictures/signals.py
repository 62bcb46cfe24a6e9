"""Signals before and after the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import BLUE, GREEN, GREY, INK, RED, new_figure, save, shade_events, time_axis

# A spectrogram's frame in seconds, and how far below its peak it fades to black.
_SPECTRUM_S = 0.032
_FLOOR_DB = -70.0
_WAVE_COLOURS = (INK, BLUE, GREEN, RED)
_MADE_COLOURS = (BLUE, RED)


def plot_waveforms(waves: Mapping[str, NDArray[Any]], rate_hz: float, path: Path, title: str = "Waveforms") -> None:
    """The same stretch of sound in several forms, with their spectrograms on one colour scale.

    Args:
        waves: (n,) samples of one channel by name, two to four of them: such as before and after the code.
        rate_hz: samples per second.
        path: PNG to write.
        title: headline.
    """
    figure, axes = new_figure(title, height=0.6 + 2.9 * len(waves), rows=len(waves), columns=2)
    limit = 1.05 * max([float(np.abs(wave).max()) for wave in waves.values()] + [1e-9])
    spectra = [_spectrum_db(wave, rate_hz) for wave in waves.values()]
    peak = max(float(levels.max()) for _, _, levels in spectra)
    for row, (name, wave) in enumerate(waves.items()):
        left, right = axes[2 * row : 2 * row + 2]
        seconds = np.arange(len(wave)) / rate_hz
        left.plot(seconds, wave, color=_WAVE_COLOURS[row % len(_WAVE_COLOURS)], lw=0.6)
        left.set(title=name, ylabel="amplitude", ylim=(-limit, limit), xlim=(0, seconds[-1]))
        times, frequencies, levels = spectra[row]
        image = right.pcolormesh(
            times, frequencies / 1000, levels - peak, vmin=_FLOOR_DB, vmax=0, cmap="magma", shading="auto"
        )
        right.set(title=name, ylabel="frequency (kHz)", xlim=(0, seconds[-1]))
        figure.colorbar(image, ax=right, label="level (dB)")
    for bottom in axes[-2:]:
        bottom.set_xlabel("time (s)")
    save(figure, path)


def plot_reconstruction(
    timestamps: NDArray[Any],
    seen: NDArray[Any],
    made: Mapping[str, NDArray[Any]],
    channels: Sequence[str],
    labels: NDArray[Any] | None,
    marked: int,
    path: Path,
    title: str,
) -> None:
    """Channels as they came and as they were reconstructed, one panel each.

    Args:
        timestamps: (n,) of frames, as for ``canvas.time_axis``.
        seen: (n, channels), five at most.
        made: (n, channels) by what made it.
        channels: names, with units.
        labels: (n,) non-zero within an event, or None.
        marked: the row to point at.
        path: PNG to write.
        title: headline.
    """
    figure, axes = new_figure(title, height=1.3 + 1.7 * len(channels), rows=len(channels))
    times, label = time_axis(timestamps)
    for channel, (panel, name) in enumerate(zip(axes, channels, strict=True)):
        shade_events(panel, times, labels)
        panel.axvline(times[marked], color=GREY, lw=1.2, ls=":", label="strangest frame")
        panel.plot(times, seen[:, channel], color=INK, lw=1.1, label="seen")
        for (source, values), colour in zip(made.items(), _MADE_COLOURS, strict=False):
            panel.plot(times, values[:, channel], color=colour, lw=1.1, label=source)
        panel.set(xlim=(times[0], times[-1]))
        panel.set_title(name, fontsize=10, loc="left")
        panel.label_outer()
    axes[-1].set_xlabel(label)
    # Of the figure: a small panel has no room for the distance that suits a large one.
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    save(figure, path)


def _spectrum_db(wave: NDArray[Any], rate_hz: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Middle times (s), frequencies (Hz) and levels (dB) of a short-time Fourier transform."""
    size = min(len(wave), max(16, int(rate_hz * _SPECTRUM_S)))
    hop = max(1, size // 4)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (frames, size // 2 + 1)
    times = (np.arange(len(frames)) * hop + size / 2) / rate_hz
    return times, np.fft.rfftfreq(size, 1 / rate_hz), 10 * np.log10(power.T + 1e-12)
