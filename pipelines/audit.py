"""``latentstream verify STREAM``: is every input record in the outputs or in the dead letters, once by id?

Nothing here trusts the run's own counters: the ids are read back from the topics.

    input offsets, begin to end  =  offsets of the codes  +  offsets of the dead letters
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ae_model.exceptions import ConfigError, RecordError
from pipelines.dead_letters import DeadLetter, read_mark
from pipelines.kafka import offsets
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.read_all import read_all
from pipelines.records import OutputRecord, read_codes
from pipelines.stream_file import StreamFile

EXAMPLES = 10

_T = TypeVar("_T")


@dataclass(frozen=True)
class Audit:
    """Ids of one stream, counted in its topics.

    Args:
        records: offsets in the input topic.
        coded: distinct ids among the codes.
        dead: distinct ids among the dead letters.
        replayed: ids that came more than once; harmless, since they are the same id.
        lost: the first ids, as ``partition@offset``, found in neither.
        lost_count: how many there are.
        both: ids found among codes and dead letters alike.
        foreign: records in the output topics that are neither codes nor dead letters of ours.
    """

    records: int
    coded: int
    dead: int
    replayed: int
    lost: list[str]
    lost_count: int
    both: int
    foreign: int = 0

    @property
    def ok(self) -> bool:
        """Whether every record is in exactly one of the two."""
        return self.lost_count == 0 and self.both == 0 and self.records == self.coded + self.dead

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return {**asdict(self), "ok": self.ok}


def audit_stream(stream: StreamFile, kafka: KafkaSettings) -> Audit:
    """Compare the ids of a stream's input with those of its codes and dead letters.

    Raises:
        ConfigError: the stream writes no codes.
        ConnectError: the broker or a topic is absent.
    """
    if stream.outputs.codes is None:
        raise ConfigError("outputs.codes: expected a topic to compare with. Received: codes=null.")
    topic = stream.input.topic
    partitions = range(offsets.check_topics(kafka, [topic], stream.given)[topic])
    begin, end = (ask(kafka, topic, partitions) for ask in (offsets.begin_offsets, offsets.end_offsets))
    codes, foreign_codes = _coded_ids(kafka, stream.outputs.codes, topic)
    dead, foreign_letters = _dead_ids(kafka, stream.outputs.dead_letters, topic)
    audit = compare({p: np.arange(begin[p], end[p]) for p in partitions}, _gather(codes), _gather(dead))
    return replace(audit, foreign=foreign_codes + foreign_letters)


Ids = dict[int, NDArray[np.int64]]


def compare(records: Ids, codes: Ids, dead: Ids) -> Audit:
    """Count ids by partition; each argument maps a partition to offsets, repeated ones included."""
    none = np.empty(0, np.int64)
    coded = {p: np.unique(codes.get(p, none)) for p in records}
    buried = {p: np.unique(dead.get(p, none)) for p in records}
    lost = {p: np.setdiff1d(records[p], np.union1d(coded[p], buried[p])) for p in records}
    distinct = _count(coded) + _count(buried)
    return Audit(
        records=_count(records),
        coded=_count(coded),
        dead=_count(buried),
        replayed=_count(codes) + _count(dead) - distinct,
        lost=[f"{p}@{offset}" for p in lost for offset in lost[p]][:EXAMPLES],
        lost_count=_count(lost),
        both=sum(len(np.intersect1d(coded[p], buried[p])) for p in records),
    )


def _count(ids: Ids) -> int:
    return sum(len(offsets_) for offsets_ in ids.values())


Pairs = list[tuple[int, NDArray[np.int64]]]


def _coded_ids(kafka: KafkaSettings, topic: str, source: str) -> tuple[Pairs, int]:
    rows, foreign = _parse_all(
        kafka, topic, lambda r: read_codes(r.value, r.headers, key=r.key, timestamp_ms=r.timestamp)
    )
    return [(row.partition, row.offsets) for row in rows if row.topic == source], foreign


def _dead_ids(kafka: KafkaSettings, topic: str, source: str) -> tuple[Pairs, int]:
    letters, foreign = _parse_all(kafka, topic, _parse_letter)
    return [(letter.partition, np.array([letter.offset])) for letter in letters if letter.topic == source], foreign


def _parse_letter(record: Any) -> DeadLetter | None:
    headers = list(record.headers)
    return None if read_mark(headers) else DeadLetter.from_record(OutputRecord(record.key, record.value, headers))


def _parse_all(kafka: KafkaSettings, topic: str, parse: Callable[[Any], _T | None]) -> tuple[list[_T], int]:
    """What every record of a topic says, if anything, and how many are not ours."""
    parsed: list[_T | None] = []
    foreign = 0
    for record in read_all(kafka, topic):
        try:
            parsed.append(parse(record))
        except RecordError:
            foreign += 1
    return [item for item in parsed if item is not None], foreign


def _gather(pairs: Pairs) -> Ids:
    partitions = {partition for partition, _ in pairs}
    return {p: np.concatenate([offsets_ for partition, offsets_ in pairs if partition == p]) for p in partitions}
