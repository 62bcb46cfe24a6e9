"""Dead letters read back, and sent to the input once more when what was wrong has been mended.

A letter that was sent again is followed by a mark among the dead letters, so that no second
call sends it twice. If it fails again it becomes a new letter, which knows how often it was
tried: after MAX_ATTEMPTS it stays where it is, or a faulty record would go round for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ae_model.exceptions import RecordError
from pipelines.dead_letters import DeadLetter, read_mark
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.read_all import read_all
from pipelines.kafka.sink import UnflushedRecords
from pipelines.records import OutputRecord
from pipelines.stream_file import StreamFile

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Letters:
    """What a topic of dead letters holds.

    Args:
        letters: each by the place of its record, the last one where a replay repeated it.
        replayed: places of those that were sent again.
        foreign: records that are no dead letters.
    """

    letters: dict[str, DeadLetter] = field(default_factory=dict)
    replayed: frozenset[str] = frozenset()
    foreign: int = 0


@dataclass(frozen=True)
class Replayed:
    """What a replay did with the letters that were asked for.

    Args:
        sent: to the input topic.
        before: sent by an earlier call.
        exhausted: tried MAX_ATTEMPTS times already.
        by_reference: their values stayed in the input topic, so there is nothing to send.
    """

    sent: int = 0
    before: int = 0
    exhausted: int = 0
    by_reference: int = 0


def read_letters(kafka: KafkaSettings, topic: str) -> Letters:
    """All dead letters of a topic, in the order of its partitions.

    Raises:
        ConnectError: no broker.
        SourceGoneError: the topic is absent.
    """
    letters: dict[str, DeadLetter] = {}
    marks: set[str] = set()
    foreign = 0
    for record in read_all(kafka, topic):
        headers = list(record.headers)
        mark = read_mark(headers)
        if mark is not None:
            marks.add(mark)
            continue
        try:
            letter = DeadLetter.from_record(OutputRecord(record.key, record.value, headers))
        except RecordError:
            foreign += 1
            continue
        letters[letter.place] = letter
    return Letters(letters, frozenset(marks), foreign)


def replay_letters(
    stream: StreamFile,
    kafka: KafkaSettings,
    *,
    code: str | None = None,
    since_ms: int | None = None,
    dry_run: bool = False,
) -> Replayed:
    """Send dead letters to the input again, with how often they were tried.

    Args:
        stream: whose they are.
        kafka: its cluster.
        code: only those of this reason.
        since_ms: only records of this event time or later, in milliseconds since 1970.
        dry_run: only count.

    Raises:
        ConnectError: no broker, or a topic may not be written.
        SinkError: not all were acknowledged; those without a mark are sent again by the next call.
    """
    found = read_letters(kafka, stream.outputs.dead_letters)
    asked = [
        letter
        for letter in found.letters.values()
        if code in (None, letter.code) and (since_ms is None or letter.timestamp >= since_ms)
    ]
    fates = {letter.place: _fate(letter, found.replayed) for letter in asked}
    sent = [letter for letter in asked if fates[letter.place] == "sent"]
    if not dry_run:
        _send(kafka, stream.input.topic, (letter.retry() for letter in sent))
        # Behind the records: a mark without its record would hide a letter that nobody sent.
        _send(kafka, stream.outputs.dead_letters, (letter.mark() for letter in sent))
    return Replayed(**Counter(fates.values()))


def _fate(letter: DeadLetter, replayed: frozenset[str]) -> str:
    if letter.by_reference:
        return "by_reference"
    if letter.place in replayed:
        return "before"
    return "exhausted" if letter.attempt >= MAX_ATTEMPTS else "sent"


def _send(kafka: KafkaSettings, topic: str, records: Iterable[OutputRecord]) -> None:
    unflushed = UnflushedRecords(kafka, topic, together=True)
    for record in records:
        unflushed.send(record)
    unflushed.flush()
