"""Writes Parquet folders so that no row is ever there twice, whatever is replayed.

    pieces of a bundle   [0 .. 511][512 .. 1023]
    published before     [0 .. 767]                       a replay after a kill
    written now                    [768 .. 1023]          rows already published are left out

Small files are merged into one larger file, which supersedes them, when their segment of
offsets is complete. A crash at any point leaves whole files only: the rest is a temporary
file, or a superseded one, and the next writer of the partition clears both away.

One process at a time writes a partition (parquet_lock.py); one that was not the last to
write it lists the folder again first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ae_model.exceptions import ConfigError, SinkError
from pipelines.offset_ranges import OffsetRanges
from pipelines.parquet_files import SCHEMAS, DataFile, Kind, drop_superseded, find_files
from pipelines.parquet_lock import hold
from pipelines.parquet_pieces import Piece, Run, sink_error

SEGMENT_OFFSETS = 65536
# An incomplete segment's files are merged when there are so many: a quiet topic takes hours to fill one.
MERGE_FILES = 64


class ParquetFolder:
    """A folder of scores, codes and alerts.

    Args:
        folder: where; made when it is not there.
        segment_offsets: no file has rows on both sides of a multiple of this offset.
    """

    def __init__(self, folder: Path, segment_offsets: int = SEGMENT_OFFSETS) -> None:
        """Keep the settings; nothing is read or made before the first write."""
        self._folder = folder
        self._segment_offsets = segment_offsets

    def write(self, topic: str, partition: int, pieces: Sequence[Piece]) -> int:
        """Make the rows durable; those that already are, by a model of the same name, are left out.

        Args:
            topic: where the frames came from.
            partition: likewise.
            pieces: in any order; of one model, in any versions.

        Returns:
            How many frames had been written before.

        Raises:
            SinkError: the folder cannot be written; nothing half-written is visible, and
                writing again is safe.
        """
        place = (str(self._folder.absolute()), topic, partition, pieces[0].model)
        lock_path = self._folder / f".{quote(topic)}-{partition:05d}-{quote(pieces[0].model)}.lock"
        try:
            with hold(lock_path) as lock:
                if not lock.is_mine or place not in _PARTITIONS:
                    _PARTITIONS[place] = _Partition(self._folder, place[1:], self._segment_offsets)
                    lock.claim()
                return _PARTITIONS[place].write(pieces)
        except (OSError, ConfigError, SinkError) as exc:
            # What is known of the folder may be wrong now; the next write lists it again.
            _PARTITIONS.pop(place, None)
            if isinstance(exc, SinkError):
                raise
            raise sink_error(lock_path.name, self._folder, exc) from exc


class _Partition:
    """What this process knows of the files of one topic, partition and model; used under the lock only."""

    def __init__(self, folder: Path, place: tuple[str, int, str], segment_offsets: int) -> None:
        self._folder = folder
        self._topic, self._partition, self._model = place
        self._segment_offsets = segment_offsets
        self._published: dict[Kind, OffsetRanges] = {kind: OffsetRanges() for kind in SCHEMAS}
        self._segments: dict[tuple[Kind, int], list[DataFile]] = defaultdict(list)
        self._unmerged: set[tuple[Kind, int]] = set()
        for kind in SCHEMAS:
            self._load(kind)

    def write(self, pieces: Sequence[Piece]) -> int:
        replayed = self._count_published(pieces)
        for kind in SCHEMAS:
            for run in self._plan(kind, pieces):
                self._register(run.publish(self._folder, self._topic, self._partition))
        for kind, segment in sorted(self._unmerged):
            self._merge(kind, segment)
        return replayed

    def _load(self, kind: Kind) -> None:
        files = [file for file in find_files(self._folder, kind, self._topic) if self._owns(file)]
        live = drop_superseded(files)
        for file in live:
            self._register(file)
        for file in set(files) - set(live):
            file.path.unlink()
        # Whoever was writing these is dead, or the lock would not be ours.
        for path in (self._folder / kind / f"topic={quote(self._topic)}").rglob(".*.tmp"):
            written = DataFile.named(kind, path.with_name(path.name[1:].rsplit(".", 2)[0]))
            if written is not None and self._owns(written):
                path.unlink()

    def _owns(self, file: DataFile) -> bool:
        return file.place == (self._topic, self._partition, self._model)

    def _register(self, file: DataFile) -> None:
        segment = (file.kind, self._segment(file.last))
        self._published[file.kind].add(file.first, file.last)
        self._segments[segment].append(file)
        self._unmerged.add(segment)

    def _count_published(self, pieces: Sequence[Piece]) -> int:
        published = self._published["scores"]
        return sum(int(published.contains(piece.offsets("scores")).sum()) for piece in pieces)

    def _plan(self, kind: Kind, pieces: Sequence[Piece]) -> list[Run]:
        """What to write: the parts of the pieces not yet published, joined, cut at segments."""
        taken, runs = OffsetRanges(self._published[kind]), list[Run]()
        if kind == "alerts":
            # Where scores are, alerts were written before them, or there were none.
            taken = OffsetRanges([*taken, *self._published["scores"]])
        for piece in sorted((piece for piece in pieces if kind in piece.tables), key=lambda piece: piece.first):
            for first, last in taken.uncovered(piece.first, piece.last):
                for run in (piece.cut(kind, *part) for part in self._cut(piece, first, last)):
                    if (
                        runs
                        and runs[-1].continues_with(run)
                        and self._segment(runs[-1].last) == self._segment(run.last)
                    ):
                        runs[-1].extend(run)
                    else:
                        runs.append(run)
            taken.add(piece.first, piece.last)
        return [run for run in runs if run.rows]

    def _cut(self, piece: Piece, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut at the last frame of each segment, so that no part is without a frame."""
        offsets = piece.offsets("scores")
        offsets = offsets[(offsets >= first) & (offsets <= last)]
        ends = offsets[:-1][np.diff(self._segment(offsets)) > 0].tolist()
        for end in [*ends, last] if len(offsets) else []:
            yield first, end
            first = end + 1

    def _segment(self, offsets: Any) -> Any:
        return offsets // self._segment_offsets

    def _merge(self, kind: Kind, segment: int) -> None:
        """Make one file of those that follow each other, once the segment is complete."""
        complete = self._reach() >= (segment + 1) * self._segment_offsets - 1
        if not complete and len(self._segments[kind, segment]) < MERGE_FILES:
            return
        files = sorted(self._segments.pop((kind, segment)), key=lambda file: file.first)
        for group in self._group(files):
            self._register(group[0] if len(group) == 1 else self._replace(group))
        if complete:
            self._unmerged.discard((kind, segment))

    def _reach(self) -> int:
        """The last offset that is done in all kinds; -1 when none is."""
        return max((last for _, last in self._published["scores"]), default=-1)

    def _group(self, files: list[DataFile]) -> list[list[DataFile]]:
        groups: list[list[DataFile]] = []
        for file in files:
            if groups and groups[-1][-1].version == file.version and self._touch(groups[-1][-1], file):
                groups[-1].append(file)
            else:
                groups.append([file])
        return groups

    def _touch(self, file: DataFile, next_file: DataFile) -> bool:
        # Offsets between two files of alerts that have scores had no alert; any other gap may still be filled.
        return not self._published["scores"].uncovered(file.last + 1, next_file.first - 1)

    def _replace(self, files: list[DataFile]) -> DataFile:
        head = files[0]
        tables = [file.read() for file in files]
        run = Run(head.kind, head.first, files[-1].last, head.model, head.version, tables)
        merged = run.publish(self._folder, self._topic, self._partition)
        # A crash before this leaves both; readers take the larger one.
        for file in files:
            file.path.unlink()
        return merged


# By folder, topic, partition and model; a DoFn instance lives too short to keep it.
_PARTITIONS: dict[tuple[str, str, int, str], _Partition] = {}
