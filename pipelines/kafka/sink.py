"""The sink: records to a topic, acknowledged by all replicas before a bundle counts as done.

One idempotent producer per process serves all topics. What it does not acknowledge
is sent once more by a new producer: after a timeout the old one may never recover,
and its sequence numbers mean nothing any more. Readers drop a repeated record by its id.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

import apache_beam as beam
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from ae_model.exceptions import ConnectError, LatentstreamError, SinkError
from pipelines.kafka import hooks
from pipelines.kafka.client import OUTPUT_OPTIONS, KafkaSettings, make_producer, tune_allocator
from pipelines.kafka.offsets import check_topics
from pipelines.kafka.transactions import Transactions, bundle, transaction
from pipelines.meters import METERS
from pipelines.records import OutputRecord

PRODUCE_OPTIONS = {
    **OUTPUT_OPTIONS,
    # How long to wait for a topic to be known.
    "max_block_ms": 10_000,
    # Longer than a broker takes to restart.
    "delivery_timeout_ms": 60_000,
}
FLUSH_S = 75.0
# A producer that had nothing acknowledged for so long may be one that never will.
HUNG_S = 20.0
RETRY_S = 0.5
CLOSE_S = 10.0
# More than this is acknowledged before more is taken.
UNFLUSHED_BYTES = 32 << 20
# What a record takes in this process besides its bytes; records of one frame each would else be counted as nothing.
_RECORD_OVERHEAD_BYTES = 1 << 10

_ABSENT = (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.InvalidTopicError)
log = logging.getLogger(__name__)


class WriteRecords(beam.PTransform):  # type: ignore[misc]
    """Write each OutputRecord to a topic.

    Args:
        settings: which cluster.
        topic: where to; it must exist.
        together: send a bundle's records at its end, which costs less, and loses them where the bundle fails.
            Dead letters must not: they say why it failed.
        transactions: whose transactions the records belong to, by the input partition they came from.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        together: bool = False,
        transactions: Transactions | None = None,
    ) -> None:
        """Keep plain values; nothing connects before a worker writes."""
        super().__init__()
        self._transactions = transactions
        self._settings = settings
        self._topic = topic
        self._together = together

    def expand(self, records: beam.PCollection[OutputRecord]) -> beam.PCollection[None]:
        """Build the one step; nothing comes out of it."""
        if self._transactions is None:
            writer: beam.DoFn = _Writer(self._settings, self._topic, self._together)
        else:
            writer = _TransactionalWriter(self._transactions, self._topic)
        return records | "Write" >> beam.ParDo(writer).with_output_types(type(None))


class _Writer(beam.DoFn):  # type: ignore[misc]
    def __init__(self, settings: KafkaSettings, topic: str, together: bool) -> None:
        super().__init__()
        self._settings = settings
        self._topic = topic
        self._together = together
        self._unflushed: UnflushedRecords | None = None

    def start_bundle(self) -> None:
        tune_allocator()
        self._unflushed = UnflushedRecords(self._settings, self._topic, together=self._together)

    def process(self, record: OutputRecord) -> None:
        assert self._unflushed is not None
        self._unflushed.send(record)

    def finish_bundle(self) -> None:
        assert self._unflushed is not None
        self._unflushed.flush()


class _TransactionalWriter(beam.DoFn):  # type: ignore[misc]
    """Each record goes into the transaction of the input partition it came from."""

    def __init__(self, transactions: Transactions, topic: str) -> None:
        super().__init__()
        self._transactions = transactions
        self._topic = topic

    def start_bundle(self) -> None:
        tune_allocator()
        bundle().join()

    def process(self, record: OutputRecord) -> None:
        assert record.partition is not None
        transaction(self._transactions, record.partition).send(self._topic, record)

    def finish_bundle(self) -> None:
        bundle().leave(self._transactions)


