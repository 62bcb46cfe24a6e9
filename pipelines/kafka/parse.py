"""Records of a batch as columns, without a Python object per record.

Records at one stride, which is how frames come, are read many batches at a time
(``runs``). Everything else is read a batch at a time: field by field over all its
records at once, and headers one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.frame_batch import Headers
from pipelines.kafka.columns import Binaries, Bytes, Columns
from pipelines.kafka.runs import BatchHead, Layout, Run, find_runs, read_runs
from pipelines.kafka.varints import CorruptError, read_varint, read_varints

# The smallest record: length, attributes, two deltas, two absent binaries, no headers.
MIN_RECORD_BYTES = 7

Body = tuple[memoryview, BatchHead]


def parse_batches(bodies: Sequence[Body | Columns]) -> list[Columns | CorruptError]:
    """The records of several batches, in order: one lot for all of them, or else one for each.

    Args:
        bodies: the records of each, alone and uncompressed, with the batch's head; or columns already.
    """
    together = _parse_together(bodies)
    return [_parse_or_fail(body) for body in bodies] if together is None else [together]


def _parse_together(bodies: Sequence[Body | Columns]) -> Columns | None:
    """All records, or None where some do not lie at a stride."""
    batches: list[tuple[BatchHead, list[Run]]] = []
    known: list[Layout] = []
    for body in bodies:
        runs = None if isinstance(body, Columns) else find_runs(np.frombuffer(body[0], np.uint8), body[1].count, known)
        if isinstance(body, Columns) or not runs:
            return None
        batches.append((body[1], runs))
    return read_runs(batches) if batches else None


def _parse_or_fail(body: Body | Columns) -> Columns | CorruptError:
    if isinstance(body, Columns):
        return body
    try:
        return parse_records(*body)
    except CorruptError as exc:
        return exc


def parse_records(data: memoryview, head: BatchHead) -> Columns:
    """The records in ``data``, which holds them alone and uncompressed.

    Raises:
        CorruptError: lengths do not add up.
    """
    if not 0 <= head.count * MIN_RECORD_BYTES <= len(data):
        raise CorruptError(f"{head.count} records in {len(data)} bytes")
    view = np.frombuffer(data, np.uint8)
    try:
        runs = find_runs(view, head.count, [])
        columns = read_runs([(head, runs)]) if runs else None
        return _read_fields(view, head) if columns is None else columns
    except (IndexError, ValueError, UnicodeDecodeError) as exc:
        raise CorruptError(str(exc)) from exc


def _read_fields(view: Bytes, head: BatchHead) -> Columns:
    """Records of any shape, field by field."""
    bodies, ends = _boundaries(view, head.count)
    timestamps, position = read_varints(view, bodies + 1)
    offsets, position = read_varints(view, position)
    key_lengths, key_starts = read_varints(view, position)
    value_lengths, value_starts = read_varints(view, key_starts + np.maximum(key_lengths, 0))
    header_counts, position = read_varints(view, value_starts + np.maximum(value_lengths, 0))
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


def _boundaries(view: Bytes, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each record's body starts and ends; the only loop over records."""
    data = view.data
    bodies, ends = [0] * count, [0] * count
    position = 0
    for row in range(count):
        byte = data[position]
        if byte < 0x80:
            length, body = byte >> 1, position + 1
        else:
            length, body = read_varint(data, position)
        position = body + length
        if length < 1:
            raise CorruptError("a record without a body")
        bodies[row], ends[row] = body, position
    if position != len(data):
        raise CorruptError(f"{len(data) - position} bytes after the last record")
    return np.array(bodies, np.int64), np.array(ends, np.int64)


def _read_headers(view: Bytes, position: int, count: int, end: int) -> Headers:
    headers: Headers = []
    data = view.data
    for _ in range(count):
        size, position = read_varint(data, position)
        name = data[position : position + size].tobytes().decode()
        size, position = read_varint(data, position + size)
        headers.append((name, data[position : position + max(size, 0)].tobytes()))
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
