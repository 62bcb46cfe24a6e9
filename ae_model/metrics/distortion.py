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
        mse: mean squared error, in squared scaled units.
        nrmse: root mean squared error over the spread of the data, both in scaled units: 1 is as
            bad as the mean, 0 a perfect copy. NaN for constant data.
        max_error: the largest error of any sample, in scaled units.
        bce: mean binary cross-entropy in nats; None unless all scaled samples lie in [0, 1].
        bce_floor: what a perfect copy would have; None likewise.
    """

    mse: float
    nrmse: float
    max_error: float
    bce: float | None
    bce_floor: float | None


class DistortionMeter:
    """Adds up errors block by block, in scaled units: errors of channels in different units compare there.

    Nothing is clipped: what a model that clips cannot follow counts in full.
    """

    def __init__(self, center: NDArray[Any], scale: NDArray[Any]) -> None:
        """Start with no frames.

        Args:
            center: (channels,) own units, what is 0 when scaled.
            scale: (channels,) own units in one scaled unit, such as standard deviations.
        """
        self._center, self._scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
        self._statistics = Statistics.empty(len(self._scale))
        self._squares = np.zeros(len(self._scale))  # sums, per channel
        self._max_error = 0.0
        self._cross_entropy = np.zeros(2)  # sums: of the reconstructions, and of a perfect copy

    def add(self, frames: NDArray[Any], reconstruction: NDArray[Any]) -> None:
        """Count frames (n, length, channels), in own units, and their reconstructions; NaN is a missing sample.

        Raises:
            ConfigError: the shapes differ.
        """
        require(frames.shape == reconstruction.shape, "reconstruction", f"shape {frames.shape}", reconstruction.shape)
        samples, outputs = self._scaled(frames), self._scaled(reconstruction)  # (n * length, channels)
        present = ~np.isnan(samples)
        errors = np.where(present, outputs - samples, 0.0)
        self._statistics = self._statistics.merge(Statistics.of(samples))
        self._squares += np.square(errors).sum(axis=0)
        self._max_error = max(self._max_error, float(np.abs(errors).max(initial=0.0)))
        if self._in_unit_range():
            samples, outputs = samples[present], outputs[present]
            self._cross_entropy += _cross_entropy(samples, outputs), _cross_entropy(samples, samples)

    def merge(self, other: DistortionMeter) -> DistortionMeter:
        """The meter of both sets of frames together; both in the same scaled units."""
        both = DistortionMeter(self._center, self._scale)
        both._statistics = self._statistics.merge(other._statistics)
        both._squares = self._squares + other._squares
        both._max_error = max(self._max_error, other._max_error)
        both._cross_entropy = self._cross_entropy + other._cross_entropy
        return both

    def read(self) -> Distortion:
        """The errors so far; NaN where there were no frames."""
        count = self._statistics.count  # (channels,)
        if not count.any():
            return Distortion(float("nan"), float("nan"), float("nan"), None, None)
        squares = self._squares / np.maximum(count, 1)
        spread = self._statistics.variance.sum()
        nrmse = float(np.sqrt(squares.sum() / spread)) if spread > 0 else float("nan")
        bce, floor = (self._cross_entropy / count.sum()).tolist() if self._in_unit_range() else (None, None)
        return Distortion(float(squares.mean()), nrmse, self._max_error, bce, floor)

    def _scaled(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (
            frames.reshape(-1, len(self._scale)).astype(np.float64) - self._center
        ) / self._scale
        return scaled

    def _in_unit_range(self) -> bool:
        return bool((self._statistics.minimum >= 0).all() and (self._statistics.maximum <= 1).all())


def _cross_entropy(target: NDArray[np.float64], output: NDArray[np.float64]) -> float:
    kept = np.clip(output, _EPSILON, 1 - _EPSILON)
    return float(-(target * np.log(kept) + (1 - target) * np.log1p(-kept)).sum())
