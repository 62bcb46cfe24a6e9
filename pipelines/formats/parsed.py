"""What every format gives back, and what the formats that go record by record share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.exceptions import FrameError, RecordError
from pipelines.frame_batch import RawBatch


class Parsed(NamedTuple):
    """The outcome of parsing n records.

    Args:
        good: (n,) True where the record holds a frame.
        records: the good ones.
        frames: (len(records), length, channels) float32; not yet known to be finite.
        faults: the reason for each of the others, in order.
    """

    good: NDArray[np.bool_]
    records: RawBatch
    frames: NDArray[np.float32]
    faults: list[RecordError]


class Parser(Protocol):
    """One format."""

    def __call__(self, raw: RawBatch) -> Parsed:
        """Parse records whose values are neither null nor empty."""


def parse_each(raw: RawBatch, parse: Callable[[bytes], NDArray[np.float32]], shape: tuple[int, int]) -> Parsed:
    """Parse record by record, for formats whose records differ in size.

    Args:
        raw: the records.
        parse: from a value to (length, channels) float32; raises RecordError.
        shape: (length, channels).
    """
    outcomes: list[NDArray[np.float32] | RecordError] = []
    for value in raw.values.to_pylist():
        try:
            outcomes.append(parse(value))
        except RecordError as exc:
            outcomes.append(exc)
    return collect(raw, outcomes, shape)


def collect(raw: RawBatch, outcomes: list[NDArray[np.float32] | RecordError], shape: tuple[int, int]) -> Parsed:
    """Stack the frames and set the faults apart; one outcome per record, in order."""
    frames = [outcome for outcome in outcomes if not isinstance(outcome, RecordError)]
    good = np.array([not isinstance(outcome, RecordError) for outcome in outcomes], dtype=np.bool_)
    return Parsed(
        good=good,
        records=keep(raw, good),
        frames=np.stack(frames) if frames else np.empty((0, *shape), np.float32),
        faults=[outcome for outcome in outcomes if isinstance(outcome, RecordError)],
    )


def keep(raw: RawBatch, good: NDArray[np.bool_]) -> RawBatch:
    """The records where the mask (n,) is True; the batch itself when that is all of them."""
    return raw if good.all() else raw.take(good)


def value_bytes(values: pa.BinaryArray) -> NDArray[np.int64]:
    """(n,) bytes in each value; 0 for a null."""
    starts = value_starts(values)
    sizes = np.diff(starts).astype(np.int64)
    if values.null_count:
        sizes[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return sizes


def value_starts(values: pa.BinaryArray) -> NDArray[np.int32]:
    """(n + 1,) where each value starts in the data buffer; the last entry is where the last one ends."""
    buffer = values.buffers()[1]
    if len(values) == 0 or buffer is None:
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, count=len(values) + 1, offset=4 * values.offset)


def size_error(samples: int, shape: tuple[int, int]) -> FrameError:
    """The fault of a frame with the wrong number of samples."""
    length, channels = shape
    # With one sample per frame, the number of values is the number of channels and nothing else.
    code = "frame.channels" if length == 1 else "frame.size"
    return FrameError(
        code,
        f"frame: expected {length * channels} values ({length} samples x {channels} channels). Received: {samples}.",
    )


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Float32; a number too large for it becomes infinite, which the check for usable frames refuses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32, copy=False)