class UnflushedRecords:
    """Records that are not known to be written.

    Each one given to the producer by itself wakes its thread, which takes longer to see
    that there is little to do than to send it; ``together`` gives them all in ``flush``.
    """

    def __init__(self, settings: KafkaSettings, topic: str, *, together: bool = False) -> None:
        """Start with none."""
        self._settings = settings
        self._topic = topic
        self._together = together
        self._waiting: list[OutputRecord] = []
        self._sent: list[tuple[OutputRecord, Any]] = []
        self._bytes = 0

    def send(self, record: OutputRecord) -> None:
        """Take a record; flush when there are many bytes."""
        self._waiting.append(record)
        self._bytes += len(record.value or b"") + len(record.key or b"") + _RECORD_OVERHEAD_BYTES
        if not self._together:
            self._hand_over()
        if self._bytes >= UNFLUSHED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Return when all are written, by a new producer where the first one hangs or fails.

        Raises:
            ConnectError: the topic is absent or may not be written, or no broker came back in time.
            SinkError: something was not acknowledged, twice.
        """
        self._hand_over()
        if not self._sent:
            return
        deadline = time.monotonic() + FLUSH_S
        may_fail = True
        while failed := self._settle():
            failure = self._first_failure()
            drop_producer(self._settings)
            has_hung = isinstance(failure, TimeoutError)
            if time.monotonic() > deadline or not (may_fail or has_hung):
                raise self._error(failure)
            log.warning("topic %s: %d records not acknowledged; sending them again.", self._topic, len(failed))
            self._send_again(failed, deadline)
            may_fail = may_fail and has_hung
        METERS.add("written", len(self._sent))
        self._sent, self._bytes = [], 0

    def _send_again(self, failed: list[OutputRecord], deadline: float) -> None:
        """Give them to a new producer, as soon as there is a broker to make one with."""
        while True:
            try:
                shared_producer(self._settings)
                break
            except ConnectError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)
        self._sent = [(record, self._produce(record)) for record in failed]

    def _hand_over(self) -> None:
        """Give what waits to the producer."""
        self._sent += [(record, self._produce(record)) for record in self._waiting]
        self._waiting = []

    def _settle(self) -> list[OutputRecord]:
        """Wait for every record as long as some are acknowledged; those that were not."""
        left = len(self._sent) + 1
        while 0 < (waiting := sum(not future.is_done for _, future in self._sent)) < left:
            left = waiting
            with suppress(kafka_errors.KafkaTimeoutError):
                shared_producer(self._settings).flush(timeout=HUNG_S)
        failed = [record for record, future in self._sent if not future.succeeded()]
        if failed:
            error = self._error(self._first_failure())
            if not error.retriable:
                raise error
            METERS.add("written", len(self._sent) - len(failed))
        return failed

    def _produce(self, record: OutputRecord) -> Any:
        try:
            return shared_producer(self._settings).send(
                self._topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
            )
        except kafka_errors.KafkaTimeoutError as exc:
            drop_producer(self._settings)
            check_topics(self._settings, [self._topic], "STREAM")
            raise self._error(exc) from exc
        except (kafka_errors.KafkaError, ValueError) as exc:
            raise self._error(exc) from exc

    def _first_failure(self) -> BaseException:
        for _, future in self._sent:
            if future.failed():
                return future.exception  # type: ignore[no-any-return]
        return TimeoutError(f"nothing acknowledged within {HUNG_S:.0f} s")

    def _error(self, exc: BaseException) -> LatentstreamError:
        if isinstance(exc, kafka_errors.AuthorizationError):
            return ConnectError(f"topic {self._topic}: expected the right to write. Received: {exc}. Ask for an ACL.")
        if isinstance(exc, _ABSENT):
            return ConnectError(
                f"topic {self._topic} on {self._settings.bootstrap}: expected it to exist. Received: {exc}. "
                "Run `latentstream topics create STREAM`."
            )
        if isinstance(exc, kafka_errors.MessageSizeTooLargeError):
            return SinkError(
                f"topic {self._topic}: expected records within its max.message.bytes. Received: {exc}. "
                "Raise it, or set outputs.per: frame."
            )
        return SinkError(f"topic {self._topic}: expected every record to be acknowledged. Received: {exc!r}.")


_PRODUCERS: dict[KafkaSettings, KafkaProducer] = {}
_LOCK = threading.Lock()


def shared_producer(settings: KafkaSettings) -> KafkaProducer:
    """This process's producer, connected on first use.

    Raises:
        ConnectError: no broker answers, or it denies access.
    """
    with _LOCK:
        if settings not in _PRODUCERS:
            _PRODUCERS[settings] = make_producer(settings, **PRODUCE_OPTIONS)
        return _PRODUCERS[settings]


def drop_producer(settings: KafkaSettings) -> None:
    """Give up this process's producer; the next record gets a new one."""
    with _LOCK:
        producer = _PRODUCERS.pop(settings, None)
    if producer is not None:
        METERS.add("client_rebuilds")
        hooks.close_producer(producer, 0)


def close_sinks() -> None:
    """Close all producers of this process; call it when a run has ended."""
    with _LOCK:
        producers = list(_PRODUCERS.values())
        _PRODUCERS.clear()
    for producer in producers:
        hooks.close_producer(producer, CLOSE_S)
