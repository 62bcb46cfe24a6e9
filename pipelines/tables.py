"""What is written to Parquet: one Arrow schema per kind of file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.frame_batch import InferredBatch
from pipelines.records import TIME

_LINEAGE_FIELDS = [
    ("topic", pa.string()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("timestamp", TIME),
    ("key", pa.binary()),
    ("model", pa.string()),
    ("version", pa.int32()),
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
    ]
)
# A list of any size: versions of a model may differ in it.
CODE_SCHEMA = pa.schema([*_LINEAGE_FIELDS, ("code", pa.list_(pa.float32()))])
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
        ("error", pa.float32()),
        ("latent_distance", pa.float32()),
        ("score", pa.float32()),
        ("threshold", pa.float32()),
        ("severity", pa.string()),
        ("channels", pa.list_(pa.struct(_CHANNEL_FIELDS))),
    ]
)


def score_table(batch: InferredBatch) -> pa.Table:
    """The rows of the scores' Parquet files."""
    threshold = np.full(len(batch), batch.threshold, np.float32)
    scores = [batch.errors, batch.latent_distance, batch.scores, threshold, batch.alerting]
    return pa.table([*_lineage_columns(batch), *map(pa.array, scores)], schema=SCORE_SCHEMA)


def code_table(batch: InferredBatch) -> pa.Table:
    """The rows of the codes' Parquet files."""
    n, latent = batch.codes.shape
    starts = pa.array(np.arange(n + 1, dtype=np.int32) * latent)
    codes = pa.ListArray.from_arrays(starts, pa.array(np.ascontiguousarray(batch.codes, np.float32).reshape(-1)))
    return pa.table([*_lineage_columns(batch), codes], schema=CODE_SCHEMA)


def _lineage_columns(batch: InferredBatch) -> list[pa.Array]:
    records, n = batch.records, len(batch)
    return [
        pa.repeat(records.topic, n),
        pa.repeat(pa.scalar(records.partition, pa.int32()), n),
        pa.array(records.offsets),
        pa.array(records.timestamps).view(TIME),
        records.keys,
        pa.repeat(batch.model, n),
        pa.repeat(pa.scalar(batch.version, pa.int32()), n),
    ]
