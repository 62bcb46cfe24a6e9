"""Frames of one device as a file that ``--data`` reads again.

hop < length, or length 1      Parquet, a row per sample: of each frame the samples that it adds
hop = length                   NPZ, an item per frame, which may be an image that must not be cut elsewhere

Where frames do not follow each other, a frame's length of missing rows lies between: no frame is cut across.

::

    frames      0 1 2 3      length 4, hop 2
                    2 3 4 5
                              (one is lost)
                                    8 9 10 11
    rows        0 1 2 3 4 5 - - - - 8 9 10 11
"""

from __future__ import annotations

import shutil
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ae_model.config import FrameContract

ITEMS = "frames"
# Values in one row group: 1 MiB of float32.
_GROUP_VALUES = 1 << 18


class RowsFile:
    """A Parquet file of samples, written as frames come."""

    def __init__(self, path: Path, contract: FrameContract) -> None:
        """Start it; the suffix is added to the path."""
        self._contract = contract
        self._schema = pa.schema([(name, pa.float32()) for name in contract.channels])
        self._writer = pq.ParquetWriter(f"{path}.parquet", self._schema)
        self._tail: NDArray[np.float32] | None = None
        self._pieces: list[NDArray[np.float32]] = []
        self._waiting = 0
        self.rows = 0
        self.gaps = 0

    def add(self, frames: NDArray[np.float32]) -> None:
        """The next frames (n, length, channels)."""
        for frame in frames:
            pieces = self._new_rows(frame)
            self._pieces += pieces
            self._waiting += sum(piece.size for piece in pieces)
            self._tail = frame[self._contract.hop :]
        if self._waiting >= _GROUP_VALUES:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._writer.close()

    def _new_rows(self, frame: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The rows that a frame adds to those there are."""
        if self._tail is None:
            return [frame]
        overlap = len(self._tail)
        if np.array_equal(self._tail, frame[:overlap], equal_nan=True):
            return [frame[overlap:]]
        self.gaps += 1
        return [np.full(frame.shape, np.nan, np.float32), frame]

    def _flush(self) -> None:
        if self._pieces:
            rows = np.concatenate(self._pieces)
            self._writer.write_table(pa.table(list(rows.T), schema=self._schema))
            self.rows += len(rows)
            self._pieces, self._waiting = [], 0


class ItemsFile:
    """An NPZ file of frames, whose array is ``frames``; they lie beside it until their number is known."""

    def __init__(self, path: Path, contract: FrameContract) -> None:
        """Start it; the suffix is added to the path."""
        self._path, self._shape = path, contract.shape
        self._waiting = Path(f"{path}.raw")
        self.rows = 0
        self.gaps = 0

    def add(self, frames: NDArray[np.float32]) -> None:
        """The next frames (n, length, channels)."""
        with self._waiting.open("ab") as file:
            file.write(np.ascontiguousarray(frames, "<f4").tobytes())
        self.rows += len(frames) * self._shape[0]

    def close(self) -> None:
        """Write the file; what lay beside it goes."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows // self._shape[0], *self._shape)}
        with zipfile.ZipFile(f"{self._path}.npz", "w", zipfile.ZIP_DEFLATED) as archive, ExitStack() as stack:
            member = stack.enter_context(archive.open(f"{ITEMS}.npy", "w", force_zip64=True))
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(stack.enter_context(self._waiting.open("rb")), member)
        self._waiting.unlink()
