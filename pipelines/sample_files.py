"""The file formats behind ``--data``: each is opened by its header and read row block by row block."""

from __future__ import annotations

import wave
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ae_model.config import FrameContract, hint
from ae_model.exceptions import ConfigError

# A full-scale sample of PCM16.
PCM16_SCALE = 32768.0
_DELIMITERS = ",;\t"
# Of each column of a Parquet file at a time, however large its row groups are.
_BUFFER_BYTES = 1 << 20


class Samples(ABC):
    """Samples in a file; picklable, and nothing stays open between calls.

    ``item_rows`` is how many rows make one item, such as an image; items do not go on in each other. None for a signal.
    """

    rows: int
    channels: int
    item_rows: int | None = None

    @abstractmethod
    def read(self, start: int, stop: int, rows_at_once: int) -> Iterator[NDArray[np.float32]]:
        """The rows ``start`` to ``stop`` - 1 as (n, channels) float32, at most ``rows_at_once`` at a time."""


@dataclass(frozen=True)
class NpzSamples(Samples):
    """One array of an NPZ file; of items, their rows end to end."""

    path: Path
    array: str
    rows: int
    channels: int
    item_rows: int | None = None

    def read(self, start: int, stop: int, rows_at_once: int) -> Iterator[NDArray[np.float32]]:
        """Inflate no more of the array than one block at a time."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.array}.npy") as member:
            _, fortran, dtype = _read_header(member)
            if fortran:
                # Its rows are scattered over the whole file.
                member.seek(0)
                columns = np.lib.format.read_array(member).reshape(self.rows, self.channels)
                yield from _sliced(columns, start, stop, rows_at_once)
                return
            row_bytes = dtype.itemsize * self.channels
            member.seek(start * row_bytes, 1)
            for first in range(start, stop, rows_at_once):
                data = member.read((min(first + rows_at_once, stop) - first) * row_bytes)
                yield _as_float32(np.frombuffer(data, dtype).reshape(-1, self.channels))


def open_npz(path: Path, array: str, contract: FrameContract) -> NpzSamples:
    """Check one array of an NPZ file.

    Raises:
        ConfigError: the file or array is absent, or its shape or type is not that of samples.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if array not in names:
                raise ConfigError(
                    f"data {path}: expected ::ARRAY with one of {', '.join(sorted(names))}. "
                    f"Received: {array or 'none'}.{hint(array, names)}"
                )
            with archive.open(f"{array}.npy") as member:
                shape, _, dtype = _read_header(member)
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise _unreadable(path, "NPZ", exc) from exc
    where = f"data {path}::{array}"
    if dtype.kind not in "fiub" or len(shape) not in (1, 2, 3):
        raise ConfigError(
            f"{where}: expected numbers: rows of samples in one or two dimensions, or items of rows and channels in "
            f"three. Received: shape={shape}, dtype={dtype}."
        )
    if len(shape) == 3:
        return _open_items(path, array, shape, contract)
    channels = shape[1] if len(shape) == 2 else 1
    _check_channels(where, channels, contract)
    return NpzSamples(path, array, shape[0], channels)


def _open_items(path: Path, array: str, shape: tuple[int, ...], contract: FrameContract) -> NpzSamples:
    count, rows, channels = shape
    if (rows, channels) != contract.shape or contract.hop != contract.length:
        raise ConfigError(
            f"data {path}::{array}: expected items of one frame each, length x channels = {contract.length} x "
            f"{len(contract.channels)} with hop = length. Received: items of {rows} x {channels}, hop={contract.hop}. "
            "Correct frame.length and input.channels in the stream file."
        )
    return NpzSamples(path, array, count * rows, channels, item_rows=rows)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major, _ = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    return read(member)


def _sliced(columns: NDArray[Any], start: int, stop: int, rows_at_once: int) -> Iterator[NDArray[np.float32]]:
    for first in range(start, stop, rows_at_once):
        yield _as_float32(columns[first : min(first + rows_at_once, stop)])


def _as_float32(samples: NDArray[Any]) -> NDArray[np.float32]:
    # What is too large becomes infinite, and its frame unusable.
    with np.errstate(over="ignore"):
        return samples.astype(np.float32)


