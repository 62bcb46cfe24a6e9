"""The checker: reads every output of a stream, and finds what is lost, there twice, damaged or out of order."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fault_rig import FRAME_BLOCK, MARK, Scene

from ae_model.model import Detector
from pipelines.dead_letters import DeadLetter
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.read_all import read_all
from pipelines.parquet_files import read_table, verify_folder
from pipelines.records import OutputRecord, read_codes

Id = tuple[int, int]
EXAMPLES = 10


@dataclass
class Findings:
    """What the outputs hold, by the ids of the input.

    Args:
        records: ids in the input topic.
        lost: ids in neither codes nor dead letters, nor in a table.
        replayed: ids that came again on a topic.
        duplicated: ids among codes and dead letters alike, or twice in a table.
        damaged: ids whose key, bytes, code or alert is not that of their record.
        disordered: codes that left behind a later one of their partition, replays not counted.
    """

    records: int = 0
    lost: set[Id] = field(default_factory=set)
    replayed: int = 0
    duplicated: set[Id] = field(default_factory=set)
    damaged: set[Id] = field(default_factory=set)
    disordered: int = 0

    def require(self, seed: int) -> None:
        """Fail with the seed and the first ids at fault."""
        found = {name: sorted(getattr(self, name))[:EXAMPLES] for name in ("lost", "duplicated", "damaged")}
        assert (found, self.disordered) == ({"lost": [], "duplicated": [], "damaged": []}, 0), f"seed={seed}"


class Outputs:
    """All that a stream wrote to its topics, by id."""

    def __init__(self, scene: Scene) -> None:
        self.kafka, self.stream = KafkaSettings(scene.bootstrap), scene.stream
        self.input = {(r.partition, r.offset): r.key for r in self._read(self.stream.input.topic)}
        self.codes: dict[Id, tuple[bytes, Any]] = {}
        self.dead: dict[Id, DeadLetter] = {}
        self.counts: Counter[Id] = Counter()
        self.disordered = 0
        self._read_codes()
        self._read_dead()

    def _read(self, topic: str) -> list[Any]:
        return sorted(read_all(self.kafka, topic), key=lambda r: (r.partition, r.offset))

    def _read_codes(self) -> None:
        newest: dict[int, int] = {}
        for record in self._read(self.stream.outputs.codes or ""):
            rows = read_codes(record.value, record.headers, key=record.key, timestamp_ms=record.timestamp)
            for offset, key, code in zip(rows.offsets.tolist(), rows.keys.to_pylist(), rows.codes, strict=True):
                id_ = (rows.partition, offset)
                if id_ not in self.codes:
                    self.disordered += offset < newest.get(rows.partition, -1)
                    newest[rows.partition] = max(offset, newest.get(rows.partition, -1))
                self.codes[id_] = (key, code)
                self.counts[id_] += 1

    def _read_dead(self) -> None:
        for record in self._read(self.stream.outputs.dead_letters):
            letter = DeadLetter.from_record(OutputRecord(record.key, record.value, list(record.headers)))
            self.dead[letter.partition, letter.offset] = letter
            self.counts[letter.partition, letter.offset] += 1


def check(scene: Scene) -> Findings:
    """Read everything back and compare it with the records that were sent."""
    outputs = Outputs(scene)
    sent = {(seq % 3, seq // 3): scene.records.key(seq) for seq in range(scene.count)}
    assert outputs.input == sent, "the input topic is not what was sent"
    found = Findings(records=len(sent), disordered=outputs.disordered)
    found.lost |= sent.keys() - outputs.counts.keys()
    found.duplicated |= outputs.codes.keys() & outputs.dead.keys()
    found.damaged |= outputs.counts.keys() - sent.keys()
    found.replayed = outputs.counts.total() - len(outputs.counts)
    _check_codes(scene, outputs, found)
    _check_dead(outputs, sent, found)
    if scene.parquet.exists():
        _check_tables(scene, outputs, found)
    return found


def _check_codes(scene: Scene, outputs: Outputs, found: Findings) -> None:
    """Each code carries its record's key, and is what the model makes of that record's frame."""
    expected = Detector.load(scene.models / "small" / "1").encode(scene.records.frames)
    for id_, (key, code) in outputs.codes.items():
        seq, _ = MARK.unpack(key)
        if (seq % 3, seq // 3) != id_ or not np.allclose(code, expected[seq % FRAME_BLOCK], rtol=1e-4, atol=1e-5):
            found.damaged.add(id_)


def _check_dead(outputs: Outputs, sent: dict[Id, bytes], found: Findings) -> None:
    """Each dead letter carries its record's key and bytes."""
    for id_, letter in outputs.dead.items():
        crc = MARK.unpack(letter.key)[1] if letter.key else None
        if letter.key != sent.get(id_) or (not letter.by_reference and zlib.crc32(letter.value or b"") != crc):
            found.damaged.add(id_)


def _check_tables(scene: Scene, outputs: Outputs, found: Findings) -> None:
    """Each frame is in both tables once, and each alert of the table is on the topic."""
    alerting: set[Id] = set()
    for name in ("scores", "codes"):
        table = read_table(scene.parquet, name)
        ids = Counter(zip(table.column("partition").to_pylist(), table.column("offset").to_pylist(), strict=True))
        found.duplicated |= {id_ for id_, count in ids.items() if count > 1}
        found.lost |= outputs.codes.keys() - ids.keys()
        found.damaged |= ids.keys() - outputs.codes.keys()
        if name == "scores":
            flags = zip(ids, table.column("alert").to_pylist(), strict=False)
            alerting = {id_ for id_, alert in flags if alert}
    assert not [part for part in verify_folder(scene.parquet)["partitions"] if part["duplicated"]]
    if outputs.stream.outputs.alerts:
        alerts = [(a["partition"], a["offset"]) for a in map(_as_json, outputs._read(outputs.stream.outputs.alerts))]
        found.lost |= alerting - set(alerts)
        found.damaged |= set(alerts) - alerting


def _as_json(record: Any) -> Any:
    import json

    return json.loads(record.value)
