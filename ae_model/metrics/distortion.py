"""How far reconstructions are from what they reconstruct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.scaling import Statistics

# Keras keeps outputs this far from 0 and 1, where the logarithm has no end.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Distortion:
    """Errors over all samples of all frames.

    Args:
        mse: mean squared error, in squared own units.
        nrmse: root mean squared error over the spread of the data, both in units of ``scale``:
            1 is as bad as the mean, 0 a perfect copy. NaN for constant data.
        max_error: the largest error of any sample, in units of ``scale``.
        bce: mean binary cross-entropy in nats; None unless all samples lie in [0, 1].
        bce_floor: what a perfect copy would have; None likewise.
    """

    mse: float
    nrmse: float
    max_error: float
    bce: float | None
    bce_floor: float | None


class DistortionMeter:
    """Adds up errors block by block."""

    def __init__(self, scale: NDArray[Any]) -> None:
        """Start with no frames.

        Args:
            scale: (channels,) own units in which the channels' errors compare, such as standard deviations.
        """
        self._scale = np.asarray(scale, np.float64)
        self._statistics = Statistics.empty(len(self._scale))
        self._squares = np.zeros(len(self._scale))  # sums, per channel
        self._max_error = 0.0
        self._cross_entropy = np.zeros(2)  # sums: of the reconstructions, and of a perfect copy

    def add(self, frames: NDArray[Any], reconstruction: NDArray[Any]) -> None:
        """Count frames (n, length, channels), in own units and finite, and their reconstructions.

        Raises:
            ConfigError: the shapes differ.
        """
        require(frames.shape == reconstruction.shape, "reconstruction", f"shape {frames.shape}", reconstruction.shape)
        samples = frames.reshape(-1, frames.shape[-1]).astype(np.float64)  # (n * length, channels)
        errors = reconstruction.reshape(samples.shape).astype(np.float64) - samples
        self._statistics = self._statistics.merge(Statistics.of(samples))
        self._squares += np.square(errors).sum(axis=0)
        self._max_error = max(self._max_error, float(np.abs(errors / self._scale).max(initial=0.0)))
        if self._in_unit_range():
            self._cross_entropy += _cross_entropy(samples, samples + errors), _cross_entropy(samples, samples)

    def read(self) -> Distortion:
        """The errors so far; NaN where there were no frames."""
        count, channels = self._statistics.count, len(self._scale)
        if count == 0:
            return Distortion(float("nan"), float("nan"), float("nan"), None, None)
        squares = self._squares / count  # (channels,)
        spread = np.sum(self._statistics.variance / np.square(self._scale))
        nrmse = float(np.sqrt(np.sum(squares / np.square(self._scale)) / spread)) if spread > 0 else float("nan")
        bce, floor = (self._cross_entropy / (count * channels)).tolist() if self._in_unit_range() else (None, None)
        return Distortion(float(squares.mean()), nrmse, self._max_error, bce, floor)

    def _in_unit_range(self) -> bool:
        return bool((self._statistics.minimum >= 0).all() and (self._statistics.maximum <= 1).all())


def _cross_entropy(target: NDArray[np.float64], output: NDArray[np.float64]) -> float:
    kept = np.clip(output, _EPSILON, 1 - _EPSILON)
    return float(-(target * np.log(kept) + (1 - target) * np.log1p(-kept)).sum())