@dataclass(frozen=True)
class TableSamples(Samples):
    """Columns of a Parquet or CSV file, in the channels' order."""

    path: Path
    columns: tuple[str, ...]
    rows: int
    channels: int

    def read(self, start: int, stop: int, rows_at_once: int) -> Iterator[NDArray[np.float32]]:
        """Skip to ``start``, then one block at a time; an empty cell is NaN."""
        row = 0
        for batch in _batches(self.path, list(self.columns), rows_at_once):
            first, last = max(start - row, 0), min(stop - row, len(batch))
            row += len(batch)
            if first < last:
                yield from _sliced(self._stack(batch.slice(first, last - first)), 0, last - first, rows_at_once)
            if row >= stop:
                return

    def _stack(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        columns = [batch.column(name).cast(pa.float64(), safe=False) for name in self.columns]
        return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def open_table(path: Path, contract: FrameContract) -> TableSamples:
    """Check the columns of a Parquet or CSV file, and count its rows.

    Raises:
        ConfigError: it cannot be read, or a channel has no column of numbers.
    """
    try:
        schema = _schema(path)
        _check_columns(path, schema, contract)
        rows = _count(path, contract.channels[0])
    except (OSError, pa.ArrowException) as exc:
        raise _unreadable(path, "Parquet" if _is_parquet(path) else "CSV", exc) from exc
    return TableSamples(path, contract.channels, rows, len(contract.channels))


def _check_columns(path: Path, schema: pa.Schema, contract: FrameContract) -> None:
    for channel in contract.channels:
        if channel not in schema.names:
            raise ConfigError(
                f"data {path}: expected a column for each channel. Received: no column {channel!r} in "
                f"{', '.join(schema.names)}.{hint(channel, set(schema.names))}"
            )
        kind = schema.field(channel).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise ConfigError(f"data {path}: expected numbers in column {channel!r}. Received: {kind}.")


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _schema(path: Path) -> pa.Schema:
    if _is_parquet(path):
        return pa.parquet.read_schema(path)
    with _open_csv(path) as reader:
        return reader.schema


def _count(path: Path, column: str) -> int:
    if _is_parquet(path):
        return int(pa.parquet.read_metadata(path).num_rows)
    with _open_csv(path, [column]) as reader:
        return sum(len(batch) for batch in reader)


def _batches(path: Path, columns: list[str], rows_at_once: int) -> Iterator[pa.RecordBatch]:
    try:
        if _is_parquet(path):
            # What Arrow reads ahead it keeps until the end, which comes to the whole file.
            with pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
                yield from file.iter_batches(rows_at_once, columns=columns)
        else:
            with _open_csv(path, columns) as reader:
                yield from reader
    except pa.ArrowException as exc:
        raise _unreadable(path, "Parquet" if _is_parquet(path) else "CSV", exc) from exc


def _open_csv(path: Path, columns: list[str] | None = None) -> Any:
    # Numbers without a decimal point would otherwise fix a column as integers from the first block.
    types = {name: pa.float64() for name in columns or []}
    return pa.csv.open_csv(
        path,
        parse_options=pa.csv.ParseOptions(delimiter=_delimiter(path)),
        convert_options=pa.csv.ConvertOptions(include_columns=columns or [], column_types=types),
    )


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max(_DELIMITERS, key=header.count)


@dataclass(frozen=True)
class WavSamples(Samples):
    """A WAV file of 16 bits per sample."""

    path: Path
    rows: int
    channels: int

    def read(self, start: int, stop: int, rows_at_once: int) -> Iterator[NDArray[np.float32]]:
        """Samples in [-1, 1)."""
        with wave.open(str(self.path), "rb") as file:
            file.setpos(start)
            for first in range(start, stop, rows_at_once):
                data = file.readframes(min(first + rows_at_once, stop) - first)
                yield np.frombuffer(data, "<i2").reshape(-1, self.channels).astype(np.float32) / PCM16_SCALE


def open_wav(path: Path, contract: FrameContract) -> WavSamples:
    """Check the header of a WAV file.

    Raises:
        ConfigError: it is not PCM of 16 bits, or its rate or channels are not the contract's.
    """
    try:
        with wave.open(str(path), "rb") as file:
            header = file.getparams()
    except (OSError, EOFError, wave.Error) as exc:
        raise _unreadable(path, "WAV", exc) from exc
    if header.sampwidth != 2:
        raise ConfigError(f"data {path}: expected PCM of 16 bits. Received: {8 * header.sampwidth} bits.")
    if contract.rate_hz is not None and header.framerate != contract.rate_hz:
        raise ConfigError(
            f"data {path}: expected rate_hz={contract.rate_hz:g}, as in the stream file. "
            f"Received: rate_hz={header.framerate}. Resample the file, or correct the stream file."
        )
    _check_channels(str(path), header.nchannels, contract)
    return WavSamples(path, header.nframes, header.nchannels)


def _check_channels(where: str, channels: int, contract: FrameContract) -> None:
    if channels != len(contract.channels):
        raise ConfigError(
            f"data {where}: expected {len(contract.channels)} channels, as in the stream file. "
            f"Received: {channels} channels."
        )


def _unreadable(path: Path, kind: str, exc: Exception) -> ConfigError:
    return ConfigError(f"data {path}: expected a readable {kind} file. Received: {type(exc).__name__}: {exc}.")
