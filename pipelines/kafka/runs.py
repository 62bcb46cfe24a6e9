"""Records that lie at one stride, read as columns for many record batches at once.

    length | attributes | timestamp delta | offset delta | key length | key | value length | value | headers n | ...

Producers of frames send keys and values of one size. The records of a batch then lie
at one stride, in runs that end where a delta's varint grows by a byte (64, 8192...).
Runs are guessed from a few records of each batch; then the bytes before the values
are compared and decoded for all runs of one layout together, so that a batch of 16
records costs little more per record than one of thousands.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.kafka.columns import Binaries, Bytes, Columns
from pipelines.kafka.varints import CorruptError, read_columns, read_varint

# Each of the two deltas grows a few times in a batch; with more runs than this its records are irregular.
_MAX_RUNS = 12
# To look among these is cheaper than to read a record's lengths.
_KNOWN_LAYOUTS = 4


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


class Layout(NamedTuple):
    """Where the fields of a record without headers lie, and what the bytes before its value share with neighbours.

    Args:
        stride: bytes of a record.
        timestamp: where its delta starts; it ends at ``offset``.
        offset: where that delta starts; it ends at ``key_size``.
        key_size: where the key's length starts.
        key: where the key starts.
        key_length: its bytes, or -1 for none.
        value: where the value starts.
        value_length: its bytes, or -1 for none.
        mask: big-endian number of the bytes before the value: which bits neighbours share.
        expected: those bits.
    """

    stride: int
    timestamp: int
    offset: int
    key_size: int
    key: int
    key_length: int
    value: int
    value_length: int
    mask: int
    expected: int

    @classmethod
    def read(cls, data: memoryview, start: int) -> Layout | None:
        """The layout of the record at ``start``, or None when it has headers."""
        length, timestamp = read_varint(data, start)
        stride = timestamp - start + length
        _, offset = read_varint(data, timestamp + 1)
        _, key_size = read_varint(data, offset)
        key_length, key = read_varint(data, key_size)
        value_size = key + max(key_length, 0)
        value_length, value = read_varint(data, value_size)
        end = value + max(value_length, 0)
        if end != start + stride - 1 or data[end] != 0:
            return None
        # Lengths are shared; of a delta only how many bytes it has; of attributes and keys nothing.
        mask = b"".join(
            [
                b"\xff" * (timestamp - start) + b"\0",
                b"\x80" * (key_size - timestamp - 1),
                b"\xff" * (key - key_size) + bytes(value_size - key) + b"\xff" * (value - value_size),
            ]
        )
        places = [place - start for place in (timestamp + 1, offset, key_size, key)]
        shared = int.from_bytes(mask, "big")
        expected = int.from_bytes(data[start:value], "big") & shared
        return cls(stride, *places, key_length, value - start, value_length, shared, expected)  # type: ignore[call-arg]

    def fits(self, data: memoryview, start: int) -> bool:
        """Whether the record at ``start`` begins in this layout."""
        return int.from_bytes(data[start : start + self.value], "big") & self.mask == self.expected


class Run(NamedTuple):
    """Records guessed to have one layout: (rows, stride) bytes."""

    table: Bytes
    layout: Layout


def find_runs(view: Bytes, count: int, known: list[Layout]) -> list[Run] | None:
    """Guess the runs of ``count`` records that fill ``view``, or None where they do not lie at a stride.

    Args:
        view: the records.
        count: how many.
        known: layouts of batches before, which these records often share; added to.
    """
    try:
        return _guess_runs(view, count, known)
    except (IndexError, CorruptError):
        return None


def _guess_runs(view: Bytes, count: int, known: list[Layout]) -> list[Run] | None:
    data, runs = view.data, list[Run]()
    position, left = 0, count
    while left > 0:
        layout = _find_layout(data, position, known)
        if layout is None or (runs and not _is_next(layout, runs)):
            return None
        rows = _count_alike(data, position, min(left, (len(data) - position) // layout.stride), layout)
        if rows == 0:
            return None
        end = position + rows * layout.stride
        runs.append(Run(view[position:end].reshape(rows, layout.stride), layout))
        position, left = end, left - rows
    return runs if position == len(data) else None


def _find_layout(data: memoryview, position: int, known: list[Layout]) -> Layout | None:
    for layout in known:
        if layout.fits(data, position):
            return layout
    new = Layout.read(data, position)
    if new is not None:
        known.insert(0, new)
        del known[_KNOWN_LAYOUTS:]
    return new


def _is_next(layout: Layout, runs: list[Run]) -> bool:
    """Whether only a delta's width sets it apart from the run before."""
    before = runs[-1].layout
    sizes = (layout.key_length, layout.value_length)
    return sizes == (before.key_length, before.value_length) and len(runs) < _MAX_RUNS


