"""The unit of flow: contiguous records of one partition, as columns.

    RawBatch       what Kafka gave: offsets, timestamps, keys, values, headers
    FrameBatch     the same records with their frames decoded, (n, length, channels)
    InferredBatch  the same frames with all that the model says of them
    Outcome        an InferredBatch, or the frames that the model could not take

A frame becomes an element of its own only as an alert or a dead letter. On the
wire a batch is a bare Arrow message behind a fingerprint of its schema; a worker
of another build refuses it by name and does not misread it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.frames import missing_share
from ae_model.scopes import Layer

Headers = list[tuple[str, bytes]]

_HEADERS_TYPE = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
RAW_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("timestamp", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", _HEADERS_TYPE),
    ]
)
_FINGERPRINT = hashlib.sha256(str(RAW_SCHEMA).encode()).digest()[:16]
# fingerprint, partition, span (-1, -1 without one), bytes of the topic's name
_HEAD = struct.Struct(">16sIqqH")
_NO_SPAN = (-1, -1)
# frames, length and channels of the samples that follow
_SHAPE = struct.Struct(">III")


@dataclass(frozen=True, eq=False)
class RawBatch:
    """Records of one partition as they came, in offset order.

    Args:
        topic: where they came from.
        partition: likewise.
        offsets: (n,) int64, rising; gaps are allowed (compaction, transactions).
        timestamps: (n,) int64, event time in milliseconds since 1970.
        keys: (n,) binary; null where a record has none.
        values: (n,) binary; null for a tombstone.
        headers: one list per record, or None when no record has any.
        span: first and last offset that the batch answers for, where that is more than its
            records: dead letters and gaps between them. None takes the records' own.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    keys: pa.BinaryArray
    values: pa.BinaryArray
    headers: tuple[Headers, ...] | None = None
    span: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Number of records."""
        return len(self.offsets)

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return int(self.offsets[0])

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self.offsets[-1])

    @property
    def answers_for(self) -> tuple[int, int]:
        """First and last offset that were read to make this batch, and belong to no other."""
        return self.span or (self.first_offset, self.last_offset)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, cheap enough to ask per batch."""
        return int(self.values.nbytes + self.keys.nbytes)

    def take(self, rows: NDArray[Any]) -> RawBatch:
        """The records at ``rows``, a boolean mask (n,) or rising indices; the span stays whole."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        chosen = pa.array(index)
        return replace(
            self,
            span=self.answers_for if len(self) else None,
            offsets=self.offsets[index],
            timestamps=self.timestamps[index],
            keys=self.keys.take(chosen),
            values=self.values.take(chosen),
            headers=None if self.headers is None else tuple(self.headers[i] for i in index),
        )

    def slice(self, start: int, stop: int) -> RawBatch:
        """The records ``start`` to ``stop`` - 1, without a copy; spans of slices in a row touch."""
        return replace(
            self,
            span=self._cut_span(start, min(stop, len(self))),
            offsets=self.offsets[start:stop],
            timestamps=self.timestamps[start:stop],
            keys=self.keys.slice(start, stop - start),
            values=self.values.slice(start, stop - start),
            headers=None if self.headers is None else self.headers[start:stop],
        )

    def _cut_span(self, start: int, stop: int) -> tuple[int, int] | None:
        # offsets      4 . 6 7 . 9        span 3..11
        # slice(0, 2)  4 . 6              span 3..6
        # slice(2, 4)        7 . 9        span 7..11
        if start >= stop:
            return None
        first, last = self.answers_for
        return (
            first if start == 0 else int(self.offsets[start - 1]) + 1,
            last if stop == len(self) else int(self.offsets[stop - 1]),
        )

    def to_bytes(self) -> bytes:
        """The wire form; see the module's docstring."""
        headers = self.headers or ([],) * len(self)
        columns = [
            pa.array(self.offsets),
            pa.array(self.timestamps),
            self.keys,
            self.values,
            pa.array([[{"key": k, "value": v} for k, v in row] for row in headers], _HEADERS_TYPE),
        ]
        topic = self.topic.encode()
        body = pa.RecordBatch.from_arrays(columns, schema=RAW_SCHEMA).serialize()
        return b"".join(
            [_HEAD.pack(_FINGERPRINT, self.partition, *(self.span or _NO_SPAN), len(topic)), topic, memoryview(body)]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> RawBatch:
        """Read the wire form; the columns are views of ``data``.

        Raises:
            ValueError: the bytes were written with another schema.
        """
        fingerprint, partition, first, last, topic_bytes = _HEAD.unpack_from(data)
        if fingerprint != _FINGERPRINT:
            raise ValueError(
                f"raw batch: expected schema {_FINGERPRINT.hex()}. Received: {fingerprint.hex()}. "
                "Run the same version of latentstream on every worker."
            )
        start = _HEAD.size + topic_bytes
        body = pa.ipc.read_record_batch(pa.py_buffer(data)[start:], RAW_SCHEMA)
        return cls(
            topic=data[_HEAD.size : start].decode(),
            partition=partition,
            offsets=body.column(0).to_numpy(),
            timestamps=body.column(1).to_numpy(),
            keys=body.column(2),
            values=body.column(3),
            headers=_read_headers(body.column(4)),
            span=None if (first, last) == _NO_SPAN else (first, last),
        )


def _read_headers(column: pa.ListArray) -> tuple[Headers, ...] | None:
    if len(column.values) == 0:
        return None
    return tuple([(pair["key"], pair["value"]) for pair in row] for row in column.to_pylist())


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Records with their frames decoded.

    Args:
        records: the n records, whose original bytes a dead letter would keep.
        frames: (n, length, channels) float32; finite, but for NaN where the contract allows samples to be missing.
    """

    records: RawBatch
    frames: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def take(self, rows: NDArray[Any]) -> FrameBatch:
        """The frames at ``rows``, a boolean mask (n,) or rising indices."""
        return FrameBatch(self.records.take(rows), self.frames[rows])

    def slice(self, start: int, stop: int) -> FrameBatch:
        """The frames ``start`` to ``stop`` - 1, without a copy."""
        return FrameBatch(self.records.slice(start, stop), self.frames[start:stop])

    def to_bytes(self) -> bytes:
        """The frames' shape and samples, then the records' wire form."""
        samples = np.ascontiguousarray(self.frames, dtype="<f4")
        return b"".join([_SHAPE.pack(*self.frames.shape), samples.tobytes(), self.records.to_bytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameBatch:
        """Read the wire form."""
        shape = _SHAPE.unpack_from(data)
        count = int(np.prod(shape))
        samples = np.frombuffer(data, dtype="<f4", offset=_SHAPE.size, count=count)
        return cls(RawBatch.from_bytes(data[_SHAPE.size + 4 * count :]), samples.reshape(shape))


@dataclass(frozen=True)
class Scorer:
    """What scored a frame: one version of a model.

    Args:
        model: name of the artifact.
        version: its version.
        layer: whether it is the key's own, its cohort's, that of all keys, or robust statistics.
        threshold: the artifact's cut-off on the score.
    """

    model: str
    version: int
    layer: Layer
    threshold: float


@dataclass(frozen=True, eq=False)
class InferredBatch:
    """Frames with all that the models of their keys say of them.

    Args:
        batch: the n frames and their records.
        codes: (n, latent) float32 or int8, as the artifact says.
        denoised: (n, length, channels) float32, in the frames' own units.
        errors: (n,) float32, reconstruction error in squared scaled units.
        channel_errors: (n, channels) float32, the same per channel.
        latent_distance: (n,) float32, distance of the code from the calibration codes.
        scores: (n,) float32; at or above the scorer's threshold is an alert.
        scorers: each model version that scored any of them; one, unless the stream has a model per key.
        scored_by: (n,) int32, the place in ``scorers`` of the one that scored each frame.
    """

    batch: FrameBatch
    codes: NDArray[Any]
    denoised: NDArray[np.float32]
    errors: NDArray[np.float32]
    channel_errors: NDArray[np.float32]
    latent_distance: NDArray[np.float32]
    scores: NDArray[np.float32]
    scorers: tuple[Scorer, ...]
    scored_by: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.scores)

    @property
    def records(self) -> RawBatch:
        """The records the frames came in."""
        return self.batch.records

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """(n,) the cut-off on each frame's score, in float32 as the score is."""
        return np.array([scorer.threshold for scorer in self.scorers], np.float32)[self.scored_by]

    @cached_property
    def missing(self) -> NDArray[np.float32]:
        """(n,): the share of each frame's samples that are missing; where it is 1, nothing was there."""
        # Kept, as each alert asks for its own: a storm would go through all frames once per alert.
        return missing_share(self.batch.frames)

    @property
    def alerting(self) -> NDArray[np.bool_]:
        """(n,) True where the score is not below the threshold; NaN alerts too."""
        return ~(self.scores < self.thresholds)

    def scorer(self, row: int) -> Scorer:
        """What scored the frame ``row``."""
        return self.scorers[int(self.scored_by[row])]

    def count_layers(self) -> dict[Layer, int]:
        """Frames by the layer of what scored them."""
        if len(self.scorers) == 1:
            return {self.scorers[0].layer: len(self)}
        counts: dict[Layer, int] = {}
        for scorer, frames in zip(self.scorers, np.bincount(self.scored_by, minlength=len(self.scorers)), strict=True):
            counts[scorer.layer] = counts.get(scorer.layer, 0) + int(frames)
        return counts

    def parts(self) -> Iterator[tuple[Scorer, NDArray[np.int64]]]:
        """Each scorer with the rows that it scored, rising; in order of their first rows."""
        used, first = np.unique(self.scored_by, return_index=True)
        for place in used[np.argsort(first)]:
            yield self.scorers[place], np.flatnonzero(self.scored_by == place)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of frames given to the model: one of the two fields is set.

    Args:
        inferred: the frames with what the model says of them.
        failed: the frames the model could not take.
        reason: why, for those.
    """

    inferred: InferredBatch | None = None
    failed: FrameBatch | None = None
    reason: str = ""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.inferred or self.failed or ())
