"""Scaling per channel: its statistics, how it is fitted, and the numpy form of what the graph does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import ScalingKind
from ae_model.exceptions import FrameError, TrainingError

Vector = NDArray[np.float64]

# A wild sample must not drown the rest of its frame: 20 standard deviations say enough.
CLIP = 20.0
# A channel whose spread is below one step of float32 at its own size holds no signal.
_RESOLUTION = float(np.finfo(np.float32).eps)
_TINY = 1e-30
# Pairs of percentiles, and how far apart they are in standard deviations of a normal distribution.
# The first is the interquartile range; a channel that rests longer than that shows its spread further out.
_SPREADS = ((25, 75, 1.349), (5, 95, 3.290), (1, 99, 4.653))


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of each channel over many samples; two of them merge exactly.

    Args:
        count: (channels,) samples that are there; missing ones (NaN) count nowhere.
        mean: (channels,) float64.
        variance: (channels,) float64, of the population.
        minimum: (channels,) float64.
        maximum: (channels,) float64.
    """

    count: NDArray[Any]
    mean: Vector
    variance: Vector
    minimum: Vector
    maximum: Vector

    @classmethod
    def empty(cls, channels: int) -> Statistics:
        """The statistics of no sample, which change nothing when merged."""
        zeros = np.zeros(channels)
        return cls(zeros.astype(np.int64), zeros, zeros, np.full(channels, np.inf), np.full(channels, -np.inf))

    @classmethod
    def of(cls, frames: NDArray[Any]) -> Statistics:
        """The statistics of frames (n, length, channels)."""
        samples = frames.reshape(-1, frames.shape[-1]).astype(np.float64)
        if len(samples) == 0:
            return cls.empty(frames.shape[-1])
        present = ~np.isnan(samples)
        count = present.sum(axis=0)
        mean = np.where(present, samples, 0.0).sum(axis=0) / np.maximum(count, 1)
        variance = np.where(present, np.square(samples - mean), 0.0).sum(axis=0) / np.maximum(count, 1)
        extremes = (np.fmin.reduce(samples, initial=np.inf), np.fmax.reduce(samples, initial=-np.inf))
        return cls(count, mean, variance, *extremes)

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of samples together.

        Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for
        computing sample variances", equation 2.1.
        """
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        shift = other.mean - self.mean
        return Statistics(
            count=count,
            mean=self.mean + shift * share,
            variance=self.variance * (1 - share) + other.variance * share + shift**2 * share * (1 - share),
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
        )


@dataclass(frozen=True)
class Scaling:
    """(frames - center) / scale per channel; ``standard`` and ``robust`` then clip at +-CLIP.

    Args:
        kind: how center and scale were chosen. ``robust`` takes the median and the middle half of the
            samples, which a tenth of faults among them hardly moves. ``minmax_shared`` takes the lowest and
            the highest sample of all channels together, for channels that are one quantity, such as the
            columns of an image.
        center: (channels,) in the channels' own units.
        scale: (channels,) likewise, never 0.
    """

    kind: ScalingKind
    center: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def limit(self) -> float:
        """Largest magnitude of a scaled sample; infinite where nothing is clipped."""
        return CLIP if self.kind in ("standard", "robust") else float("inf")

    def apply(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Own units to scaled: (n, length, channels) float32.

        Raises:
            FrameError: the number of channels differs.
        """
        self._check(frames)
        center, scale = self._columns()
        scaled = (frames.astype(np.float32) - center) / scale
        clipped: NDArray[np.float32] = np.clip(scaled, -self.limit, self.limit)
        return clipped

    def invert(self, scaled: NDArray[Any]) -> NDArray[np.float32]:
        """Scaled to own units: (n, length, channels) float32.

        Raises:
            FrameError: the number of channels differs.
        """
        self._check(scaled)
        center, scale = self._columns()
        return scaled.astype(np.float32) * scale + center

    def _columns(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.array(self.center, np.float32), np.array(self.scale, np.float32)

    def _check(self, frames: NDArray[Any]) -> None:
        if frames.shape[-1] != len(self.center):
            raise FrameError(
                "frame.channels", f"frames: expected {len(self.center)} channels. Received: shape={frames.shape}."
            )


def from_percentiles(percentiles: Vector, statistics: Statistics) -> Scaling:
    """The robust scaling: median, and the spread of the innermost percentiles that differ.

    Args:
        percentiles: (channels, 101) of the same samples as the statistics.
        statistics: whose standard deviation serves a channel of which 98 % rest at one value.

    Raises:
        TrainingError: as ``from_statistics``.
    """
    plain = from_statistics("standard", **vars(statistics))
    size = np.maximum(np.abs(statistics.minimum), np.abs(statistics.maximum))
    scale = np.array(plain.scale)
    for low, high, deviations in reversed(_SPREADS):
        spread = (percentiles[:, high] - percentiles[:, low]) / deviations
        scale = np.where((spread > _RESOLUTION * size) & (spread > _TINY), spread, scale)
    return Scaling("robust", tuple(percentiles[:, 50].tolist()), tuple(scale.tolist()))


def from_statistics(
    kind: ScalingKind, count: Vector, mean: Vector, variance: Vector, minimum: Vector, maximum: Vector
) -> Scaling:
    """Choose center and scale of any kind but ``robust``; a constant channel keeps scale 1 and is only centered.

    Raises:
        TrainingError: a channel has no sample, or a statistic is not finite.
    """
    if kind == "robust":
        raise ValueError("robust scaling comes from percentiles")
    if not np.all(count) or not all(np.isfinite(each).all() for each in (mean, variance, minimum, maximum)):
        raise TrainingError(
            f"statistics: expected those of at least one finite sample per channel. Received: count={count}, "
            f"mean={mean}."
        )
    if kind == "none":
        return Scaling(kind, (0.0,) * len(mean), (1.0,) * len(mean))
    if kind == "minmax_shared":
        minimum, maximum = (np.full_like(mean, value) for value in (minimum.min(), maximum.max()))
    center, spread = (mean, np.sqrt(variance)) if kind == "standard" else (minimum, maximum - minimum)
    size = np.maximum(np.abs(minimum), np.abs(maximum))
    constant = (spread <= _RESOLUTION * size) | (spread <= _TINY)
    return Scaling(kind, tuple(center.tolist()), tuple(np.where(constant, 1.0, spread).tolist()))
