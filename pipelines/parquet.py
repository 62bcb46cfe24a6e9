"""The Parquet sink: rows are durable before the source says that their offsets are done.

It runs fused with the model. What a bundle infers is kept in memory and written when the
bundle ends; no engine has to keep state for it, and a kill loses nothing that is not
read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.alerts import Alert, alert_table
from pipelines.frame_batch import InferredBatch
from pipelines.kafka.transactions import Transactions, bundle
from pipelines.meters import METERS
from pipelines.parquet_pieces import Piece
from pipelines.parquet_writer import SEGMENT_OFFSETS, ParquetFolder
from pipelines.tables import code_table, score_table

Explain = Callable[[InferredBatch], list[Alert]]
# A bundle may hold a whole backlog; writing early is safe, as a replay leaves out what is there.
MAX_BUFFERED_BYTES = 64 << 20
# In place of a version, in the names of files whose rows are by several models.
SEVERAL = 0


class WriteParquet(beam.PTransform):  # type: ignore[misc]
    """Writes InferredBatch elements to a folder of scores, codes and alerts.

    Args:
        folder: path of the folder, on a file system that all workers share.
        explain: from a batch to its alerts, picklable; None writes no alerts.
        model: what files are named by where several models score a batch, in place of the one that did; their
            version is 0, and each row names its own.
        segment_offsets: no file has rows on both sides of a multiple of this offset.
        transactions: what must not be committed before the rows of its offsets are published, if anything.
    """

    def __init__(
        self,
        folder: str,
        explain: Explain | None = None,
        model: str | None = None,
        segment_offsets: int = SEGMENT_OFFSETS,
        transactions: Transactions | None = None,
    ) -> None:
        """Keep the settings; nothing is made before a worker writes."""
        super().__init__()
        self._write = _WriteParquet(folder, explain, model, segment_offsets, transactions)

    def expand(self, inferred: beam.PCollection) -> Any:
        """One fused step with nothing behind it."""
        return inferred | "WriteFiles" >> beam.ParDo(self._write)


class _WriteParquet(beam.DoFn):  # type: ignore[misc]
    def __init__(
        self,
        folder: str,
        explain: Explain | None,
        model: str | None,
        segment_offsets: int,
        transactions: Transactions | None,
    ) -> None:
        self._transactions = transactions
        self._folder = ParquetFolder(Path(folder), segment_offsets)
        self._explain = explain
        self._model = model

    def start_bundle(self) -> None:
        if self._transactions is not None:
            bundle().join()
        self._pieces: dict[tuple[str, int, str], list[Piece]] = defaultdict(list)
        self._buffered = 0

    def process(self, batch: InferredBatch) -> None:
        if len(batch) == 0:
            return
        piece = as_piece(batch, self._explain, self._model)
        self._pieces[batch.records.topic, batch.records.partition, piece.model].append(piece)
        self._buffered += piece.nbytes
        if self._buffered > MAX_BUFFERED_BYTES:
            self._flush()

    def finish_bundle(self) -> None:
        self._flush()
        if self._transactions is not None:
            bundle().leave(self._transactions)

    def _flush(self) -> None:
        for (topic, partition, _), pieces in self._pieces.items():
            METERS.add("replayed", self._folder.write(topic, partition, pieces))
        self._pieces.clear()
        self._buffered = 0


def as_piece(batch: InferredBatch, explain: Explain | None = None, model: str | None = None) -> Piece:
    """The rows of a batch, which must not be empty; ``model`` as in WriteParquet."""
    first, last = batch.records.answers_for
    piece = Piece(
        first=first,
        last=last,
        model=model or batch.scorers[0].model,
        version=SEVERAL if model else batch.scorers[0].version,
        tables={"codes": code_table(batch), "scores": score_table(batch)},
    )
    if explain is not None:
        piece.tables["alerts"] = alert_table(explain(batch))
    return piece
