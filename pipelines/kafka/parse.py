"""Records of a batch as columns, without a Python object per record.

A record, all integers but the attributes zigzag varints:

    length | attributes | timestamp delta | offset delta | key length | key | value length | value | headers n | ...

Producers of frames send values of one size, so the records of a batch lie at one
stride, in runs that end where a delta's varint grows by a byte (64, 8192...).
A run is checked and read column-wise as an array (rows, stride). Everything else
is read field by field over all records at once, and headers one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.frame_batch import Headers
from pipelines.kafka.columns import Binaries, Bytes, Columns, join_columns

# The smallest record: length, attributes, two deltas, two absent binaries, no headers.
MIN_RECORD_BYTES = 7
_MAX_VARINT_BYTES = 10
# Below this many rows a run costs more than reading field by field.
_SHORT_RUN = 16
# How far past the last run's length the next one is looked for, so that no batch costs its square.
_RUN_GROWTH = 8


class CorruptError(Exception):
    """The bytes are no records."""


@dataclass(frozen=True)
class BatchHead:
    """What a record batch says of all its records.

    Args:
        base_offset: of the first record, before compaction.
        count: records in it.
        first_timestamp: deltas count from here, in milliseconds.
        append_timestamp: the broker's time for all records, or None when producers set their own.
    """

    base_offset: int
    count: int
    first_timestamp: int
    append_timestamp: int | None = None


def parse_records(data: memoryview, head: BatchHead) -> Columns:
    """The records in ``data``, which holds them alone and uncompressed.

    Raises:
        CorruptError: lengths do not add up.
    """
    if not 0 <= head.count * MIN_RECORD_BYTES <= len(data):
        raise CorruptError(f"{head.count} records in {len(data)} bytes")
    view = np.frombuffer(data, np.uint8)
    try:
        parts = _parse_runs(view, head)
    except (IndexError, ValueError, UnicodeDecodeError) as exc:
        raise CorruptError(str(exc)) from exc
    return join_columns(parts)


def _parse_runs(view: Bytes, head: BatchHead) -> list[Columns]:
    parts: list[Columns] = [] if head.count else [_read_fields(view, 0, 0, head)]
    position, left, reach = 0, head.count, head.count
    while left:
        run, size = _read_run(view, position, min(left, reach), head)
        if run is None or (len(run) < _SHORT_RUN and len(run) < left):
            parts.append(_read_fields(view, position, left, head))
            return parts
        parts.append(run)
        position, left, reach = position + size, left - len(run), (len(run) + _SHORT_RUN) * _RUN_GROWTH
    if position != len(view):
        raise CorruptError(f"{len(view) - position} bytes after the last record")
    return parts


def _read_run(view: Bytes, start: int, rows: int, head: BatchHead) -> tuple[Columns | None, int]:
    """Records at one stride from ``start``, ``rows`` of them at most, and their bytes."""
    shape = _RecordShape.read(view, start)
    if shape is None:
        return None, 0
    rows = min(rows, (len(view) - start) // shape.stride)
    if rows == 0:
        return None, 0
    table = view[start : start + rows * shape.stride].reshape(rows, shape.stride)
    # One view of the bytes before the value: picking the columns one by one costs a third of the whole parse.
    alike, bare = table[:, : shape.value.start] & shape.mask, table[:, -1]
    # Bytes compare faster than arrays do, and nearly all of them are equal.
    if alike.tobytes() != shape.expected.tobytes() * rows or bare.tobytes() != bytes(rows):
        rows = int(np.argmin((alike == shape.expected).all(axis=1) & (bare == 0)))
        table = table[:rows]
    return shape.read_table(table, head), rows * shape.stride


@dataclass(frozen=True, eq=False)
class _RecordShape:
    """Where the fields of a record without headers lie, and what neighbours must share with it."""

    stride: int
    timestamp: slice
    offset: slice
    key: slice
    key_length: int
    value: slice
    value_length: int
    mask: Bytes
    expected: Bytes

    @classmethod
    def read(cls, view: Bytes, start: int) -> _RecordShape | None:
        """The shape of the record at ``start``, or None when it has headers."""
        length, timestamp = _varint(view, start)
        stride = timestamp - start + length
        timestamp += 1
        _, offset = _varint(view, timestamp)
        _, key_size = _varint(view, offset)
        key_length, key = _varint(view, key_size)
        value_size = key + max(key_length, 0)
        value_length, value = _varint(view, value_size)
        end = value + max(value_length, 0)
        if end != start + stride - 1 or view[end] != 0:
            return None
        mask = np.full(value - start, 0xFF, np.uint8)
        mask[timestamp - 1 - start : key_size - start] = 0x80
        mask[timestamp - 1 - start] = mask[key - start : value_size - start] = 0
        return cls(
            stride=stride,
            timestamp=slice(timestamp - start, offset - start),
            offset=slice(offset - start, key_size - start),
            key=slice(key - start, value_size - start),
            key_length=key_length,
            value=slice(value - start, end - start),
            value_length=value_length,
            mask=mask,
            expected=view[start:value] & mask,
        )

    def read_table(self, table: Bytes, head: BatchHead) -> Columns:
        """The records of ``table``, (rows, stride), as columns that are views of it."""
        rows = len(table)
        return Columns(
            offsets=head.base_offset + _varint_columns(table[:, self.offset]),
            timestamps=_timestamps(_varint_columns(table[:, self.timestamp]), head),
            keys=Binaries(np.full(rows, self.key_length, np.int64), (table[:, self.key],)),
            values=Binaries(np.full(rows, self.value_length, np.int64), (table[:, self.value],)),
        )


def _read_fields(view: Bytes, start: int, count: int, head: BatchHead) -> Columns:
    """``count`` records of any shape from ``start`` to the end, field by field."""
    bodies, ends = _boundaries(view, start, count)
    timestamps, position = _varints(view, bodies + 1)
    offsets, position = _varints(view, position)
    key_lengths, key_starts = _varints(view, position)
    value_lengths, value_starts = _varints(view, key_starts + np.maximum(key_lengths, 0))
    header_counts, position = _varints(view, value_starts + np.maximum(value_lengths, 0))
    headers = None
    if header_counts.any():
        headers = [
            _read_headers(view, *row)
            for row in zip(position.tolist(), header_counts.tolist(), ends.tolist(), strict=True)
        ]
    elif (position != ends).any():
        raise CorruptError("a record longer or shorter than it says")
    return Columns(
        offsets=head.base_offset + offsets,
        timestamps=_timestamps(timestamps, head),
        keys=_slices(view, key_starts, key_lengths),
        values=_slices(view, value_starts, value_lengths),
        headers=headers,
    )


def _boundaries(view: Bytes, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each record's body starts and ends; the only loop over records."""
    data = view.data
    bodies, ends = [0] * count, [0] * count
    position = start
    for row in range(count):
        byte = data[position]
        if byte < 0x80:
            length, body = byte >> 1, position + 1
        else:
            length, body = _varint(data, position)
        position = body + length
        if length < 1:
            raise CorruptError("a record without a body")
        bodies[row], ends[row] = body, position
    if position != len(data):
        raise CorruptError(f"{len(data) - position} bytes after the last record")
    return np.array(bodies, np.int64), np.array(ends, np.int64)


