"""Reads what ``--data`` names, block by block.

file.npz::array             rows are samples, columns are channels; one dimension is one channel;
                            three are items, such as images: each is a frame, its rows samples
file.parquet, file.csv      columns by the channels' names; others, such as a timestamp, are left out
file.wav                    PCM of 16 bits, as float32 in [-1, 1)
folder::array               that array of every NPZ file in the folder
a folder of one of the last three kinds; as above, every file is a recording of its own
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines.sample_files import Samples, open_npz, open_table, open_wav

# Values in one block: 4 MiB of float32, whatever the number of channels.
BLOCK_VALUES = 1 << 20
_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".wav": "wav"}


@dataclass(frozen=True)
class Recording:
    """One unbroken signal: frames are cut within it and never across two of them.

    Args:
        source: file name and array, as messages and score tables give it.
        key: its device, which a topic would carry as the record's key.
        samples: where they are, and how many.
    """

    source: str
    key: str
    samples: Samples

    @property
    def rows(self) -> int:
        """Samples per channel."""
        return self.samples.rows


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive samples of one recording.

    Args:
        source: of the recording.
        key: likewise.
        start: row of the first sample within the recording.
        samples: (n, channels) float32, in the channels' own units.
    """

    source: str
    key: str
    start: int
    samples: NDArray[np.float32]


def find_recordings(data: str, contract: FrameContract) -> list[Recording]:
    """The recordings that ``data`` names, in order of their names; only headers are read.

    Raises:
        ConfigError: there are none, or one does not fit the contract; the message names it.
    """
    path_text, _, array = data.partition("::")
    path = Path(path_text)
    if not path.exists():
        raise ConfigError(f"data: expected a file or folder. Received: {path_text}, which is absent.")
    if path.is_dir():
        files = _arrays(path) if array else _files(path)
        return [_open(file, file.relative_to(path), array, contract) for file in files]
    return [_open(path, Path(path.name), array, contract)]


def iter_blocks(data: str, contract: FrameContract) -> Iterator[Block]:
    """All samples of ``data``, recording by recording, in blocks that fit in memory.

    Raises:
        ConfigError: the data are absent, unreadable, or do not fit the contract.
    """
    for recording in find_recordings(data, contract):
        yield from read_blocks(recording, 0, recording.rows, contract)


def read_blocks(recording: Recording, start: int, stop: int, contract: FrameContract | None = None) -> Iterator[Block]:
    """The rows ``start`` to ``stop`` - 1 of a recording, in order.

    With a contract blocks are small enough for the frames that are cut of them to be no more than BLOCK_VALUES:
    of frames of 100 samples with hop 1 every sample is in a hundred.
    """
    copies = contract.length / contract.hop if contract else 1
    rows_at_once = max(1, int(BLOCK_VALUES / (recording.samples.channels * copies)))
    for samples in recording.samples.read(start, stop, rows_at_once):
        yield Block(recording.source, recording.key, start, samples)
        start += len(samples)


def _arrays(folder: Path) -> list[Path]:
    # One without the array is refused when it is opened: a device left out in silence is watched by nobody.
    files = sorted(file for file in folder.rglob("*.npz") if file.is_file())
    if not files:
        raise ConfigError(f"data folder {folder}: expected NPZ files, for FOLDER::ARRAY. Received: none.")
    return files


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        raise ConfigError(
            f"data folder {folder}: expected files of one kind of {', '.join(_SUFFIXES)}. "
            f"Received: {', '.join(kinds) or 'none'}."
        )
    return files


def _open(path: Path, name: Path, array: str, contract: FrameContract) -> Recording:
    key = name.with_suffix("").as_posix()
    if array or path.suffix == ".npz":
        return Recording(f"{name.as_posix()}::{array}", key, open_npz(path, array, contract))
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"data {path}: expected FILE.npz::ARRAY, {', '.join(_SUFFIXES)} or a folder. Received: {path.name}."
        )
    samples = open_wav(path, contract) if kind == "wav" else open_table(path, contract)
    return Recording(name.as_posix(), key, samples)
