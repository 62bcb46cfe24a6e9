"""tf.Example protocol buffers, decoded by tfx-bsl a batch at a time.

One bad record fails the whole call, so a batch that fails is halved until the
records at fault stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.exceptions import FrameError, RecordError
from pipelines.formats.parsed import Parsed, collect, size_error
from pipelines.frame_batch import RawBatch


@dataclass(frozen=True)
class TfExampleParser:
    """Frames as one float feature of a tf.Example.

    Args:
        feature: its name.
        shape: (length, channels).
    """

    feature: str
    shape: tuple[int, int]

    def __call__(self, raw: RawBatch) -> Parsed:
        """Parse a batch; without a loop over its records when they are all right."""
        columns = self._decode(raw.values.to_pylist())
        if len(columns) == 1 and isinstance(columns[0], pa.Array) and self._is_clean(columns[0]):
            frames = columns[0].flatten().to_numpy().reshape(-1, *self.shape)
            return Parsed(np.ones(len(raw), np.bool_), raw, frames, [])
        outcomes: list[NDArray[np.float32] | RecordError] = []
        for column in columns:
            outcomes += [column] if isinstance(column, RecordError) else map(self._frame, column)
        return collect(raw, outcomes, self.shape)

    def _decode(self, values: list[bytes]) -> list[pa.Array | RecordError]:
        """Columns of lists, or the reason for a single record, in record order."""
        try:
            return [_make_decoder(self.feature).DecodeBatch(values).column(0)]
        except RuntimeError as exc:
            # A decoder that failed keeps the rows before the bad one and adds them to its next batch.
            _make_decoder.cache_clear()
            if len(values) == 1:
                return [self._fault(exc)]
        middle = len(values) // 2
        return self._decode(values[:middle]) + self._decode(values[middle:])

    def _fault(self, exc: RuntimeError) -> RecordError:
        if "wrong type" in str(exc):
            return FrameError("frame.dtype", f"{self.feature}: expected a list of floats. Received: {exc}.")
        return RecordError("schema.unknown", f"record: expected a tf.Example. Received: {exc}.")

    def _is_clean(self, column: pa.LargeListArray) -> bool:
        sizes = np.diff(column.offsets.to_numpy())
        return column.null_count == 0 and bool((sizes == self.shape[0] * self.shape[1]).all())

    def _frame(self, row: pa.LargeListScalar) -> NDArray[np.float32] | RecordError:
        if not row.is_valid:
            return RecordError("schema.incompatible", f"record: expected a feature {self.feature!r}. Received: none.")
        samples: NDArray[np.float32] = row.values.to_numpy()
        if len(samples) != self.shape[0] * self.shape[1]:
            return size_error(len(samples), self.shape)
        return samples.reshape(self.shape)


@lru_cache(maxsize=16)
def _make_decoder(feature: str) -> Any:
    """One decoder per process: it holds a C++ object that does not pickle."""
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    schema = schema_pb2.Schema()
    schema.feature.add(name=feature, type=schema_pb2.FLOAT)
    return ExamplesToRecordBatchDecoder(schema.SerializeToString())
