"""Parquet folders: how files are named, read and proved whole. No Beam.

    scores/topic=plant.pumps.frames.v1/dt=2026-11-21/hour=04/
        plant.pumps.frames.v1-00003-00000000000000065536-00000000000000131071-pumps-v7.parquet
        topic                 part. first offset         last offset          model version

A file's name says which offsets it covers. A file whose range lies inside another's is
superseded: its rows are in the larger one, and readers leave it out. The topic is a column
by the folder's name, as Hive has it, and is not stored in the files a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ae_model.exceptions import ConfigError
from pipelines.offset_ranges import OffsetRanges
from pipelines.records import event_time
from pipelines.tables import ALERT_SCHEMA, CODE_SCHEMA, SCORE_SCHEMA

Kind = Literal["alerts", "codes", "scores"]

# In the order they are written: scores come last, so that rows counted as done are done in all three.
SCHEMAS: dict[Kind, pa.Schema] = {"alerts": ALERT_SCHEMA, "codes": CODE_SCHEMA, "scores": SCORE_SCHEMA}
_NAME = re.compile(r"(.+)-(\d{5,})-(\d{20})-(\d{20})-(.+)-v(\d+)\.parquet")
# For frames without an event time; a null in every folder's name would leave readers without a type for it.
_NO_DAY, _NO_HOUR = "1970-01-01", "00"


@dataclass(frozen=True)
class DataFile:
    """One file and what its name says.

    Args:
        kind: alerts, codes or scores.
        topic: where the frames came from.
        partition: likewise.
        first: first offset covered.
        last: last offset covered.
        model: name of the artifact.
        version: its version.
        path: where the file is.
    """

    kind: Kind
    topic: str
    partition: int
    first: int
    last: int
    model: str
    version: int
    path: Path

    @classmethod
    def named(cls, kind: Kind, path: Path) -> DataFile | None:
        """What a path says; None when it is not one of ours."""
        match = _NAME.fullmatch(path.name)
        if match is None or path.name.startswith("."):
            return None
        topic, partition, first, last, model, version = match.groups()
        return cls(kind, unquote(topic), int(partition), int(first), int(last), unquote(model), int(version), path)

    @property
    def place(self) -> tuple[str, int, str]:
        """Topic, partition and model: what one set of offsets belongs to."""
        return (self.topic, self.partition, self.model)

    def read(self) -> pa.Table:
        """Its rows, with the topic, in the columns of the kind's schema.

        Raises:
            ConfigError: it is no Parquet file of this kind.
        """
        schema = SCHEMAS[self.kind]
        try:
            stored = pq.ParquetFile(self.path).read()
            columns = {"topic": pa.repeat(self.topic, stored.num_rows)}
            # Files written before models had layers.
            columns.setdefault("layer", pa.repeat("global", stored.num_rows))
            columns.update((name, stored.column(name)) for name in schema.names if name in stored.column_names)
            return pa.table([columns[name] for name in schema.names], schema=schema)
        except (OSError, KeyError, pa.ArrowException) as exc:
            raise ConfigError(
                f"file {self.path}: expected Parquet with the columns of {self.kind}. Received: {exc}. "
                "Take the file away and run the stream again from its first offset."
            ) from exc


def make_path(folder: Path, kind: Kind, topic: str, timestamp_ms: int, name: str) -> Path:
    """Where a file goes: by topic, and by day and hour (UTC) of its first frame's event time."""
    time = event_time(timestamp_ms)
    day, hour = (time.strftime("%Y-%m-%d"), time.strftime("%H")) if time else (_NO_DAY, _NO_HOUR)
    return folder / kind / f"topic={quote(topic)}" / f"dt={day}" / f"hour={hour}" / name


def make_name(topic: str, partition: int, first: int, last: int, model: str, version: int) -> str:
    """The name of a file, from its content alone."""
    return f"{quote(topic)}-{partition:05d}-{first:020d}-{last:020d}-{quote(model)}-v{version}.parquet"


def find_files(folder: Path, kind: Kind, topic: str | None = None) -> list[DataFile]:
    """Every file of a kind, superseded ones included, by topic, partition, model and offsets."""
    root = folder / kind if topic is None else folder / kind / f"topic={quote(topic)}"
    files = [file for path in root.rglob("*.parquet") if (file := DataFile.named(kind, path)) is not None]
    return sorted(files, key=lambda file: (file.place, file.first, -file.last, file.path.name))


def drop_superseded(files: Iterable[DataFile]) -> list[DataFile]:
    """The files to read; ``files`` as ``find_files`` sorts them."""
    live: list[DataFile] = []
    for _, group in groupby(files, key=lambda file: file.place):
        reach = -1
        for file in group:
            # Sorted by first offset, then largest first: what ends no later lies inside an earlier one.
            if file.last > reach:
                live.append(file)
                reach = file.last
    return live


