"""Arrow IPC: each record is a stream that holds one frame.

column `frame` of lists, one row       flat, or a list of samples with a list of channels each
one column per channel, `length` rows  numbers

Where samples may be missing, a null is one that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ae_model.config import Missing
from ae_model.exceptions import FrameError, RecordError
from pipelines.arrow_stream import open_arrow, take_columns
from pipelines.formats.parsed import Parsed, as_float32, parse_each, size_error
from pipelines.frame_batch import RawBatch


@dataclass(frozen=True)
class ArrowParser:
    """Frames as Arrow streams.

    Args:
        feature: column of lists, where there is one.
        channels: columns otherwise.
        shape: (length, channels).
        missing: whether null is a missing sample or refused.
    """

    feature: str
    channels: tuple[str, ...]
    shape: tuple[int, int]
    missing: Missing = "refuse"

    def __call__(self, raw: RawBatch) -> Parsed:
        """Parse record by record."""
        return parse_each(raw, self._parse, self.shape)

    def _parse(self, value: bytes) -> NDArray[np.float32]:
        table = open_arrow(value)
        if self.feature in table.column_names:
            return self._from_lists(take_columns(table, [self.feature]).column(0))
        if set(self.channels) <= set(table.column_names):
            return self._from_columns(take_columns(table, self.channels))
        raise RecordError(
            "schema.incompatible",
            f"record: expected a column {self.feature!r}, or one per channel {list(self.channels)[:10]}. "
            f"Received: {table.column_names[:10]}.",
        )

    def _from_lists(self, column: pa.Array) -> NDArray[np.float32]:
        samples = self._unnest(column)
        self._check_rows(len(column), 1)
        if _is_list(samples.type):
            sizes = pc.list_value_length(samples).to_pylist()
            wrong = next((i for i, size in enumerate(sizes) if size != self.shape[1]), None)
            if wrong is not None:
                raise FrameError(
                    "frame.channels",
                    f"{self.feature}[{wrong}]: expected {self.shape[1]} channels. Received: {sizes[wrong]}.",
                )
            samples = self._unnest(samples)
        numbers = self._numbers(samples, self.feature)
        if len(numbers) != self.shape[0] * self.shape[1]:
            raise size_error(len(numbers), self.shape)
        return numbers.reshape(self.shape)

    def _unnest(self, lists: pa.Array) -> pa.Array:
        if not _is_list(lists.type):
            raise FrameError("frame.dtype", f"{self.feature}: expected lists of numbers. Received: {lists.type}.")
        return lists.flatten()

    def _from_columns(self, rows: pa.RecordBatch) -> NDArray[np.float32]:
        self._check_rows(rows.num_rows, self.shape[0])
        return np.stack([self._numbers(rows.column(name), name) for name in self.channels], axis=1)

    def _numbers(self, column: pa.Array, name: str) -> NDArray[np.float32]:
        kind, nulls = column.type, 0 if self.missing == "mask" else column.null_count
        # A column that holds nothing but nulls has no type of its own.
        empty = self.missing == "mask" and pa.types.is_null(kind)
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or empty) or nulls:
            received = f"{kind} with {nulls} nulls" if nulls else kind
            raise FrameError("frame.dtype", f"{name}: expected numbers without nulls. Received: {received}.")
        # Nulls become NaN.
        return as_float32(
            column.cast(pa.float64()).to_numpy(zero_copy_only=False) if column.null_count else column.to_numpy()
        )

    def _check_rows(self, rows: int, expected: int) -> None:
        if rows != expected:
            raise FrameError(
                "frame.size",
                f"record: expected one frame, which is {expected} rows. Received: {rows}. Send one record per frame.",
            )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
