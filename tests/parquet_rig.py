"""Pieces for the Parquet folder, and what a reader sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small_batches import TOPIC, make_inferred

from pipelines import coders, parquet_writer
from pipelines.alerts import Alert
from pipelines.frame_batch import InferredBatch
from pipelines.parquet import as_piece
from pipelines.parquet_files import find_files, read_table
from pipelines.parquet_pieces import Piece
from pipelines.parquet_writer import ParquetFolder

assert coders  # registers the coder of InferredBatch
HOUR = f"topic={TOPIC}/dt=2026-11-21/hour=04"


def restart() -> None:
    parquet_writer._PARTITIONS.clear()


def explain(batch: InferredBatch) -> list[Alert]:
    """Alerts without a manifest."""
    return [
        Alert(
            id=f"{batch.records.offsets[row]:032x}",
            stream="plant",
            rule="threshold",
            key=None,
            topic=batch.records.topic,
            partition=batch.records.partition,
            offset=int(batch.records.offsets[row]),
            time=None,
            score=float(batch.scores[row]),
            threshold=batch.scorer(row).threshold,
            severity="warning",
            channels=(),
            model=batch.scorer(row).model,
            version=batch.scorer(row).version,
            layer=batch.scorer(row).layer,
            error=0.0,
            latent_distance=0.0,
            missing=0.0,
            timestamp=int(batch.records.timestamps[row]),
        )
        for row in np.flatnonzero(batch.alerting)
    ]


def piece(first: int, last: int, alerts: Sequence[int] = (), **options: Any) -> Piece:
    offsets = range(first, last + 1)
    return as_piece(make_inferred(offsets, scores=[2.0 * (o in alerts) for o in offsets], **options), explain)


def write(folder: Path, *pieces: Piece, segment: int = 100, topic: str = TOPIC) -> int:
    return ParquetFolder(folder, segment).write(topic, 3, pieces)


def ranges(folder: Path, kind: Any = "scores") -> list[tuple[int, int, int]]:
    return [(file.first, file.last, file.version) for file in find_files(folder, kind)]


def offsets(folder: Path, kind: Any = "scores") -> list[int]:
    found: list[int] = read_table(folder, kind).column("offset").to_pylist()
    return found


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
