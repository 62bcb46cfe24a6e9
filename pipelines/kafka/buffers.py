"""What was fetched of one partition and not yet handed on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.frame_batch import RawBatch
from pipelines.kafka.columns import Columns, join_columns, to_raw_batch
from pipelines.kafka.inflate import BombError
from pipelines.kafka.parse import Body, parse_batches
from pipelines.kafka.raw_batches import Damaged, FetchItem, Gap, ParsedRecords, RawRecordBatch
from pipelines.kafka.refused import RefusalCode, RefusedRecords
from pipelines.kafka.varints import CorruptError


@dataclass(frozen=True)
class Caps:
    """What bounds one raw batch, and what is too big to let in.

    Args:
        max_frames: records in a raw batch.
        batch_bytes: keys and values in a raw batch; a single record may be more.
        max_record_bytes: key and value of one record.
        max_inflated_bytes: records of one compressed batch.
    """

    max_frames: int = 4096
    batch_bytes: int = 8 << 20
    max_record_bytes: int = 1 << 20
    max_inflated_bytes: int = 64 << 20


@dataclass(frozen=True, eq=False)
class Chunk:
    """Offsets ``first`` to ``last`` of a partition and all that they hold.

    Args:
        first: the next offset when it was cut; there may be no record at it.
        last: the last offset it answers for.
        batch: the records, or None.
        refused: offsets in it that are not let in.
    """

    first: int
    last: int
    batch: RawBatch | None = None
    refused: tuple[RefusedRecords, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its records."""
        return 0 if self.batch is None else self.batch.nbytes

    def until(self, stop: int | None) -> Chunk:
        """The part before offset ``stop``."""
        if stop is None or self.last < stop:
            return self
        batch = self.batch
        if batch is not None:
            batch = batch.slice(0, int(np.searchsorted(batch.offsets, stop)))
        refused = tuple(
            replace(range_, last_offset=min(range_.last_offset, stop - 1))
            for range_ in self.refused
            if range_.first_offset < stop
        )
        return Chunk(self.first, stop - 1, batch if batch is not None and len(batch) else None, refused)


