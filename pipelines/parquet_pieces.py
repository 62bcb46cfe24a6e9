"""Rows on their way into a Parquet file: pieces that come in, runs that go into one file."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ae_model.exceptions import SinkError
from pipelines.parquet_files import SCHEMAS, DataFile, Kind, make_name, make_path

# Floats are split by byte, which zstd packs best; few values repeat in them.
_FLOATS = ("error", "latent_distance", "score", "threshold", "code")
_REPEATING = ("key", "model", "layer", "missing", "stream", "rule", "severity")
_STATISTICS = ("offset", "timestamp", "score")


@dataclass(frozen=True)
class Piece:
    """Rows of contiguous records of one partition, by one model version.

    Args:
        first: first offset that the rows account for.
        last: last offset, likewise; an offset between without a row was a dead letter.
        model: name of the artifact.
        version: its version.
        tables: rows by kind, by offset.
    """

    first: int
    last: int
    model: str
    version: int
    tables: dict[Kind, pa.Table]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(table.nbytes for table in self.tables.values())

    def offsets(self, kind: Kind) -> NDArray[np.int64]:
        """(rows,) offsets of the rows of a kind."""
        offsets: NDArray[np.int64] = self.tables[kind].column("offset").to_numpy()
        return offsets

    def cut(self, kind: Kind, first: int, last: int) -> Run:
        """The rows of a kind from offset ``first`` to ``last``."""
        start, stop = np.searchsorted(self.offsets(kind), [first, last + 1])
        return Run(kind, first, last, self.model, self.version, [self.tables[kind].slice(start, stop - start)])


@dataclass
class Run:
    """Contiguous rows of one kind and one model version: what goes into one file."""

    kind: Kind
    first: int
    last: int
    model: str
    version: int
    tables: list[pa.Table]

    @property
    def rows(self) -> int:
        """Number of rows; alerts may have none."""
        return sum(table.num_rows for table in self.tables)

    def continues_with(self, other: Run) -> bool:
        """Whether the other run goes on where this one ends, by the same model version."""
        return (self.model, self.version, self.last + 1) == (other.model, other.version, other.first)

    def extend(self, other: Run) -> None:
        """Take in a run that goes on where this one ends."""
        self.last = other.last
        self.tables += other.tables

    def publish(self, folder: Path, topic: str, partition: int) -> DataFile:
        """Write the file; it is there whole when this returns, and not there at all before.

        Raises:
            SinkError: the folder cannot be written.
        """
        rows = pa.concat_tables(self.tables)
        name = make_name(topic, partition, self.first, self.last, self.model, self.version)
        path = make_path(folder, self.kind, topic, rows.column("timestamp")[0].value, name)
        _write_file(path, rows.drop_columns("topic").replace_schema_metadata(self._describe(topic, partition)))
        return DataFile(self.kind, topic, partition, self.first, self.last, self.model, self.version, path)

    def _describe(self, topic: str, partition: int) -> dict[str, str]:
        facts = {
            "kind": self.kind,
            "topic": topic,
            "partition": partition,
            "first_offset": self.first,
            "last_offset": self.last,
            "model": self.model,
            "version": self.version,
            "schema": hashlib.sha256(str(SCHEMAS[self.kind]).encode()).hexdigest()[:16],
        }
        return {f"latentstream.{name}": str(fact) for name, fact in facts.items()}


def sink_error(name: str, folder: Path, exc: Exception) -> SinkError:
    """The error for a file that could not be written."""
    return SinkError(
        f"parquet {name} in {folder}: expected room and the right to write. Received: {exc}. "
        "Make room or choose another folder; what was not written is written again."
    )


def _write_file(path: Path, rows: pa.Table) -> None:
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _make_folders(path.parent)
        with open(temporary, "wb") as stream:
            _write_rows(rows, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, pa.ArrowException) as exc:
        with suppress(OSError):
            temporary.unlink()
        raise sink_error(path.name, path.parent, exc) from exc


def _write_rows(rows: pa.Table, stream: object) -> None:
    floats = [path for name in _FLOATS if name in rows.column_names for path in _leaves(rows, name)]
    pq.write_table(
        rows,
        stream,
        row_group_size=max(rows.num_rows, 1),
        compression="zstd",
        compression_level=3,
        data_page_version="2.0",
        use_dictionary=[name for name in _REPEATING if name in rows.column_names],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        write_statistics=[name for name in _STATISTICS if name in rows.column_names],
    )


def _leaves(rows: pa.Table, name: str) -> list[str]:
    return [f"{name}.list.element"] if pa.types.is_list(rows.schema.field(name).type) else [name]


def _make_folders(folder: Path) -> None:
    """Make a folder that outlives a power cut: each parent is told of its new child."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
