"""What is written to Kafka: one Arrow schema per output, and how each is read back.

    per="batch"   one Arrow IPC stream per frame batch: offset, timestamp, key, and code or frame
    per="frame"   one record per frame: the frame's own key, the bare numbers as the value

Numbers are float32, little-endian; codes may be int8, one byte each, as the artifact says.
Both carry where they come from in headers. The stream of a batch needs nothing else to be read:
``pa.ipc.open_stream(value).read_all()``, with topic, partition, model, version and layer in its
metadata. A frame batch that several models scored becomes a stream for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.exceptions import RecordError
from pipelines.arrow_stream import open_arrow, take_columns
from pipelines.frame_batch import Headers, InferredBatch, Scorer

Per = Literal["batch", "frame"]

BATCH_CONTENT = b"application/vnd.apache.arrow.stream"
# By the type of the numbers, which a bare value does not tell.
FRAME_CONTENTS = {"float32": b"application/vnd.latentstream.float32-le", "int8": b"application/vnd.latentstream.int8"}
_DTYPES = {content: np.dtype(name).newbyteorder("<") for name, content in FRAME_CONTENTS.items()}
# A broker left at its default takes 1 MiB; this leaves room for headers and the record itself.
MAX_RECORD_BYTES = 900_000
TIME = pa.timestamp("ms", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NUMBERS = (pa.float32(), pa.int8())
# Continuation marker and a length of 0: the end of an Arrow IPC stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@dataclass(frozen=True)
class OutputRecord:
    """One record for a topic, before the client adds anything.

    Args:
        key: bytes of the key, or None.
        value: bytes of the value; None is a tombstone.
        headers: in order; a name may come twice.
        partition: where to write it, or None to let the client choose by key.
        timestamp_ms: event time in milliseconds since 1970, or None for now.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, eq=False)
class CodeRows:
    """Latent codes of frames of one partition, by one model version.

    Args:
        topic: where the frames came from.
        partition: likewise.
        offsets: (n,) int64, of the frames.
        timestamps: (n,) int64, event time in milliseconds since 1970.
        keys: (n,) binary; null where a frame has none.
        codes: (n, latent) float32 or int8.
        model: name of the artifact that made them.
        version: its version; only this one decodes them.
        layer: whether it is the keys' own, their cohort's, that of all keys, or robust statistics.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    keys: pa.BinaryArray
    codes: NDArray[Any]
    model: str
    version: int
    layer: str

    def __len__(self) -> int:
        """Number of codes."""
        return len(self.offsets)

    def take(self, rows: NDArray[np.bool_]) -> CodeRows:
        """The codes where the mask (n,) is True."""
        return replace(
            self,
            offsets=self.offsets[rows],
            timestamps=self.timestamps[rows],
            keys=self.keys.filter(pa.array(rows)),
            codes=self.codes[rows],
        )

    @classmethod
    def join(cls, parts: Sequence[CodeRows]) -> CodeRows:
        """Codes of one partition and model version, end to end."""
        return replace(
            parts[0],
            offsets=np.concatenate([part.offsets for part in parts]),
            timestamps=np.concatenate([part.timestamps for part in parts]),
            keys=pa.concat_arrays([part.keys for part in parts]),
            codes=np.concatenate([part.codes for part in parts]),
        )


def encode_codes(batch: InferredBatch, per: Per = "batch") -> list[OutputRecord]:
    """Records for the codes topic; none for an empty batch.

    Per frame they are in offset order. Per batch there is one for each model version, in order
    of their first frames, and more where one would not fit in a record.
    """
    return _encode(batch, "code", batch.codes, per)


def encode_denoised(batch: InferredBatch, per: Per = "batch") -> list[OutputRecord]:
    """Records for the denoised topic, as ``encode_codes``; a frame is flat, sample by sample."""
    length, channels = batch.denoised.shape[1:]
    return _encode(batch, "frame", batch.denoised.reshape(len(batch), length * channels), per)


def read_codes(value: bytes | None, headers: Headers, *, key: bytes | None = None, timestamp_ms: int = -1) -> CodeRows:
    """Read a record of the codes topic, of either form.

    Args:
        value: its value.
        headers: its headers.
        key: its key; one record per frame keeps the frame's key there.
        timestamp_ms: its timestamp, likewise.

    Raises:
        RecordError: it is not a record of codes.
    """
    if value is None:
        raise RecordError("schema.unknown", "codes record: expected a value. Received: none, a tombstone.")
    named = dict(headers)
    content = named.get("content-type")
    try:
        if content in _DTYPES:
            return _read_frame(value, named, key, timestamp_ms, _DTYPES[content])
        return _read_batch(value)
    except (KeyError, ValueError, UnicodeDecodeError, pa.ArrowException) as exc:
        raise RecordError(
            "schema.unknown",
            f"codes record: expected one of {[BATCH_CONTENT, *_DTYPES]}. Received: {content!r} ({exc}).",
        ) from exc


def event_time(timestamp_ms: int) -> datetime | None:
    """The instant in UTC; None for -1, Kafka's "no timestamp", and for years no calendar holds."""
    if timestamp_ms == -1:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return None


def kafka_timestamp(timestamp_ms: int) -> int | None:
    """The timestamp to write; None where the input had none, as Kafka refuses negative ones."""
    return timestamp_ms if timestamp_ms >= 0 else None


