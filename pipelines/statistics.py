"""Statistics per channel as Beam combiners; workers merge them in any order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tfx_bsl import sketches

from ae_model.scaling import Statistics

# A quantile is off by at most this share of the samples.
RANK_ERROR = 0.01
# The sketch's room grows with the logarithm of this: 4 MiB for 38 channels.
_MOST_SAMPLES = 1 << 32
# Percentiles: 0 (minimum), 1, ..., 100 (maximum).
_QUANTILES = 100


@dataclass(frozen=True, eq=False)
class Profile:
    """What is known of each channel of many frames.

    Args:
        statistics: exact.
        percentiles: (channels, 101) float64, each within RANK_ERROR of its rank; NaN where a channel has no
            sample, and None where nobody asked.
    """

    statistics: Statistics
    percentiles: NDArray[np.float64] | None = None


def find_percentiles(batches: Iterable[NDArray[np.float32]], channels: int) -> NDArray[np.float64]:
    """Percentiles (channels, 101) of frames, (n, length, channels) at a time, in one pass and bounded memory."""
    combine = CombinePercentiles(channels)
    sketch = combine.create_accumulator()
    for frames in batches:
        sketch = combine.add_input(sketch, frames)
    return combine.extract_output(sketch)


class CombineStatistics(beam.CombineFn):  # type: ignore[misc]
    """Frames (n, length, channels) to Statistics, exact to rounding however they are merged."""

    def __init__(self, channels: int) -> None:
        """Keep the number of channels, which the statistics of no frame need too."""
        self._channels = channels

    def create_accumulator(self) -> Statistics:
        """The statistics of no frame."""
        return Statistics.empty(self._channels)

    def add_input(self, accumulator: Statistics, frames: NDArray[np.float32]) -> Statistics:
        """Count frames in."""
        return accumulator.merge(Statistics.of(frames))

    def merge_accumulators(self, accumulators: Iterable[Statistics]) -> Statistics:
        """The statistics of all of them together."""
        merged = self.create_accumulator()
        for statistics in accumulators:
            merged = merged.merge(statistics)
        return merged

    def extract_output(self, accumulator: Statistics) -> Statistics:
        """As they are."""
        return accumulator


class CombinePercentiles(beam.CombineFn):  # type: ignore[misc]
    """Frames (n, length, channels) to percentiles (channels, 101), in bounded memory."""

    def __init__(self, channels: int) -> None:
        """Keep the number of channels: one sketch holds them all."""
        self._channels = channels

    def create_accumulator(self) -> Any:
        """An empty sketch."""
        return sketches.QuantilesSketch(RANK_ERROR, _MOST_SAMPLES, self._channels)

    def add_input(self, accumulator: Any, frames: NDArray[np.float32]) -> Any:
        """Count frames in."""
        # Channel varies fastest, as the sketch wants its streams.
        accumulator.AddValues(pa.array(frames.reshape(-1)))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        """One sketch of all of them."""
        merged = self.create_accumulator()
        for sketch in accumulators:
            merged.Merge(sketch)
        return merged

    def compact(self, accumulator: Any) -> Any:
        """Drop what the error allows, before the sketch travels."""
        accumulator.Compact()
        return accumulator

    def extract_output(self, accumulator: Any) -> NDArray[np.float64]:
        """The percentiles of each channel that has any sample; missing ones count nowhere."""
        lists = accumulator.GetQuantiles(_QUANTILES)
        percentiles: NDArray[np.float64] = lists.flatten().to_numpy().reshape(-1, _QUANTILES + 1)
        return percentiles


class CombineProfile(beam.combiners.SingleInputTupleCombineFn):  # type: ignore[misc]
    """Frames (n, length, channels) to their Profile.

    Args:
        channels: how many.
        percentiles: whether to find them too; a sketch of 38 channels holds 3 MiB, as long as frames may come.
    """

    def __init__(self, channels: int, *, percentiles: bool = True) -> None:
        """One pass feeds all combiners."""
        super().__init__(CombineStatistics(channels), *([CombinePercentiles(channels)] if percentiles else []))

    def extract_output(self, accumulator: Any) -> Profile:
        """The results under their names."""
        statistics, *found = super().extract_output(accumulator)
        if not found:
            return Profile(statistics)
        percentiles = np.full((len(statistics.count), _QUANTILES + 1), np.nan)
        percentiles[statistics.count > 0] = found[0]
        return Profile(statistics, percentiles)