def _read_headers(view: Bytes, position: int, count: int, end: int) -> Headers:
    headers: Headers = []
    for _ in range(count):
        size, position = _varint(view, position)
        name = view[position : position + size].tobytes().decode()
        size, position = _varint(view, position + size)
        headers.append((name, view[position : position + max(size, 0)].tobytes()))
        position += max(size, 0)
    if position != end or count < 0:
        raise CorruptError("headers longer or shorter than the record says")
    return headers


def _slices(view: Bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Binaries:
    data = view.data
    ends = starts + np.maximum(lengths, 0)
    if (lengths < -1).any() or (ends > len(view)).any():
        raise CorruptError("a key or value longer than its record")
    joined = b"".join([data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    return Binaries(lengths, (np.frombuffer(joined, np.uint8),))


def _timestamps(deltas: NDArray[np.int64], head: BatchHead) -> NDArray[np.int64]:
    if head.append_timestamp is not None:
        return np.full(len(deltas), head.append_timestamp, np.int64)
    return head.first_timestamp + deltas


def _varint(data: Any, position: int) -> tuple[int, int]:
    """The zigzag varint at ``position``, and where it ends."""
    value = shift = 0
    for _ in range(_MAX_VARINT_BYTES):
        byte = int(data[position])
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
    raise CorruptError("a number of more than 64 bits")


def _varints(view: Bytes, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The zigzag varints at ``positions``, and where each ends."""
    values = np.zeros(len(positions), np.uint64)
    ends = positions.copy()
    rows = np.arange(len(positions))
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        read = view[ends[rows]]
        values[rows] |= (read & 0x7F).astype(np.uint64) << np.uint64(shift)
        ends[rows] += 1
        rows = rows[read >= 0x80]
        if not len(rows):
            return _unzigzag(values), ends
    raise CorruptError("a number of more than 64 bits")


def _varint_columns(table: Bytes) -> NDArray[np.int64]:
    """Zigzag varints of one width, one per row."""
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
