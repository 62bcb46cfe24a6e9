"""Files of decoded frames: NPZ, Parquet or WAV, by the name's suffix."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError, SinkError
from pipelines.records import CodeRows
from pipelines.tables import FRAME_SCHEMA, lineage_columns, list_column

_PCM16_FULL_SCALE = 32768


@dataclass(frozen=True, eq=False)
class FrameRows:
    """Decoded frames and where they came from.

    Args:
        rows: their codes, with topic, partition, offsets, timestamps and keys.
        frames: (n, length, channels) float32 in own units.
        contract: what a frame is.
    """

    rows: CodeRows
    frames: NDArray[np.float32]
    contract: FrameContract


class Output(Protocol):
    """A file being written."""

    def add(self, rows: FrameRows) -> None:
        """Take in frames."""

    def close(self) -> None:
        """Write what is left, and close the file."""


@contextmanager
def open_output(path: Path) -> Iterator[Output]:
    """A file for frames, which appears whole when the block ends without an error.

    Raises:
        ConfigError: the suffix is not .npz, .parquet or .wav.
        SinkError: the file cannot be written.
    """
    kinds: dict[str, type[NpzOutput] | type[ParquetOutput] | type[WavOutput]] = {
        ".npz": NpzOutput,
        ".parquet": ParquetOutput,
        ".wav": WavOutput,
    }
    if path.suffix not in kinds:
        raise ConfigError(f"out: expected a name that ends in one of {sorted(kinds)}. Received: out={path}.")
    with whole_file(path) as temporary:
        output = kinds[path.suffix](temporary)
        yield output
        output.close()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place when the block ends without an error, and else is removed.

    Raises:
        SinkError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as exc:
        raise SinkError(f"out {path}: expected room and the right to write. Received: {exc}.") from exc
    finally:
        with suppress(OSError):
            temporary.unlink()


class NpzOutput:
    """Arrays by topic, partition and offset: frames, topics, partitions, offsets, timestamps, keys as text."""

    def __init__(self, path: Path) -> None:
        """Frames stay in memory until the end."""
        self._path = path
        self._parts: list[FrameRows] = []

    def add(self, rows: FrameRows) -> None:
        """Take in frames; all of one shape."""
        _require_same(
            self._parts, rows, "one shape of frames in an .npz; decode to .parquet", lambda r: r.contract.shape
        )
        self._parts.append(rows)

    def close(self) -> None:
        """Write the file."""
        columns: dict[str, Any] = {
            "frames": np.concatenate([part.frames for part in self._parts]),
            "topics": np.concatenate([np.full(len(part.rows), part.rows.topic) for part in self._parts]),
            "partitions": np.concatenate([np.full(len(part.rows), part.rows.partition) for part in self._parts]),
            "offsets": np.concatenate([part.rows.offsets for part in self._parts]),
            "timestamps": np.concatenate([part.rows.timestamps for part in self._parts]),
            "keys": np.concatenate([_texts(part.rows.keys) for part in self._parts]),
        }
        order = np.lexsort((columns["offsets"], columns["partitions"], columns["topics"]))
        with open(self._path, "wb") as stream:
            np.savez(stream, **{name: column[order] for name, column in columns.items()})


class ParquetOutput:
    """Rows as they come, a frame as one flat list; for any number of frames."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._writer = pq.ParquetWriter(path, FRAME_SCHEMA, compression="zstd")

    def add(self, rows: FrameRows) -> None:
        """Write frames as a row group."""
        columns = [
            *lineage_columns(rows.rows, [rows.rows], np.zeros(len(rows.rows), np.int32)),
            list_column(rows.frames.reshape(len(rows.frames), -1)),
        ]
        self._writer.write_table(pa.table(columns, schema=FRAME_SCHEMA))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class WavOutput:
    """16-bit audio: frames of one channel of one partition, end to end by offset."""

    def __init__(self, path: Path) -> None:
        """Frames stay in memory until the end."""
        self._path = path
        self._parts: list[FrameRows] = []

    def add(self, rows: FrameRows) -> None:
        """Take in frames of audio, -1 to 1."""
        check_audio(rows.contract)
        _require_same(self._parts, rows, "one rate in a .wav; decode to .npz", lambda r: r.contract.rate_hz)
        _require_same(
            self._parts, rows, "one partition in a .wav; decode to .npz", lambda r: (r.rows.topic, r.rows.partition)
        )
        self._parts.append(rows)

    def close(self) -> None:
        """Write the file; samples beyond full scale are clipped."""
        offsets = np.concatenate([part.rows.offsets for part in self._parts])
        samples = np.concatenate([part.frames for part in self._parts])[np.argsort(offsets)].reshape(-1)
        write_pcm16(self._path, samples, self._parts[0].contract.rate_hz or 0.0)


def check_audio(contract: FrameContract) -> None:
    """Refuse frames that are not pieces of one signal, to be laid end to end.

    Raises:
        ConfigError: they have several channels, no rate, or overlap.
    """
    if len(contract.channels) != 1 or contract.rate_hz is None or contract.hop != contract.length:
        raise ConfigError(
            "out: expected frames of one channel with rate_hz, and hop = length, for a .wav. "
            f"Received: {len(contract.channels)} channels, rate_hz={contract.rate_hz}, hop={contract.hop}, "
            f"length={contract.length}. Write an .npz."
        )


def write_pcm16(path: Path, samples: NDArray[Any], rate_hz: float) -> None:
    """Write samples (n,) of -1 to 1 as audio of 16 bits; those beyond full scale are clipped."""
    limits = np.iinfo(np.int16)
    pcm = np.clip(np.rint(samples.astype(np.float64) * _PCM16_FULL_SCALE), limits.min, limits.max).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(round(rate_hz))
        stream.writeframes(pcm.tobytes())


def _require_same(parts: list[FrameRows], rows: FrameRows, expected: str, trait: Callable[[FrameRows], Any]) -> None:
    if parts and trait(parts[0]) != trait(rows):
        raise ConfigError(f"out: expected {expected}. Received: {trait(parts[0])} and {trait(rows)}.")


def _texts(keys: pa.BinaryArray) -> NDArray[np.str_]:
    return np.array([(key or b"").decode(errors="backslashreplace") for key in keys.to_pylist()], dtype=np.str_)
