"""What could not be used, kept whole, with where it came from and why.

A dead letter's value, key and headers are the record's own. What is known about
the fault stands beside them in headers named ``__dlq.errors.*``, as UTF-8 text::

    topic  partition  offset  timestamp  stage  code
    exception.class.name  exception.message  pipeline  attempt  payload

``payload=reference`` says that the value was too large or too dangerous to carry;
the coordinates say where it still lies.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from ae_model.exceptions import DeadLetterBreakerError, RecordError
from pipelines.frame_batch import Headers, RawBatch
from pipelines.records import OutputRecord, kafka_timestamp

PREFIX = "__dlq.errors."
# The one header of a mark: a record among the dead letters that says which one was sent to the input again.
REPLAYED = "__dlq.replayed"
CODES = frozenset(
    {
        "frame.channels",
        "frame.dtype",
        "frame.empty",
        "frame.nonfinite",
        "frame.size",
        "model.error",
        "record.bomb",
        "record.corrupt",
        "record.too_large",
        "schema.incompatible",
        "schema.unknown",
    }
)
MAX_MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be used.

    Args:
        topic: where it came from.
        partition: likewise.
        offset: likewise.
        timestamp: its event time in milliseconds since 1970.
        key: its key, untouched.
        value: its value, untouched; None by reference.
        headers: its headers, untouched.
        code: the reason, one of CODES.
        message: the reason in words, at most 1 KiB.
        stage: the step that refused it.
        exception: class of the error.
        pipeline: name of the stream.
        attempt: how often it has been tried, this time included.
        by_reference: whether the value was left where it is.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    code: str
    message: str
    stage: str
    exception: str = "RecordError"
    pipeline: str = ""
    attempt: int = 1
    by_reference: bool = False

    def __post_init__(self) -> None:
        """Hold the code to the closed set, and cut the message."""
        if self.code not in CODES:
            raise ValueError(f"dead letter: expected a code of {sorted(CODES)}. Received: code={self.code!r}.")
        object.__setattr__(self, "message", _cut(self.message))

    @classmethod
    def of(cls, raw: RawBatch, row: int, error: RecordError, stage: str) -> DeadLetter:
        """The dead letter of one record of a batch."""
        headers = [] if raw.headers is None else raw.headers[row]
        return cls(
            topic=raw.topic,
            partition=raw.partition,
            offset=int(raw.offsets[row]),
            timestamp=int(raw.timestamps[row]),
            key=raw.keys[row].as_py(),
            value=raw.values[row].as_py(),
            headers=headers,
            code=error.code,
            message=str(error),
            stage=stage,
            exception=type(error).__name__,
            attempt=_attempts(headers) + 1,
        )

    @classmethod
    def from_record(cls, record: OutputRecord) -> DeadLetter:
        """Read a record of the dead letters topic back.

        Raises:
            RecordError: it lacks the headers of a dead letter.
        """
        facts = {name[len(PREFIX) :]: text for name, text in record.headers if name.startswith(PREFIX)}
        try:
            return _from_facts({name: text.decode() for name, text in facts.items()}, record)
        except (AttributeError, KeyError, ValueError) as exc:
            raise RecordError(
                "schema.unknown", f"dead letter: expected headers {PREFIX}*. Received: {sorted(facts)} ({exc!r})."
            ) from exc

    def to_record(self) -> OutputRecord:
        """The record for the dead letters topic, in the partition the input record had."""
        facts: dict[str, object] = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "stage": self.stage,
            "code": self.code,
            "exception.class.name": self.exception,
            "exception.message": self.message,
            "pipeline": self.pipeline,
            "attempt": self.attempt,
        }
        nothing = self.key is None and self.value is None
        if self.by_reference or nothing:
            facts["payload"] = "reference" if self.by_reference else "null"
        record = self._record([(PREFIX + name, str(fact).encode()) for name, fact in facts.items()])
        # kafka-python sends no record without key and value; the header keeps what was there.
        return replace(record, value=b"") if nothing else record

    def retry(self) -> OutputRecord:
        """The record to send to the input topic once more; it remembers how often it was tried.

        Raises:
            RecordError: the letter holds only a reference.
        """
        if self.by_reference:
            raise RecordError(
                self.code,
                f"dead letter {self.place}: expected its value. Received: a reference. Read it from the input topic.",
            )
        return self._record([(f"{PREFIX}attempt", str(self.attempt).encode())])

    @property
    def place(self) -> str:
        """Where its record lies in the input."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    def mark(self) -> OutputRecord:
        """The record that keeps this letter from being sent again."""
        return OutputRecord(None, b"", [(REPLAYED, self.place.encode())], self.partition)

    def _record(self, facts: Headers) -> OutputRecord:
        headers = _own(self.headers) + facts
        return OutputRecord(self.key, self.value, headers, self.partition, kafka_timestamp(self.timestamp))


def read_mark(headers: Headers) -> str | None:
    """The place of the letter that a mark says was sent again; None for any other record."""
    if len(headers) != 1 or headers[0][0] != REPLAYED or headers[0][1] is None:
        return None
    return headers[0][1].decode(errors="replace")


class Breaker:
    """Stops the stream when too large a share of the recent records is unusable.

    Args:
        share: the largest share that is still taken for bad luck, between 0 and 1.
        records: how many records, at least, the share is judged over.
    """

    def __init__(self, share: float, records: int) -> None:
        """Start with nothing seen."""
        self._share = share
        self._records = records
        self._recent: deque[tuple[int, int]] = deque()
        self._read = 0
        self._dead = 0

    def observe(self, read: int, dead: int) -> None:
        """Count ``read`` records of which ``dead`` were unusable.

        Raises:
            DeadLetterBreakerError: the share over the last ``records`` or a few more exceeds the limit.
        """
        self._recent.append((read, dead))
        self._read += read
        self._dead += dead
        # The oldest go as soon as the rest alone is enough to judge by.
        while self._read - self._recent[0][0] >= self._records:
            oldest_read, oldest_dead = self._recent.popleft()
            self._read -= oldest_read
            self._dead -= oldest_dead
        if self._read >= self._records and self._dead > self._share * self._read:
            raise DeadLetterBreakerError(
                f"dead letters: expected at most {self._share:.0%} of the last {self._read} records. "
                f"Received: dead={self._dead}. The input may have changed; `latentstream dlq list` gives the reasons."
            )


def _from_facts(facts: dict[str, str], record: OutputRecord) -> DeadLetter:
    return DeadLetter(
        topic=facts["topic"],
        partition=int(facts["partition"]),
        offset=int(facts["offset"]),
        timestamp=int(facts["timestamp"]),
        key=record.key,
        value=None if "payload" in facts else record.value,
        headers=_own(record.headers),
        code=facts["code"],
        message=facts["exception.message"],
        stage=facts["stage"],
        exception=facts["exception.class.name"],
        pipeline=facts["pipeline"],
        attempt=int(facts["attempt"]),
        by_reference=facts.get("payload") == "reference",
    )


def _own(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


def _attempts(headers: Headers) -> int:
    for name, value in reversed(headers):
        if name == f"{PREFIX}attempt" and value is not None and value.isdigit():
            return int(value[:9])
    return 0


def _cut(message: str) -> str:
    # Names in a message come from strangers; lone surrogates would not encode.
    return message.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")
