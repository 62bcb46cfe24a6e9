"""Bare samples, little-endian, sample by sample and in each sample channel by channel.

When all values of a batch have the right size they lie end to end in Arrow's data
buffer, and that buffer *is* the frames: no copy, no loop.

    offsets   0      4k     8k     12k
    data      [frame 0][frame 1][frame 2]   ->   (3, length, channels)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.exceptions import FrameError
from pipelines.formats.parsed import Parsed, as_float32, keep, value_bytes, value_starts
from pipelines.frame_batch import RawBatch

DTYPES = {"float32": "<f4", "float64": "<f8", "int16": "<i2", "int32": "<i4", "uint8": "u1"}
# Full scale of 16-bit PCM: samples become -1 to 1.
PCM16_SCALE = 1.0 / 32768.0


@dataclass(frozen=True)
class RawParser:
    """Fixed-size frames of one dtype.

    Args:
        dtype: one of DTYPES.
        shape: (length, channels).
        scale: factor on the samples, or None for 1.
    """

    dtype: str
    shape: tuple[int, int]
    scale: float | None = None

    def __call__(self, raw: RawBatch) -> Parsed:
        """Parse a batch without a loop over its good records."""
        dtype = np.dtype(DTYPES[self.dtype])
        frame_bytes = dtype.itemsize * self.shape[0] * self.shape[1]
        sizes = value_bytes(raw.values)
        good = sizes == frame_bytes
        records = keep(raw, good)
        frames = as_float32(_view(records.values, dtype).reshape(-1, *self.shape))
        if self.scale is not None:
            frames = frames * np.float32(self.scale)
        return Parsed(good, records, frames, [self._fault(int(size), dtype) for size in sizes[~good]])

    def _fault(self, size: int, dtype: np.dtype[Any]) -> FrameError:
        length, channels = self.shape
        # With one sample per frame, the number of values is the number of channels and nothing else.
        code = "frame.channels" if length == 1 and size % dtype.itemsize == 0 else "frame.size"
        return FrameError(
            code,
            f"frame: expected {dtype.itemsize * length * channels} bytes "
            f"({length} samples x {channels} channels of {self.dtype}). Received: {size} bytes.",
        )


def _view(values: pa.BinaryArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """All values, which have one size and no nulls, as one flat array."""
    if len(values) == 0:
        return np.empty(0, dtype)
    starts = value_starts(values)
    count = int(starts[-1] - starts[0]) // dtype.itemsize
    samples = np.frombuffer(values.buffers()[2], dtype, count=count, offset=int(starts[0]))
    # A view of a message may start anywhere; unaligned floats are slow to read and some kernels refuse them.
    return np.require(samples, requirements="A")