def _count_alike(data: memoryview, start: int, rows: int, layout: Layout) -> int:
    """How many records from ``start`` are in this layout, if none that is lies behind one that is not."""
    if rows == 0 or layout.fits(data, start + (rows - 1) * layout.stride):
        return rows
    return bisect_left(range(rows), True, key=lambda row: not layout.fits(data, start + row * layout.stride))


def read_runs(batches: Sequence[tuple[BatchHead, Sequence[Run]]]) -> Columns | None:
    """The records of all runs, in order, as columns that are views; None where a guess was wrong."""
    runs = [run for _, runs in batches for run in runs]
    heads = [head for head, runs in batches for _ in runs]
    rows = np.array([len(run.table) for run in runs])
    deltas = _read_deltas(runs, rows)
    if deltas is None:
        return None
    return Columns(
        offsets=deltas[1] + np.repeat([head.base_offset for head in heads], rows),
        timestamps=_place_in_time(deltas[0], heads, rows),
        keys=Binaries(
            np.repeat([layout.key_length for _, layout in runs], rows),
            tuple(table[:, at.key : at.key + at.key_length] for table, at in runs if at.key_length > 0),
        ),
        values=Binaries(
            np.repeat([layout.value_length for _, layout in runs], rows),
            tuple(table[:, at.value : -1] for table, at in runs if at.value_length > 0),
        ),
    )


def _read_deltas(runs: Sequence[Run], rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Timestamp and offset deltas of all records, (2, n), or None where a record is not in its run's layout."""
    tables: dict[Layout, list[Bytes]] = {}
    for table, layout in runs:
        tables.setdefault(layout, []).append(table)
    parts = []
    for layout, alike in tables.items():
        heads = _gather_heads(alike, layout)
        if not _are_alike(heads, layout):
            return None
        fields = (slice(layout.timestamp, layout.offset), slice(layout.offset, layout.key_size))
        parts.append(np.stack([read_columns(heads[:, field]) for field in fields]))
    places = {layout: place for place, layout in enumerate(tables)}
    by_layout = np.argsort(np.repeat([places[run.layout] for run in runs], rows), kind="stable")
    deltas = np.empty((2, len(by_layout)), np.int64)
    deltas[:, by_layout] = np.concatenate(parts, axis=1)
    return deltas


def _gather_heads(tables: Sequence[Bytes], layout: Layout) -> Bytes:
    """The bytes before the values and, last, those after them: (rows, value + 1)."""
    heads = np.empty((sum(len(table) for table in tables), layout.value + 1), np.uint8)
    position = 0
    for table in tables:
        rows = heads[position : position + len(table)]
        rows[:, :-1] = table[:, : layout.value]
        rows[:, -1] = table[:, -1]
        position += len(table)
    return heads


def _are_alike(heads: Bytes, layout: Layout) -> bool:
    """Whether every record is in this layout, and without headers."""
    mask, expected = (number.to_bytes(layout.value, "big") for number in (layout.mask, layout.expected))
    # Bytes compare faster than arrays do.
    shared = (heads[:, :-1] & np.frombuffer(mask, np.uint8)).tobytes()
    return shared == expected * len(heads) and not heads[:, -1].any()


def _place_in_time(deltas: NDArray[np.int64], heads: Sequence[BatchHead], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Timestamps of records, whose runs have these heads."""
    starts = [head.first_timestamp if head.append_timestamp is None else head.append_timestamp for head in heads]
    scales = [int(head.append_timestamp is None) for head in heads]
    placed: NDArray[np.int64] = deltas * np.repeat(scales, rows) + np.repeat(starts, rows)
    return placed