def _encode(batch: InferredBatch, column: str, rows: NDArray[Any], per: Per) -> list[OutputRecord]:
    rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))  # (n, width)
    if len(batch) == 0:
        return []
    if per == "frame":
        return _encode_frames(batch, rows)
    table = pa.RecordBatch.from_arrays(
        [
            pa.array(batch.records.offsets),
            pa.array(batch.records.timestamps).view(TIME),
            batch.records.keys,
            pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1]),
        ],
        names=["offset", "timestamp", "key", column],
    )
    if len(batch.scorers) == 1:
        return _encode_part(batch, batch.scorers[0], table)
    return [
        record for scorer, taken in batch.parts() for record in _encode_part(batch, scorer, table.take(pa.array(taken)))
    ]


def _encode_part(batch: InferredBatch, scorer: Scorer, table: pa.RecordBatch) -> list[OutputRecord]:
    """Rows that one model version scored, as streams that each fit in a record."""
    records, (column, codes) = batch.records, (table.schema.names[-1], table.column(3))
    place = (records.topic, records.partition, scorer.model, scorer.version, scorer.layer)
    schema, head = _stream_head(column, codes.type, *place)
    table = pa.RecordBatch.from_arrays(table.columns, schema=schema)
    return [
        OutputRecord(
            key=None,
            value=b"".join([head, memoryview(table.slice(start, stop - start).serialize()), _END_OF_STREAM]),
            headers=_lineage(
                batch, scorer, table.column(0)[start].as_py(), table.column(0)[stop - 1].as_py(), stop - start
            ),
            partition=records.partition,
            timestamp_ms=kafka_timestamp(table.column(1)[stop - 1].value),
        )
        for start, stop in _fit(table, 0, len(table))
    ]


def _fit(table: pa.RecordBatch, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Halve the rows until each part fits in a record; a single row is never cut."""
    if stop - start == 1 or table.slice(start, stop - start).nbytes <= MAX_RECORD_BYTES:
        yield start, stop
        return
    middle = (start + stop) // 2
    yield from _fit(table, start, middle)
    yield from _fit(table, middle, stop)


@lru_cache(maxsize=1024)
def _stream_head(
    column: str, numbers: pa.DataType, topic: str, partition: int, model: str, version: int, layer: str
) -> tuple[pa.Schema, bytes]:
    """The schema of a stream and its first message, which is the same for every batch."""
    metadata = {"topic": topic, "partition": str(partition), "model": model, "version": str(version), "layer": layer}
    fields = [
        ("offset", pa.int64()),
        ("timestamp", TIME),
        ("key", pa.binary()),
        (column, numbers),
    ]
    schema = pa.schema(fields, metadata=metadata)
    return schema, schema.serialize().to_pybytes()


def _encode_frames(batch: InferredBatch, rows: NDArray[Any]) -> list[OutputRecord]:
    records, content = batch.records, FRAME_CONTENTS[rows.dtype.name]
    return [
        OutputRecord(
            key,
            row.tobytes(),
            _lineage(batch, batch.scorer(i), offset, offset, 1, content),
            records.partition,
            kafka_timestamp(timestamp),
        )
        for i, (key, row, offset, timestamp) in enumerate(
            zip(records.keys.to_pylist(), rows, records.offsets.tolist(), records.timestamps.tolist(), strict=True)
        )
    ]


def _lineage(
    batch: InferredBatch, scorer: Scorer, first: int, last: int, frames: int, content: bytes = BATCH_CONTENT
) -> Headers:
    return [
        ("ls-topic", batch.records.topic.encode()),
        ("ls-partition", b"%d" % batch.records.partition),
        ("ls-first-offset", b"%d" % first),
        ("ls-last-offset", b"%d" % last),
        ("ls-frames", b"%d" % frames),
        ("ls-model", scorer.model.encode()),
        ("ls-version", b"%d" % scorer.version),
        ("ls-layer", scorer.layer.encode()),
        ("content-type", content),
    ]


def _read_batch(value: bytes) -> CodeRows:
    table = take_columns(open_arrow(value), ["offset", "timestamp", "key", "code"])
    metadata = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
    code = table.column("code")
    if not pa.types.is_fixed_size_list(code.type) or code.type.value_type not in _NUMBERS or code.null_count:
        raise ValueError(f"code is {code.type}")
    return CodeRows(
        topic=metadata["topic"],
        partition=int(metadata["partition"]),
        offsets=table.column("offset").to_numpy(),
        timestamps=table.column("timestamp").cast(pa.int64()).to_numpy(),
        keys=table.column("key"),
        codes=code.flatten().to_numpy().reshape(len(code), code.type.list_size),
        model=metadata["model"],
        version=int(metadata["version"]),
        layer=metadata["layer"],
    )


def _read_frame(
    value: bytes, named: dict[str, bytes], key: bytes | None, timestamp_ms: int, dtype: np.dtype[Any]
) -> CodeRows:
    return CodeRows(
        topic=named["ls-topic"].decode(),
        partition=int(named["ls-partition"]),
        offsets=np.array([int(named["ls-first-offset"])], dtype=np.int64),
        timestamps=np.array([timestamp_ms], dtype=np.int64),
        keys=pa.array([key], pa.binary()),
        codes=np.frombuffer(value, dtype).reshape(1, -1),
        model=named["ls-model"].decode(),
        version=int(named["ls-version"]),
        layer=named["ls-layer"].decode(),
    )
