"""Exactly once: what a bundle read of a partition and all it wrote of it are one transaction.

    bundle   sinks start ── source starts ── records ── source ends ── sinks end, the last of them commits
    offsets                                             next offset ──────┘ inside the same transaction

An input partition has a producer of its own, named by stream and partition. Who makes it anew
fences the run that had it before, and reads the committed offsets only then. Nothing is
remembered elsewhere: on an engine with a state of its own that would be a second truth.

All steps of a bundle run on one thread, if the engine keeps them in one stage. The source
refuses to read where it does not.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import TransactionState
from kafka.structs import OffsetAndMetadata

from ae_model.exceptions import ConfigError, ConnectError, LatentstreamError, SinkError
from pipelines.kafka import hooks
from pipelines.kafka.client import OUTPUT_OPTIONS, KafkaSettings, make_admin, make_producer
from pipelines.meters import METERS
from pipelines.records import OutputRecord

# A broker aborts what is open for longer; a bundle takes seconds, the restart of a broker less than this.
TIMEOUT_MS = 120_000
# A client that lost its coordinator may wait for ever; the next run takes over at once.
COMMIT_S = 60.0
CLOSE_S = 5.0
SETTLE_S = 10.0
_UNSETTLED = (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT, TransactionState.ONGOING)
PRODUCE_OPTIONS = {
    **OUTPUT_OPTIONS,
    "delivery_timeout_ms": 90_000,
    "transaction_timeout_ms": TIMEOUT_MS,
}
# Later calls of a fenced producer name the first error in their text alone.
_FENCED = ("ProducerFencedError", "InvalidProducerEpochError", "TransactionCoordinatorFencedError")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transactions:
    """Whose transactions: plain values that travel with source and sinks.

    Args:
        settings: which cluster.
        stream: its name.
        topic: the input.
        group: whose offsets go with the records.
        writers: how many sinks there are, all of which must be in the source's bundle.
    """

    settings: KafkaSettings
    stream: str
    topic: str
    group: str
    writers: int

    def name(self, partition: int) -> str:
        """The transactional id of a partition; a prefix of it is what an ACL needs."""
        return f"latentstream.{self.stream}.{self.topic}.{partition}"


class PartitionTransaction:
    """The producer of one input partition, with a transaction open or not."""

    def __init__(self, transactions: Transactions, partition: int) -> None:
        """Fence whoever had it before.

        Raises:
            ConnectError: no broker, or no right to the transactional id.
            SinkError: the coordinator does not answer.
        """
        self._transactions, self._partition = transactions, partition
        name = transactions.name(partition)
        self._producer: KafkaProducer = make_producer(transactions.settings, transactional_id=name, **PRODUCE_OPTIONS)
        self._is_open = False
        self._records = 0
        self._ask(self._producer.init_transactions)

    def send(self, topic: str, record: OutputRecord) -> None:
        """Give a record to the transaction, which begins with its first."""
        self._begin()
        options = {"headers": list(record.headers), "timestamp_ms": record.timestamp_ms}
        self._ask(self._producer.send, topic, record.value, record.key, partition=record.partition, **options)
        self._records += 1

    def commit(self, next_offset: int) -> None:
        """Commit all records and the offset behind the last one read, or nothing.

        Raises:
            SinkError: another run took over, or the broker did not confirm.
        """
        self._begin()
        offsets = {TopicPartition(self._transactions.topic, self._partition): OffsetAndMetadata(next_offset, "", -1)}
        self._ask(self._producer.send_offsets_to_transaction, offsets, self._transactions.group)
        self._ask(self._producer.commit_transaction)
        METERS.add("written", self._records)
        METERS.add("commits")
        self._is_open, self._records = False, 0

    def close(self) -> None:
        """Abort what is open, so that readers need not wait for its end, and close the producer."""
        if self._is_open:
            # Whoever comes next aborts it too.
            within(CLOSE_S, [lambda: _in_silence(self._producer.abort_transaction)])
        hooks.close_producer(self._producer, CLOSE_S)

    def _begin(self) -> None:
        if not self._is_open:
            self._ask(self._producer.begin_transaction)
            self._is_open, self._records = True, 0

    def _ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        try:
            call(*args, **options)
        except (kafka_errors.KafkaError, ValueError) as exc:
            raise self._error(exc) from exc

    def _error(self, exc: Exception) -> LatentstreamError:
        place = f"transactions of {self._transactions.topic}[{self._partition}]"
        if any(name in repr(exc) for name in _FENCED):
            return SinkError(
                f"{place}: expected one run of stream {self._transactions.stream} at a time. "
                "Received: a second one, which took over. This one wrote nothing more."
            )
        if isinstance(exc, kafka_errors.AuthorizationError):
            name = self._transactions.name(self._partition)
            return ConnectError(f"{place}: expected the right to write as {name}. Received: {exc}. Ask for an ACL.")
        return SinkError(
            f"{place}: expected the broker to confirm. Received: {exc!r}. "
            "Start the run again; it goes on behind the last transaction."
        )


class Bundle:
    """What one thread reads and writes between a start of the sinks and the end of the last."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._writers = 0
        self._is_reading = False
        self._next: dict[int, int] = {}

    def join(self) -> None:
        """A sink starts. What an unfinished bundle of this thread left is given up: its run ends."""
        if self._is_reading:
            self._writers, self._is_reading, self._next = 0, False, {}
        self._writers += 1

    def read(self, transactions: Transactions, partition: int, next_offset: int) -> None:
        """The source has handed on all before ``next_offset``."""
        self._require_whole(transactions)
        self._next[partition] = next_offset

    def enter(self, transactions: Transactions) -> None:
        """The source starts to read.

        Raises:
            ConfigError: the engine put sinks into other bundles.
        """
        self._is_reading = True
        self._require_whole(transactions)

    def leave(self, transactions: Transactions) -> None:
        """A sink has ended; the last one commits, each partition for itself, all at a time.

        Raises:
            SinkError: a transaction was not committed.
        """
        self._writers -= 1
        if self._writers:
            return
        steps, self._next, self._is_reading = dict(self._next), {}, False
        calls = [
            lambda p=partition, n=next_offset: transaction(transactions, p).commit(n)
            for partition, next_offset in steps.items()
        ]
        if not within(COMMIT_S, calls):
            raise SinkError(
                f"transactions of {transactions.topic}: expected the broker to confirm within {COMMIT_S:.0f} s. "
                "Received: nothing. Start the run again; it goes on behind the last transaction."
            )

    def _require_whole(self, transactions: Transactions) -> None:
        if self._writers != transactions.writers:
            raise ConfigError(
                f"guarantee: expected an engine that keeps the source and its {transactions.writers} sinks in one "
                f"bundle with exactly_once. Received: sinks={self._writers}. Set guarantee: at_least_once."
            )


