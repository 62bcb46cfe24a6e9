"""How Beam moves the units of flow: cheap to size, never pickled, and whole as a batch.

Importing this module registers the coders and the batch converter; every module
that builds or runs the graph imports it, on the workers too.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import astuple

import apache_beam as beam
import numpy as np
from apache_beam.typehints.batch import BatchConverter

from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome, RawBatch, Scorer

# bytes of the frame batch and of the arrays; the scorers follow as JSON
_INFERRED = struct.Struct(">QQ")
_ARRAYS = ("codes", "denoised", "errors", "channel_errors", "latent_distance", "scores", "scored_by")
# A guess suffices: Beam asks for a size to throttle and to report, per element.
_BATCH_OVERHEAD_BYTES = 256
# offset, timestamp and the offsets of the headers
_RECORD_OVERHEAD_BYTES = 20


class Frame:
    """One frame as Beam's type system sees it; none is ever made.

    Beam wants to know what a batch is a batch *of*. Frames only travel as a
    FrameBatch, so this name has no instances.
    """


class InferredFrame:
    """One inferred frame as Beam's type system sees it; none is ever made."""


class RawBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """RawBatch in its wire form."""

    def encode(self, value: RawBatch) -> bytes:
        """To bytes."""
        return value.to_bytes()

    def decode(self, encoded: bytes) -> RawBatch:
        """From bytes."""
        return RawBatch.from_bytes(encoded)

    def estimate_size(self, value: RawBatch) -> int:
        """Bytes on the wire, near enough."""
        return _records_size(value)

    def is_deterministic(self) -> bool:
        """The same batch always gives the same bytes."""
        return True


class FrameBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """FrameBatch in its wire form."""

    def encode(self, value: FrameBatch) -> bytes:
        """To bytes."""
        return value.to_bytes()

    def decode(self, encoded: bytes) -> FrameBatch:
        """From bytes."""
        return FrameBatch.from_bytes(encoded)

    def estimate_size(self, value: FrameBatch) -> int:
        """Bytes on the wire, near enough."""
        return int(value.frames.nbytes) + _records_size(value.records)

    def is_deterministic(self) -> bool:
        """The same batch always gives the same bytes."""
        return True


class InferredBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """InferredBatch: its frame batch, then the model's arrays as an NPZ without compression."""

    def encode(self, value: InferredBatch) -> bytes:
        """To bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(value, name) for name in _ARRAYS})
        batch, arrays = value.batch.to_bytes(), buffer.getvalue()
        scorers = json.dumps([astuple(scorer) for scorer in value.scorers]).encode()
        return b"".join([_INFERRED.pack(len(batch), len(arrays)), batch, arrays, scorers])

    def decode(self, encoded: bytes) -> InferredBatch:
        """From bytes."""
        batch_bytes, array_bytes = _INFERRED.unpack_from(encoded)
        middle = _INFERRED.size + batch_bytes
        stop = middle + array_bytes
        with np.load(io.BytesIO(encoded[middle:stop]), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        batch = FrameBatch.from_bytes(encoded[_INFERRED.size : middle])
        return InferredBatch(batch, **arrays, scorers=tuple(Scorer(*each) for each in json.loads(encoded[stop:])))

    def estimate_size(self, value: InferredBatch) -> int:
        """Bytes on the wire, near enough."""
        arrays = sum(int(getattr(value, name).nbytes) for name in _ARRAYS)
        return arrays + int(value.batch.frames.nbytes) + _records_size(value.records)


def _records_size(records: RawBatch) -> int:
    return records.nbytes + _RECORD_OVERHEAD_BYTES * len(records) + _BATCH_OVERHEAD_BYTES


class WholeBatchConverter(BatchConverter):  # type: ignore[misc]
    """Lets a batch be passed from one batched DoFn to the next, and nothing else.

    Taking a batch apart into frames, or putting frames together, would cost more
    than the model; a graph that would need it fails here, when it is first run.
    """

    PAIRS = ((Frame, FrameBatch), (InferredFrame, Outcome))

    @staticmethod
    @BatchConverter.register(name="latentstream")  # type: ignore[untyped-decorator]
    def from_typehints(element_type: type, batch_type: type) -> WholeBatchConverter:
        """Accept the two pairs of types above."""
        if (element_type, batch_type) not in WholeBatchConverter.PAIRS:
            raise TypeError(f"expected one of {WholeBatchConverter.PAIRS}")
        return WholeBatchConverter(batch_type, element_type)

    def get_length(self, batch: FrameBatch | Outcome) -> int:
        """Number of frames."""
        return len(batch)

    def estimate_byte_size(self, batch: FrameBatch | Outcome) -> int:
        """A fixed guess: it feeds a counter of Beam's, not a decision."""
        return _BATCH_OVERHEAD_BYTES * len(batch)

    def explode_batch(self, batch: FrameBatch | Outcome) -> Iterator[Frame]:
        """Refused; see the class."""
        raise TypeError(_REFUSAL)

    def produce_batch(self, elements: Sequence[Frame]) -> FrameBatch:
        """Refused; see the class."""
        raise TypeError(_REFUSAL)


_REFUSAL = "frame batch: expected to stay whole from StackFrames to UnstackFrames. Received: a step that wants frames."

beam.coders.registry.register_coder(RawBatch, RawBatchCoder)
beam.coders.registry.register_coder(FrameBatch, FrameBatchCoder)
beam.coders.registry.register_coder(InferredBatch, InferredBatchCoder)
