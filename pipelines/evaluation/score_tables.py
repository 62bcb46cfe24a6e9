"""Scores that ``score`` or ``run`` wrote, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines.evaluation.observation import Scores

_COLUMNS = ["topic", "partition", "offset", "score", "threshold", "alert"]


def read_scores(path: str, frames: int, contract: FrameContract) -> Scores:
    """The rows of a score table, in order of their offsets.

    Args:
        path: folder that ``score`` or ``run`` wrote, or one Parquet file of its rows.
        frames: how many the labelled recording has.
        contract: what a frame is.

    Raises:
        ConfigError: there are none, they cannot be read, they come from several sources, or an offset is not
            that of a frame of the recording.
    """
    from pipelines.parquet_files import read_table

    try:
        file = Path(path)
        table = pa.parquet.read_table(file, columns=_COLUMNS) if file.is_file() else read_table(file, "scores")
    except (OSError, pa.ArrowException) as exc:
        raise ConfigError(f"scores {path}: expected a readable score table. Received: {exc}.") from exc
    _check_one_source(table, path)
    table = table.sort_by("offset")
    return Scores(
        numbers=frame_numbers(table["offset"].to_numpy(), frames, contract),
        scores=table["score"].to_numpy().astype(np.float64),
        alerts=table["alert"].to_numpy(),
        threshold=float(table["threshold"][0].as_py()),
    )


def frame_numbers(offsets: NDArray[np.int64], frames: int, contract: FrameContract) -> NDArray[np.int64]:
    """The number of each frame within its recording, from the row of its last sample.

    Raises:
        ConfigError: an offset is no such row, or lies outside the labels.
    """
    numbers, rest = np.divmod(offsets - (contract.length - 1), contract.hop)
    wrong = np.flatnonzero((rest != 0) | (numbers < 0) | (numbers >= frames))
    if len(wrong):
        raise ConfigError(
            f"scores: expected offsets of the {frames} labelled frames of length {contract.length}, "
            f"hop {contract.hop}. Received: offset={offsets[wrong[0]]}. Give the labels of the data that were scored."
        )
    unique: NDArray[np.int64] = numbers
    return unique


def _check_one_source(table: pa.Table, path: str) -> None:
    sources = {(topic, partition) for topic, partition in zip(*_lists(table, "topic", "partition"), strict=True)}
    if len(sources) != 1:
        raise ConfigError(
            f"scores {path}: expected rows of one recording. Received: {len(sources)} recordings. "
            "Score each into a folder of its own."
        )


def _lists(table: pa.Table, *names: str) -> Iterator[list[Any]]:
    return (table[name].to_pylist() for name in names)
