"""``latentstream record``: a topic's frames back into recordings, for ``train --data`` and ``evaluate``.

topic ──decode──> frames per key ──> OUT/<key>.parquet or .npz
           └─> bad records, counted
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ae_model.exceptions import ConfigError
from ae_model.scratch import scratch_folder
from pipelines.formats.decoder import Decoder, make_decoder
from pipelines.frame_batch import FrameBatch
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.columns import to_raw_batch
from pipelines.kafka.offsets import check_topics, start_offsets, until_offsets
from pipelines.kafka.raw_batches import from_client_records
from pipelines.kafka.read_all import read_span
from pipelines.recorded_files import ITEMS, ItemsFile, RowsFile
from pipelines.stream_file import StreamFile

# Of records without a key.
NO_KEY = "no-key"
_RECORDS_AT_ONCE = 4096
# File systems take names of 255 bytes.
_LONGEST_STEM = 200
# Files that are open at once.
_MOST_KEYS = 1000


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded; ``records == frames + bad``.

    Args:
        topic: where from.
        offsets: first and next offset by partition.
        records: in all.
        frames: of them usable.
        bad: of them not, by code.
        keys: how many devices.
        rows: samples per channel written, missing rows of gaps included.
        gaps: places where a device's frames do not follow each other.
        data: what to give ``--data``.
        seconds: wall time.
    """

    topic: str
    offsets: dict[int, tuple[int, int]]
    records: int
    frames: int
    bad: dict[str, int]
    keys: int
    rows: int
    gaps: int
    data: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def record_stream(
    stream: StreamFile, kafka: KafkaSettings, out: Path, start: str = "earliest", until: str = "latest"
) -> RecordSummary:
    """Write the frames of a part of the input topic as a folder of recordings, one per key.

    The folder appears when it is complete. Records that are no frames are counted and left out.

    Args:
        stream: whose input to read.
        kafka: which cluster.
        out: the folder to make.
        start: earliest, an ISO time, or offsets as JSON.
        until: latest, an ISO time, or offsets as JSON.

    Raises:
        ConfigError: the folder exists, or there are no frames, or too many keys.
        ConnectError: no broker, or no topic.
        SourceGoneError: the topic stops answering.
    """
    began = time.monotonic()
    if out.exists():
        raise ConfigError(f"--out: expected a folder that is not there yet. Received: out={out}, which exists.")
    topic = stream.input.topic
    span = find_span(stream, kafka, start, until)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent, f".{out.name}-") as folder:
        files = _Files(folder, stream)
        bad: Counter[str] = Counter()
        for good, codes in _decode(stream, kafka, span):
            files.add(good)
            bad.update(codes)
        files.close()
        if not files.frames:
            raise ConfigError(
                f"topic {topic}: expected frames from start={start} until={until}. "
                f"Received: frames=0, bad={sum(bad.values())}. Give another span."
            )
        os.rename(folder, out)
    return RecordSummary(
        topic=topic,
        offsets=span,
        records=files.frames + sum(bad.values()),
        frames=files.frames,
        bad=dict(sorted(bad.items())),
        keys=len(files.by_key),
        rows=sum(file.rows for file in files.by_key.values()),
        gaps=sum(file.gaps for file in files.by_key.values()),
        data=f"{out}::{ITEMS}" if files.are_items else str(out),
        seconds=time.monotonic() - began,
    )


def find_span(stream: StreamFile, kafka: KafkaSettings, start: str, until: str) -> dict[int, tuple[int, int]]:
    """By partition the first offset to read, and the first not to.

    Raises:
        ConfigError: ``start`` or ``until`` is none.
        ConnectError: no broker, or no topic.
    """
    topic = stream.input.topic
    partitions = range(check_topics(kafka, [topic], stream.given)[topic])
    first = start_offsets(kafka, topic, partitions, None, start)
    stop = until_offsets(kafka, topic, partitions, until) or {}
    return {number: (first[number], max(first[number], stop[number])) for number in partitions}


def file_stem(key: bytes | None) -> str:
    """A key as the name of a file, from which ``--data`` reads the same key again where it is an ordinary one.

    >>> file_stem(b"machine-1-6"), file_stem(b"../x"), file_stem(None)
    ('machine-1-6', '..%2Fx', 'no-key')
    """
    if key is None:
        return NO_KEY
    stem = quote(key, safe=" ")
    if len(stem) > _LONGEST_STEM:
        return f"{stem[:_LONGEST_STEM]}%{hashlib.sha256(key).hexdigest()[:32]}"
    # Neither a folder's own name, nor that of the records without a key.
    return stem if stem.strip(".") and stem != NO_KEY else f"%{key.hex()}"


def _decode(
    stream: StreamFile, kafka: KafkaSettings, span: dict[int, tuple[int, int]]
) -> Iterator[tuple[FrameBatch, list[str]]]:
    """Frames of consecutive records of one partition, and the codes of those that are none."""
    given = stream.input
    decoder: Decoder = make_decoder(given.format, stream.contract, dtype=given.dtype, feature=given.feature)
    for partition, records in groupby(read_span(kafka, given.topic, span), key=lambda record: record.partition):
        while part := list(islice(records, _RECORDS_AT_ONCE)):
            good, bad = decoder.decode(to_raw_batch(given.topic, partition, from_client_records(part).columns))
            yield good, [letter.code for letter in bad]


class _Files:
    """A file for each key."""

    def __init__(self, folder: Path, stream: StreamFile) -> None:
        self._folder = folder
        self._contract = stream.contract
        self.are_items = self._contract.hop == self._contract.length > 1
        self.by_key: dict[bytes | None, RowsFile | ItemsFile] = {}
        self.frames = 0

    def add(self, batch: FrameBatch) -> None:
        """Each frame to the file of its key."""
        keys = batch.records.keys.to_pylist()
        rows: dict[bytes | None, list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, []).append(row)
        for key, mine in rows.items():
            self._file(key).add(batch.frames[np.array(mine)])
        self.frames += len(keys)

    def close(self) -> None:
        for file in self.by_key.values():
            file.close()

    def _file(self, key: bytes | None) -> RowsFile | ItemsFile:
        if key not in self.by_key:
            if len(self.by_key) == _MOST_KEYS:
                raise ConfigError(
                    f"record: expected at most {_MOST_KEYS} keys. Received: another one, {key!r}. "
                    "Read fewer partitions at a time: --until with offsets."
                )
            make = ItemsFile if self.are_items else RowsFile
            self.by_key[key] = make(self._folder / file_stem(key), self._contract)
        return self.by_key[key]
