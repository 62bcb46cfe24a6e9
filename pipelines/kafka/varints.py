"""Zigzag varints, in which a record batch keeps every number of its records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.kafka.columns import Bytes

_MAX_BYTES = 10


class CorruptError(Exception):
    """The bytes are no records."""


def read_varint(data: Sequence[int], position: int) -> tuple[int, int]:
    """The varint at ``position``, and where it ends.

    Raises:
        CorruptError: it has more than 64 bits.
        IndexError: the data end within it.
    """
    byte = data[position]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position + 1
    value = shift = 0
    for end in range(position, position + _MAX_BYTES):
        byte = data[end]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), end + 1
        shift += 7
    raise CorruptError("a number of more than 64 bits")


def read_varints(view: Bytes, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The varints at ``positions``, and where each ends.

    Raises:
        CorruptError: one has more than 64 bits.
        IndexError: the data end within one.
    """
    values = np.zeros(len(positions), np.uint64)
    ends = positions.copy()
    rows = np.arange(len(positions))
    for shift in range(0, 7 * _MAX_BYTES, 7):
        read = view[ends[rows]]
        values[rows] |= (read & 0x7F).astype(np.uint64) << np.uint64(shift)
        ends[rows] += 1
        rows = rows[read >= 0x80]
        if not len(rows):
            return _unzigzag(values), ends
    raise CorruptError("a number of more than 64 bits")


def read_columns(table: Bytes) -> NDArray[np.int64]:
    """Varints of one width, a row each: (n, width) bytes to (n,)."""
    if table.shape[1] == 1:
        return _ONE_BYTE[table[:, 0]]
    values = np.zeros(len(table), np.uint64)
    for column in range(table.shape[1]):
        values |= (table[:, column] & 0x7F).astype(np.uint64) << np.uint64(7 * column)
    return _unzigzag(values)


def _unzigzag(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    halves: NDArray[np.int64] = (values >> np.uint64(1)).astype(np.int64)
    return halves ^ -(values & np.uint64(1)).astype(np.int64)


# The numbers that fit in one byte, which in short batches are all of them.
_ONE_BYTE = _unzigzag(np.arange(128, dtype=np.uint64))