def within(seconds: float, calls: Iterable[Callable[[], None]]) -> bool:
    """Make all calls at a time, and wait so long; False when one is not back. Raises what the first one raised.

    The client's own waits have no end.
    """
    errors: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    return not any(thread.is_alive() for thread in threads)


def _in_silence(call: Callable[[], Any]) -> None:
    try:
        call()
    except kafka_errors.KafkaError:
        return


_OPEN: dict[tuple[Transactions, int], PartitionTransaction] = {}
_LOCK = threading.Lock()
_LOCAL = threading.local()


def bundle() -> Bundle:
    """This thread's bundle."""
    if not hasattr(_LOCAL, "bundle"):
        _LOCAL.bundle = Bundle()
    return _LOCAL.bundle  # type: ignore[no-any-return]


def fence(transactions: Transactions, partitions: Iterable[int]) -> None:
    """Take over all partitions from any run before; ask for the committed offsets only after this.

    Raises:
        ConnectError: no broker, or no right.
        SinkError: the coordinator does not answer.
    """
    calls = [lambda p=partition: _take(transactions, p) for partition in partitions]
    if not within(COMMIT_S, calls):
        raise SinkError(
            f"transactions of {transactions.topic}: expected their coordinator within {COMMIT_S:.0f} s. "
            "Received: nothing. Look at the broker's log."
        )


def transaction(transactions: Transactions, partition: int) -> PartitionTransaction:
    """This process's transaction of a partition, which ``fence`` made."""
    return _OPEN[transactions, partition]


def settle(transactions: Transactions, partitions: Iterable[int]) -> None:
    """Wait until readers see all that was committed: a broker answers before it has told every partition.

    Raises:
        ConnectError: no broker.
    """
    names = [transactions.name(partition) for partition in partitions]
    deadline = time.monotonic() + SETTLE_S
    with make_admin(transactions.settings) as admin:
        while any(found.state in _UNSETTLED for found in admin.describe_transactions(names).values()):
            if time.monotonic() > deadline:
                log.warning("transactions of %s: committed, but not yet seen by every reader.", transactions.topic)
                return
            time.sleep(0.02)


@contextmanager
def closing_transactions() -> Iterator[None]:
    """Close all producers of this process when the block ends; what was not committed is aborted."""
    try:
        yield
    finally:
        with _LOCK:
            open_ = list(_OPEN.values())
            _OPEN.clear()
        within(2 * CLOSE_S, [each.close for each in open_])


def _take(transactions: Transactions, partition: int) -> None:
    mine = PartitionTransaction(transactions, partition)
    with _LOCK:
        _OPEN[transactions, partition] = mine
