"""Signals before and after the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures.canvas import BLUE, INK, new_figure, save

# A spectrogram's frame in seconds, and how far below its peak it fades to black.
_SPECTRUM_S = 0.032
_FLOOR_DB = -70.0


def plot_waveforms(original: NDArray[Any], decoded: NDArray[Any], rate_hz: float, path: Path, title: str = "") -> None:
    """A waveform before and after the code, and both spectrograms on one colour scale.

    Args:
        original: (n,) samples of one channel.
        decoded: (n,) the same samples from the codes alone.
        rate_hz: samples per second.
        path: PNG to write.
        title: headline.
    """
    figure, axes = new_figure(title or "Waveform before and after the latent code", height=6.4, rows=2, columns=2)
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
    save(figure, path)


def _spectrum_db(wave: NDArray[Any], rate_hz: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Middle times (s), frequencies (Hz) and levels (dB) of a short-time Fourier transform."""
    size = min(len(wave), max(16, int(rate_hz * _SPECTRUM_S)))
    hop = max(1, size // 4)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (frames, size // 2 + 1)
    times = (np.arange(len(frames)) * hop + size / 2) / rate_hz
    return times, np.fft.rfftfreq(size, 1 / rate_hz), 10 * np.log10(power.T + 1e-12)
