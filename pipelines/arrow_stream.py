"""Arrow IPC streams from strangers: read one, and never let it grow past its own bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa

from ae_model.exceptions import RecordError

# Positions in the tables of Arrow's format/Message.fbs; a union takes two.
_MESSAGE_HEADER = 2
_BATCH_COMPRESSION = 3


def open_arrow(value: bytes) -> pa.Table:
    """A stream as a table of views of ``value``, whose contents nobody has checked yet.

    A compressed body is refused: its size is only known once it is in memory, and
    Kafka compresses records itself.

    Raises:
        RecordError: the bytes are no stream.
    """
    try:
        _refuse_compression(value)
        table = pa.ipc.open_stream(value).read_all()
        # Names are only decoded when asked for, and need not be UTF-8.
        _ = table.column_names
        return table
    except (pa.ArrowException, OSError, ValueError, struct.error) as exc:
        raise RecordError("schema.unknown", f"record: expected an uncompressed Arrow stream. Received: {exc}.") from exc


def take_columns(table: pa.Table, columns: Sequence[str]) -> pa.RecordBatch:
    """The columns named, in that order, as one record batch that is sound.

    Raises:
        RecordError: a column is absent or there twice, or its buffers contradict each other.
    """
    try:
        chosen = table.select(list(columns))
    except KeyError as exc:
        raise RecordError("schema.incompatible", f"record: expected columns {list(columns)}. Received: {exc}.") from exc
    try:
        chosen.validate(full=True)
    except pa.ArrowException as exc:
        raise RecordError("schema.unknown", f"record: expected a sound Arrow stream. Received: {exc}.") from exc
    batches = chosen.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=chosen.schema)


def _refuse_compression(value: bytes) -> None:
    for message in pa.ipc.MessageReader.open_stream(value):
        if message.type != "schema" and _is_compressed(memoryview(message.metadata)):
            raise ValueError("a compressed body")
        if message.type == "dictionary":
            raise ValueError("a dictionary")


def _is_compressed(metadata: memoryview) -> bool:
    """Whether the RecordBatch in a message names a codec."""
    (message,) = struct.unpack_from("<I", metadata, 0)
    header_at = message + _field(metadata, message, _MESSAGE_HEADER)
    header = header_at + struct.unpack_from("<I", metadata, header_at)[0]
    return _field(metadata, header, _BATCH_COMPRESSION) != 0


def _field(metadata: memoryview, table: int, position: int) -> int:
    """Where a field of a flatbuffers table lies, from the table's start; 0 when it is not set."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    (size,) = struct.unpack_from("<H", metadata, vtable)
    at = 4 + 2 * position
    return int(struct.unpack_from("<H", metadata, vtable + at)[0]) if at < size else 0
