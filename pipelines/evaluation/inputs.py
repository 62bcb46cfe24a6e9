"""Recordings with what belongs to them: labels, classes or the clean signal, met by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from ae_model.frames import FrameCutter, usable
from pipelines.samples import Recording, find_recordings, read_blocks

_LABEL = FrameContract(channels=("label",))


def match(data: Sequence[Recording], other: Sequence[Recording], what: str) -> dict[str, Recording]:
    """By key of each recording of ``data``, the one of ``other`` that belongs to it.

    Raises:
        ConfigError: one has none; ``what`` names the others in the message.
    """
    if len(data) == len(other) == 1:
        return {data[0].key: other[0]}
    by_key = {recording.key: recording for recording in other}
    missing = [recording.key for recording in data if recording.key not in by_key]
    if missing:
        raise ConfigError(
            f"{what}: expected one for each of {len(data)} recordings, under the same name. "
            f"Received: none for {', '.join(missing[:3])}; there are {', '.join(sorted(by_key)[:3]) or 'none'}."
        )
    return {recording.key: by_key[recording.key] for recording in data}


def find_labels(labels: str) -> list[Recording]:
    """The recordings of labels: as for data, or ``PATH::COLUMN`` of CSV or Parquet files.

    Raises:
        ConfigError: there are none.
    """
    path, _, column = labels.partition("::")
    if column and not _holds_npz(Path(path)):
        return find_recordings(path, FrameContract(channels=(column,)))
    return find_recordings(labels, _LABEL)


def _holds_npz(path: Path) -> bool:
    return path.suffix == ".npz" or (path.is_dir() and any(path.rglob("*.npz")))


def read_labels(recording: Recording) -> NDArray[np.int64]:
    """One whole number per row, (rows,).

    Raises:
        ConfigError: some are no whole numbers of 0 and up.
    """
    values = read_rows(recording)[:, 0]
    good = (values >= 0) & (values == np.rint(values))
    if not good.all():
        raise ConfigError(
            f"labels {recording.source}: expected 0 or 1 per row, or the number of a class. "
            f"Received: {values[~good][0]:g}."
        )
    return values.astype(np.int64)


def read_rows(recording: Recording) -> NDArray[np.float32]:
    """All samples of a recording, (rows, channels)."""
    blocks = [block.samples for block in read_blocks(recording, 0, recording.rows)]
    return np.concatenate([np.empty((0, recording.samples.channels), np.float32), *blocks])


def iter_frames(recording: Recording, contract: FrameContract) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """The usable frames of a recording, block by block: their numbers (n,) and samples (n, length, channels)."""
    cutter, first = FrameCutter(contract.length, contract.hop), 0
    for block in read_blocks(recording, 0, recording.rows, contract):
        frames = cutter.push(block.samples)
        good = usable(frames, contract.missing)
        yield first + np.flatnonzero(good), frames[good]
        first += len(frames)


def count_frames(rows: int, contract: FrameContract) -> int:
    """How many frames so many rows give."""
    return max(0, (rows - contract.length) // contract.hop + 1)


def label_frames(labels: NDArray[Any], contract: FrameContract) -> NDArray[np.bool_]:
    """Which frames of a recording are labelled, (frames,): those that add a labelled row."""
    count = count_frames(len(labels), contract)
    stops = np.arange(count) * contract.hop + contract.length
    starts = np.concatenate([[0], stops[:-1]]) if count else stops
    before = np.concatenate([[0], np.cumsum(labels != 0)])
    labelled: NDArray[np.bool_] = before[stops] > before[starts]
    return labelled


def class_of_frames(classes: NDArray[np.int64], rows: int, contract: FrameContract, source: str) -> NDArray[np.int64]:
    """The class of each frame, (frames,): given frame by frame, or row by row, where its last sample counts.

    Raises:
        ConfigError: there are neither as many classes as frames nor as rows.
    """
    count = count_frames(rows, contract)
    if len(classes) == count:
        return classes
    if len(classes) != rows:
        raise ConfigError(
            f"labels {source}: expected one class for each of {count} frames or {rows} rows. "
            f"Received: {len(classes)} classes."
        )
    return classes[np.arange(count) * contract.hop + contract.length - 1]
