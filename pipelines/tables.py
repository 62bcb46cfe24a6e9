"""What is written to Parquet: one Arrow schema per kind of file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.frame_batch import InferredBatch, RawBatch, Scorer
from pipelines.records import TIME, CodeRows

_LINEAGE_FIELDS = [
    ("topic", pa.string()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("timestamp", TIME),
    ("key", pa.binary()),
    ("model", pa.string()),
    ("version", pa.int32()),
    # Which of a stream's models it is: own, cohort, global or statistics.
    ("layer", pa.string()),
]
SCORE_SCHEMA = pa.schema(
    [
        *_LINEAGE_FIELDS,
        ("error", pa.float32()),
        ("latent_distance", pa.float32()),
        ("score", pa.float32()),
        # As the score was compared: float32, so that score >= threshold says the same as alert.
        ("threshold", pa.float32()),
        ("alert", pa.bool_()),
        # Share of the frame's samples that are missing.
        ("missing", pa.float32()),
    ]
)
# A list of any size: versions of a model may differ in it. And of floats, whatever a code's type: readers of a folder
# want one type for a column, float32 holds every step of int8 exactly, and Parquet's dictionary of at most 255 steps
# writes each in one byte all the same.
CODE_SCHEMA = pa.schema([*_LINEAGE_FIELDS, ("code", pa.list_(pa.float32()))])
# What `decode` writes: a frame sample by sample, and in each sample channel by channel.
FRAME_SCHEMA = pa.schema([*_LINEAGE_FIELDS, ("frame", pa.list_(pa.float32()))])
_CHANNEL_FIELDS = [
    ("channel", pa.string()),
    ("unit", pa.string()),
    ("share", pa.float32()),
    ("sample", pa.int32()),
    ("expected", pa.float32()),
    ("seen", pa.float32()),
]
ALERT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("stream", pa.string()),
        ("rule", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", TIME),
        ("key", pa.string()),
        ("model", pa.string()),
        ("version", pa.int32()),
        ("layer", pa.string()),
        ("error", pa.float32()),
        ("latent_distance", pa.float32()),
        ("missing", pa.float32()),
        ("score", pa.float32()),
        ("threshold", pa.float32()),
        ("severity", pa.string()),
        ("channels", pa.list_(pa.struct(_CHANNEL_FIELDS))),
    ]
)


def score_table(batch: InferredBatch) -> pa.Table:
    """The rows of the scores' Parquet files."""
    scores = [batch.errors, batch.latent_distance, batch.scores, batch.thresholds, batch.alerting, batch.missing]
    return pa.table([*_lineage(batch), *map(pa.array, scores)], schema=SCORE_SCHEMA)


def code_table(batch: InferredBatch) -> pa.Table:
    """The rows of the codes' Parquet files."""
    return pa.table([*_lineage(batch), list_column(batch.codes)], schema=CODE_SCHEMA)


def _lineage(batch: InferredBatch) -> list[pa.Array]:
    return lineage_columns(batch.records, batch.scorers, batch.scored_by)


def lineage_columns(
    rows: RawBatch | CodeRows, scorers: Sequence[Scorer | CodeRows], by: NDArray[Any]
) -> list[pa.Array]:
    """The first columns of every table: where a frame came from, and what scored it.

    Args:
        rows: where the n frames came from.
        scorers: model, version and layer of each that scored any of them.
        by: (n,) the place in ``scorers`` of each frame's.
    """
    n, place = len(rows), pa.array(by)
    return [
        pa.repeat(rows.topic, n),
        pa.repeat(pa.scalar(rows.partition, pa.int32()), n),
        pa.array(rows.offsets),
        pa.array(rows.timestamps).view(TIME),
        rows.keys,
        pa.array([scorer.model for scorer in scorers], pa.string()).take(place),
        pa.array([scorer.version for scorer in scorers], pa.int32()).take(place),
        pa.array([scorer.layer for scorer in scorers], pa.string()).take(place),
    ]


def list_column(rows: NDArray[Any]) -> pa.ListArray:
    """A column of lists of float32 from (n, width), without a copy of contiguous float32 rows."""
    n, width = rows.shape
    starts = pa.array(np.arange(n + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(starts, pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1)))
