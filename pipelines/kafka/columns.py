"""Records as columns, and how several lots of them become one RawBatch with one copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.frame_batch import Headers, RawBatch

Bytes = NDArray[np.uint8]
NULL = -1


@dataclass(frozen=True, eq=False)
class Binaries:
    """n binaries that are not yet next to each other.

    Args:
        lengths: (n,) int64, -1 where there is none.
        pieces: views whose bytes, one after the other, are the binaries; (bytes,) or (rows, bytes).
    """

    lengths: NDArray[np.int64]
    pieces: tuple[Bytes, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Columns:
    """Records of one partition in offset order.

    Args:
        offsets: (n,) int64.
        timestamps: (n,) int64, milliseconds since 1970.
        keys: n of them.
        values: n of them.
        headers: one list per record, or None when no record has any.
    """

    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    keys: Binaries
    values: Binaries
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        """Number of records."""
        return len(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return self.keys.nbytes + self.values.nbytes


def join_columns(parts: Sequence[Columns]) -> Columns:
    """One after the other; views stay views."""
    if len(parts) == 1:
        return parts[0]
    headers = None
    if any(part.headers is not None for part in parts):
        headers = [row for part in parts for row in (part.headers or [[] for _ in range(len(part))])]
    return Columns(
        offsets=np.concatenate([part.offsets for part in parts]),
        timestamps=np.concatenate([part.timestamps for part in parts]),
        keys=_join_binaries([part.keys for part in parts]),
        values=_join_binaries([part.values for part in parts]),
        headers=headers,
    )


def to_raw_batch(topic: str, partition: int, columns: Columns) -> RawBatch:
    """The RawBatch of these records; keys and values are copied once."""
    return RawBatch(
        topic=topic,
        partition=partition,
        offsets=columns.offsets,
        timestamps=columns.timestamps,
        keys=to_binary_array(columns.keys),
        values=to_binary_array(columns.values),
        headers=None if columns.headers is None else tuple(columns.headers),
    )


def to_binary_array(binaries: Binaries) -> pa.BinaryArray:
    """The Arrow array of them."""
    count = len(binaries.lengths)
    null = binaries.lengths < 0
    nulls = int(np.count_nonzero(null))
    if nulls == count:
        return pa.nulls(count, pa.binary())
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(np.maximum(binaries.lengths, 0), out=offsets[1:])
    validity = pa.py_buffer(np.packbits(~null, bitorder="little")) if nulls else None
    data = pa.py_buffer(_gather(binaries.pieces, int(offsets[-1])))
    return pa.BinaryArray.from_buffers(pa.binary(), count, [validity, pa.py_buffer(offsets), data], nulls)


def from_values(values: Iterable[bytes | None]) -> Binaries:
    """Binaries of Python values."""
    items = list(values)
    lengths = np.fromiter((NULL if item is None else len(item) for item in items), np.int64, len(items))
    joined = b"".join([item for item in items if item])
    return Binaries(lengths, (np.frombuffer(joined, np.uint8),))


def _join_binaries(parts: Sequence[Binaries]) -> Binaries:
    pieces = tuple(piece for part in parts for piece in part.pieces)
    return Binaries(np.concatenate([part.lengths for part in parts]), pieces)


def _gather(pieces: Sequence[Bytes], size: int) -> Bytes:
    gathered: NDArray[Any] = np.empty(size, np.uint8)
    position = 0
    for piece in pieces:
        gathered[position : position + piece.size].reshape(piece.shape)[...] = piece
        position += piece.size
    return gathered