@dataclass(eq=False)
class PartitionBuffer:
    """First in, first out: fetched items go in, chunks come out.

    ``next`` is the offset after the last chunk that went out, ``fetched`` the one
    after the last item that came in. Not safe for threads by itself.
    """

    topic: str
    partition: int
    caps: Caps
    next: int
    fetched: int = 0
    nbytes: int = 0
    waiting_since: float = 0.0
    asked_at: float = 0.0
    stalled_at: int = -1
    stalls: int = 0
    error: Exception | None = None
    items: deque[FetchItem] = field(default_factory=deque)
    chunks: deque[Chunk] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Start at ``next``."""
        self.restart(self.next)

    def restart(self, offset: int) -> None:
        """Forget what is here and begin at ``offset``."""
        self.items.clear()
        self.chunks.clear()
        self.next = self.fetched = offset
        self.nbytes, self.stalled_at, self.error = 0, -1, None
        self.waiting_since = time.monotonic()

    def put(self, item: FetchItem) -> None:
        """Take in what was fetched; what lies before ``fetched`` is there already."""
        if item.last_offset < self.fetched:
            return
        self.items.append(item)
        self.fetched = item.last_offset + 1
        self.nbytes += item.nbytes
        self.waiting_since = time.monotonic()

    def pop(self) -> Chunk | None:
        """The next chunk, if any."""
        if not self.chunks and self.items:
            self._cut()
        if not self.chunks:
            return None
        chunk = self.chunks.popleft()
        self.nbytes -= chunk.nbytes
        self.next = chunk.last + 1
        return chunk

    def give_back(self, chunk: Chunk) -> None:
        """Undo the last ``pop``."""
        self.chunks.appendleft(chunk)
        self.nbytes += chunk.nbytes
        self.next = chunk.first

    def _cut(self) -> None:
        """Turn the first items into chunks: a raw batch as full as the caps allow, or several."""
        opened: list[tuple[FetchItem, Body | Columns]] = []
        refused: list[RefusedRecords] = []
        records = size = 0
        last = self.next - 1
        while self.items and (last < self.next or self._has_room(records, size, self.items[0])):
            item = self.items.popleft()
            self.nbytes -= item.nbytes
            last = item.last_offset
            body = self._open(item, refused)
            if body is not None:
                opened.append((item, body))
                records, size = records + _count(item), size + _size(body)
        parts = self._parse(opened, refused)
        batch = self._admit(self._assemble(parts), refused) if parts else None
        refused.sort(key=lambda range_: range_.first_offset)
        for chunk in self._slices(Chunk(self.next, last, batch, tuple(refused))):
            self.chunks.append(chunk)
            self.nbytes += chunk.nbytes

    def _parse(self, opened: list[tuple[FetchItem, Body | Columns]], refused: list[RefusedRecords]) -> list[Columns]:
        """The records of ``opened``, which may be one lot for all of them; what is damaged is refused."""
        lots = parse_batches([body for _, body in opened])
        for (item, _), lot in zip(opened, lots, strict=False):
            if isinstance(lot, CorruptError):
                refused.append(self._refuse_item(item, "record.corrupt", f"whole records. Received: {lot}"))
        return [lot for lot in lots if isinstance(lot, Columns) and len(lot)]

    def _assemble(self, parts: list[Columns]) -> RawBatch:
        """One raw batch; a fetch begins with whole record batches, so what lies before ``next`` is cut off."""
        batch = to_raw_batch(self.topic, self.partition, join_columns(parts))
        skip = int(np.searchsorted(batch.offsets, self.next))
        return batch.slice(skip, len(batch)) if skip else batch

    def _has_room(self, records: int, size: int, item: FetchItem) -> bool:
        return records + _count(item) <= self.caps.max_frames and size + item.nbytes <= self.caps.batch_bytes

    def _open(self, item: FetchItem, refused: list[RefusedRecords]) -> Body | Columns | None:
        """The records of ``item``, or None when it has none to give."""
        if isinstance(item, Gap):
            return None
        if isinstance(item, ParsedRecords):
            return item.columns
        if isinstance(item, Damaged):
            refused.append(
                self._refuse(item.first_offset, item.last_offset, item.timestamp, "record.corrupt", "checksum")
            )
            return None
        try:
            return item.unpack(self.caps.max_inflated_bytes)
        except BombError as exc:
            reason = f"at most {self.caps.max_inflated_bytes} bytes inflated. Received: {exc}"
            refused.append(self._refuse_item(item, "record.bomb", reason))
        except ValueError as exc:
            refused.append(self._refuse_item(item, "record.corrupt", f"whole records. Received: {exc}"))
        return None

    def _refuse_item(self, item: FetchItem, code: RefusalCode, reason: str) -> RefusedRecords:
        assert isinstance(item, RawRecordBatch)
        return self._refuse(item.base_offset, item.last_offset, item.max_timestamp, code, reason)

    def _admit(self, batch: RawBatch, refused: list[RefusedRecords]) -> RawBatch | None:
        """``batch`` without the records that are too large."""
        if batch.nbytes <= self.caps.max_record_bytes:
            return batch if len(batch) else None
        sizes = _lengths(batch)
        large = sizes > self.caps.max_record_bytes
        for row in np.flatnonzero(large):
            offset, stamp = int(batch.offsets[row]), int(batch.timestamps[row])
            reason = f"at most {self.caps.max_record_bytes} bytes. Received: {sizes[row]}"
            refused.append(self._refuse(offset, offset, stamp, "record.too_large", reason))
        kept = batch.take(~large) if large.any() else batch
        return kept if len(kept) else None

    def _refuse(self, first: int, last: int, timestamp: int, code: RefusalCode, reason: str) -> RefusedRecords:
        first = max(first, self.next)
        message = f"record {self.topic}[{self.partition}]@{first}: expected {reason}."
        return RefusedRecords(self.topic, self.partition, first, last, timestamp, code, message)

    def _slices(self, chunk: Chunk) -> Iterator[Chunk]:
        """``chunk`` in parts within the caps."""
        batch = chunk.batch
        if batch is None or (len(batch) <= self.caps.max_frames and batch.nbytes <= self.caps.batch_bytes):
            yield chunk
            return
        first = chunk.first
        for start, stop in _row_ranges(_lengths(batch), self.caps):
            last = chunk.last if stop == len(batch) else int(batch.offsets[stop - 1])
            inside = tuple(range_ for range_ in chunk.refused if first <= range_.first_offset <= last)
            yield Chunk(first, last, batch.slice(start, stop), inside)
            first = last + 1


def _count(item: FetchItem) -> int:
    return item.count if isinstance(item, (RawRecordBatch, ParsedRecords)) else 0


def _size(body: Body | Columns) -> int:
    return body.nbytes if isinstance(body, Columns) else len(body[0])


def _lengths(batch: RawBatch) -> NDArray[np.int64]:
    """(n,) bytes of key and value of each record."""
    sizes = np.zeros(len(batch), np.int64)
    for column in (batch.keys, batch.values):
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return sizes


def _row_ranges(sizes: NDArray[np.int64], caps: Caps) -> Iterator[tuple[int, int]]:
    start, ends = 0, np.cumsum(sizes)
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + caps.batch_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + caps.max_frames)
        yield start, stop
        start = stop