def iter_tables(folder: Path, kind: Kind) -> Iterator[pa.Table]:
    """The rows of each file that is not superseded, by topic, partition and offset.

    Raises:
        ConfigError: there is no such folder, or a file in it is damaged.
    """
    _require_folder(folder)
    for file in drop_superseded(find_files(folder, kind)):
        yield file.read()


def read_table(folder: Path, kind: Kind) -> pa.Table:
    """All rows of a kind, by topic, partition and offset; none twice.

    Raises:
        ConfigError: there is no such folder, or a file in it is damaged.
    """
    return pa.concat_tables([SCHEMAS[kind].empty_table(), *iter_tables(folder, kind)])


def verify_folder(folder: Path) -> dict[str, Any]:
    """Prove that no offset is missing between the first and the last, and none there twice.

    Offsets that never held a frame count as missing where no file covers them: dead letters
    between two frame batches, and gaps of compacted or transactional topics.

    Returns:
        ``ok``, ``folder`` and ``partitions``: per kind, topic, partition and model the ``files`` and
        ``superseded`` files, ``rows``, ``first``, ``last``, ``missing`` and ``duplicated``
        ranges, and ``damaged`` files. A missing alert is one that the scores announce.

    Raises:
        ConfigError: there is no such folder.
    """
    _require_folder(folder)
    scores = _verify_kind(folder, "scores")
    checks = [*scores.values(), *_verify_kind(folder, "codes").values()]
    # Without the folder, alerts were turned off and nothing is missing.
    if (folder / "alerts").is_dir():
        alerts = _verify_kind(folder, "alerts")
        for place, check in scores.items():
            known = alerts.setdefault(place, _Check("alerts", *place))
            known.missing = OffsetRanges()
            known.missing.add_offsets(np.setdiff1d(check.alerting, known.offsets))
        checks += alerts.values()
    reports = [check.as_json() for check in checks]
    ok = not any(report["missing"] or report["duplicated"] or report["damaged"] for report in reports)
    return {"ok": ok, "folder": str(folder), "partitions": reports}


@dataclass
class _Check:
    """What was found of one kind, topic and partition."""

    kind: Kind
    topic: str
    partition: int
    model: str
    files: int = 0
    superseded: int = 0
    offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    alerting: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    covered: OffsetRanges = field(default_factory=OffsetRanges)
    missing: OffsetRanges = field(default_factory=OffsetRanges)
    damaged: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report of this partition."""
        duplicated = OffsetRanges()
        duplicated.add_offsets(np.unique(self.offsets[1:][np.diff(self.offsets) == 0]))
        covered = list(self.covered)
        return {
            "kind": self.kind,
            "topic": self.topic,
            "partition": self.partition,
            "model": self.model,
            "files": self.files,
            "superseded": self.superseded,
            "rows": len(self.offsets),
            "first": covered[0][0] if covered else None,
            "last": covered[-1][1] if covered else None,
            "missing": [list(part) for part in self.missing],
            "duplicated": [list(part) for part in duplicated],
            "damaged": self.damaged,
        }


def _verify_kind(folder: Path, kind: Kind) -> dict[tuple[str, int, str], _Check]:
    files = find_files(folder, kind)
    return {
        place: _verify_partition(_Check(kind, *place), list(group))
        for place, group in groupby(files, key=lambda file: file.place)
    }


def _verify_partition(check: _Check, files: list[DataFile]) -> _Check:
    live = drop_superseded(files)
    check.files, check.superseded = len(live), len(files) - len(live)
    offsets, alerting = [check.offsets], [check.alerting]
    for file in live:
        try:
            rows = _read_offsets(file)
        except (OSError, ValueError, pa.ArrowException):
            check.damaged.append(str(file.path))
            continue
        check.covered.add(file.first, file.last)
        offsets.append(rows.column("offset").to_numpy())
        if check.kind == "scores":
            alerting.append(offsets[-1][rows.column("alert").to_numpy()])
    check.offsets, check.alerting = np.sort(np.concatenate(offsets)), np.concatenate(alerting)
    if check.kind != "alerts" and live:
        parts = check.covered.uncovered(live[0].first, max(file.last for file in live))
        check.missing = OffsetRanges(parts)
    return check


def _read_offsets(file: DataFile) -> pa.Table:
    columns = ["offset", "alert"] if file.kind == "scores" else ["offset"]
    rows = pq.ParquetFile(file.path).read(columns=columns).select(columns)
    offsets = rows.column("offset").to_numpy()
    if len(offsets) == 0 or offsets[0] < file.first or offsets[-1] > file.last or (np.diff(offsets) <= 0).any():
        raise ValueError(f"rows outside {file.first}..{file.last}, or out of order")
    return rows


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"folder: expected one that `latentstream run` or `score` wrote. Received: folder={folder}.")
