"""Whole record batches as a fetch brings them, before anything is inflated or parsed.

An item of a fetch is one of

* RawRecordBatch: records, still packed;
* ParsedRecords: records that came one by one (old format, or plain poll);
* Gap: offsets without records: control batches, aborted or compacted ones;
* Damaged: a batch whose checksum is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipelines.frame_batch import Headers
from pipelines.kafka.columns import Columns, from_values
from pipelines.kafka.inflate import inflate
from pipelines.kafka.parse import Body, parse_records
from pipelines.kafka.runs import BatchHead

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and max
# timestamp, producer id, producer epoch, base sequence, records
_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH = struct.Struct(">qi")
CRC_STARTS_AT = 21
_CODEC = 0x07
_APPEND_TIME = 0x08
_TRANSACTIONAL = 0x10
_CONTROL = 0x20


@dataclass(frozen=True, eq=False)
class RawRecordBatch:
    """One record batch of format 2, as bytes and what its head says."""

    data: memoryview
    base_offset: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    count: int

    @classmethod
    def read(cls, data: memoryview) -> RawRecordBatch:
        """Read the head of the batch that ``data`` is."""
        head = _HEAD.unpack_from(data)
        return cls(
            data=data,
            base_offset=head[0],
            leader_epoch=head[2],
            crc=head[4],
            attributes=head[5],
            last_offset=head[0] + head[6],
            first_timestamp=head[7],
            max_timestamp=head[8],
            producer_id=head[9],
            count=head[12],
        )

    @property
    def nbytes(self) -> int:
        """Bytes it takes while it waits."""
        return len(self.data)

    @property
    def is_control(self) -> bool:
        """Whether it marks the end of a transaction and holds no records of ours."""
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    def unpack(self, max_inflated_bytes: int) -> Body:
        """Its records, not yet parsed.

        Raises:
            BombError: they inflate beyond ``max_inflated_bytes``.
            ValueError: they are damaged.
        """
        body = inflate(self.attributes & _CODEC, self.data[_HEAD.size :], max_inflated_bytes)
        stamp = self.max_timestamp if self.attributes & _APPEND_TIME else None
        return body, BatchHead(self.base_offset, self.count, self.first_timestamp, stamp)

    def parse(self, max_inflated_bytes: int) -> Columns:
        """Its records.

        Raises:
            BombError: they inflate beyond ``max_inflated_bytes``.
            CorruptError, ValueError: they are damaged.
        """
        return parse_records(*self.unpack(max_inflated_bytes))


@dataclass(frozen=True, eq=False)
class ParsedRecords:
    """Records that are columns already."""

    columns: Columns

    @property
    def last_offset(self) -> int:
        """Offset of the last one."""
        return int(self.columns.offsets[-1])

    @property
    def nbytes(self) -> int:
        """Bytes it takes while it waits."""
        return self.columns.nbytes

    @property
    def count(self) -> int:
        """Number of records."""
        return len(self.columns)


@dataclass(frozen=True)
class Gap:
    """Offsets up to ``last_offset`` that hold no record."""

    last_offset: int
    nbytes: int = 0


@dataclass(frozen=True)
class Damaged:
    """A record batch whose checksum does not fit."""

    first_offset: int
    last_offset: int
    timestamp: int
    nbytes: int = 0


FetchItem = RawRecordBatch | ParsedRecords | Gap | Damaged


class ClientRecord(Protocol):
    """What a record of kafka-python has."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def from_client_records(records: Iterable[Any]) -> ParsedRecords:
    """Columns of records that kafka-python parsed one by one."""
    rows: list[ClientRecord] = list(records)
    headers: list[Headers] = [[(name, value or b"") for name, value in row.headers] for row in rows]
    return ParsedRecords(
        Columns(
            offsets=np.array([row.offset for row in rows], np.int64),
            timestamps=np.array([row.timestamp for row in rows], np.int64),
            keys=from_values(row.key for row in rows),
            values=from_values(row.value for row in rows),
            headers=headers if any(headers) else None,
        )
    )


def split_record_set(data: memoryview) -> Iterable[memoryview]:
    """The batches of a fetch, one after the other; a last one cut short is left out."""
    position = 0
    while position + _LENGTH.size <= len(data):
        _, length = _LENGTH.unpack_from(data, position)
        end = position + _LENGTH.size + length
        if length < 0 or end > len(data):
            return
        yield data[position:end]
        position = end


def is_current_format(data: memoryview) -> bool:
    """Whether the batch is of format 2, which every broker since 0.11 writes."""
    return len(data) >= _HEAD.size and data[16] == 2
