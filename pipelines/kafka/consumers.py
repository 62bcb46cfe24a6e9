"""One Kafka client per process and topic, for all partitions that are read in it.

A call of the source takes the chunks of one partition and leaves; what was fetched
ahead stays here for the next call. Whoever finds a partition empty polls for all.
No thread of our own: kafka-python's fetches the next megabytes while a frame
batch is in the model.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from ae_model.exceptions import ConnectError, LatentstreamError, SourceGoneError
from pipelines.kafka import hooks
from pipelines.kafka.buffers import Caps, Chunk, PartitionBuffer
from pipelines.kafka.client import KafkaSettings, connect_error, make_consumer
from pipelines.kafka.offsets import AbsentTopicError, begin_offsets, check_topics, end_offsets
from pipelines.kafka.raw_batches import Gap, from_client_records
from pipelines.meters import METERS

FETCH_OPTIONS = {
    # Larger fetches are slower: their buffers are fresh pages every time.
    "max_partition_fetch_bytes": 2 << 20,
    "fetch_max_bytes": 8 << 20,
    "fetch_min_bytes": 64 << 10,
    "fetch_max_wait_ms": 100,
    # On the raw path it counts record batches.
    "max_poll_records": 100_000,
    # A record batch comes whole however large it is; kafka-python's own 100 MB would cut the line each time.
    "receive_message_max_bytes": 512 << 20,
}
# A place at which so many new clients in turn bring nothing, though there is something, is given up.
MAX_STALLS = 4
# A partition waits this long without data before its end is asked from a second client.
STALL_S = 15.0
# A partition that no call asked for in this time is read by another process now.
ABANDONED_S = 30.0
# A broker that is away this long ends the run; Kafka's own restarts take seconds.
GIVE_UP_S = 300.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReaderKey:
    """What two calls must have in common to share a client."""

    settings: KafkaSettings
    topic: str
    caps: Caps
    buffer_bytes: int = 8 << 20


class SharedConsumer:
    """A Kafka consumer and a buffer per partition; safe for threads."""

    def __init__(self, key: ReaderKey) -> None:
        """Connect.

        Raises:
            ConnectError: no broker answers, it denies access, or the topic is absent.
        """
        check_topics(key.settings, [key.topic], "STREAM")
        self._key = key
        self._buffers: dict[int, PartitionBuffer] = {}
        self._lock = threading.RLock()
        self._down_since: float | None = None
        self._consumer, self._raw = self._connect()

    def take(self, partition: int, next_offset: int, wait_s: float) -> Chunk | None:
        """The next chunk from ``next_offset`` on; None when there is none yet.

        Args:
            partition: of the topic.
            next_offset: where the caller is; a jump costs what was fetched ahead.
            wait_s: how long to wait for data, when no other partition has any.

        Raises:
            SourceGoneError: the offset or the topic no longer exists.
            ConnectError: reading is denied, or the broker is gone for too long.
        """
        with self._lock:
            buffer = self._position(partition, next_offset)
            chunk = buffer.pop()
            if chunk is None:
                self._poll(0.0 if self._has_work() else wait_s)
                chunk = buffer.pop()
            if chunk is None and buffer.error is not None:
                raise buffer.error
            if chunk is None and time.monotonic() - buffer.waiting_since > STALL_S:
                self._check_stalled()
            self._pace(buffer)
            return chunk

    def give_back(self, partition: int, chunk: Chunk) -> None:
        """Undo the last ``take`` of this partition."""
        with self._lock:
            self._buffers[partition].give_back(chunk)

    def highwater(self, partition: int) -> int | None:
        """The partition's end as the last fetch told it."""
        tp = self._tp(partition)
        with self._lock:
            known = tp in self._consumer.assignment()
            end = self._consumer.highwater(tp) if known else None
        return None if end is None else int(end)

    def lag(self) -> int:
        """Records that are in the partitions read here and were not handed on."""
        with self._lock:
            ends = {partition: self.highwater(partition) for partition in self._buffers}
            return sum(max(0, end - self._buffers[p].next) for p, end in ends.items() if end is not None)

    def close(self) -> None:
        """Close the client; what was fetched ahead is dropped."""
        with self._lock:
            self._consumer.close()
            self._buffers.clear()

    def _connect(self) -> tuple[KafkaConsumer, bool]:
        consumer = make_consumer(self._key.settings, **FETCH_OPTIONS)
        return consumer, hooks.install(consumer)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._key.topic, partition)

    def _position(self, partition: int, next_offset: int) -> PartitionBuffer:
        """The partition's buffer, with the client where it must be; no seek when it is there."""
        buffer = self._buffers.get(partition)
        if buffer is None:
            buffer = PartitionBuffer(self._key.topic, partition, self._key.caps, next_offset)
            self._buffers[partition] = buffer
            self._consumer.assign([self._tp(p) for p in self._buffers])
            self._consumer.seek(self._tp(partition), next_offset)
        elif buffer.next != next_offset:
            buffer.restart(next_offset)
            self._consumer.seek(self._tp(partition), next_offset)
            self._pace(buffer)
        buffer.asked_at = time.monotonic()
        return buffer

    def _has_work(self) -> bool:
        """Whether another partition has data that a call will come for; a shard that moved away has not."""
        since = time.monotonic() - ABANDONED_S
        return any(buffer.nbytes and buffer.asked_at > since for buffer in self._buffers.values())

    def _poll(self, wait_s: float) -> None:
        """Fetch, and sort what comes into the buffers."""
        try:
            fetched = self._consumer.poll(timeout_ms=int(wait_s * 1000))
        except kafka_errors.OffsetOutOfRangeError as exc:
            self._lose(exc)
            return
        except kafka_errors.AuthorizationError as exc:
            raise connect_error(self._key.settings, exc) from exc
        except kafka_errors.KafkaError as exc:
            log.warning("%s: %s; rebuilding the client.", self._key.topic, exc)
            self._rebuild()
            return
        for tp, items in fetched.items():
            buffer = self._buffers[tp.partition]
            for item in items if self._raw else [from_client_records(items)]:
                buffer.put(item)
            self._down_since = None
            self._pace(buffer)
        if not self._raw:
            self._put_gaps()

    def _put_gaps(self) -> None:
        """Plain ``poll`` passes over control batches and the like in silence; only the position tells."""
        for buffer in self._buffers.values():
            position = self._consumer.position(self._tp(buffer.partition), timeout_ms=0)
            if position is not None and position > buffer.fetched:
                buffer.put(Gap(position - 1))

    def _pace(self, buffer: PartitionBuffer) -> None:
        """Stop fetching for a full buffer, and go on when it is half empty."""
        tp = self._tp(buffer.partition)
        paused = tp in self._consumer.paused()
        if not paused and buffer.nbytes >= self._key.buffer_bytes:
            self._consumer.pause(tp)
        elif paused and buffer.nbytes * 2 <= self._key.buffer_bytes and buffer.error is None:
            self._consumer.resume(tp)

    def _lose(self, exc: kafka_errors.OffsetOutOfRangeError) -> None:
        """Remember for each partition named that its offset is gone; the others go on."""
        for tp, offset in exc.args[0].items():
            begin = begin_offsets(self._key.settings, tp.topic, [tp.partition])[tp.partition]
            end = end_offsets(self._key.settings, tp.topic, [tp.partition])[tp.partition]
            self._buffers[tp.partition].error = SourceGoneError(
                f"input {tp.topic}[{tp.partition}]@{offset}: expected an offset from {begin} to {end}. "
                f"Received: offset={offset}. The records were deleted; go on with --start earliest."
            )
            self._consumer.pause(tp)

    def _check_stalled(self) -> None:
        """Ask a second client whether there is data that the first one does not bring."""
        now = time.monotonic()
        waiting = [b for b in self._buffers.values() if not b.nbytes and now - b.waiting_since > STALL_S]
        ends = self._ask_ends([b.partition for b in waiting])
        for buffer in waiting:
            buffer.waiting_since = time.monotonic()
        stalled = [b for b in waiting if ends.get(b.partition, 0) > b.fetched]
        for buffer in stalled:
            self._count_stall(buffer)
            if buffer.stalled_at == buffer.fetched and self._is_empty(buffer):
                buffer.put(Gap(ends[buffer.partition] - 1))
        if any(not b.nbytes and not b.items for b in stalled):
            log.warning("%s: no data though there is some; rebuilding the client.", self._key.topic)
            self._rebuild()

    def _count_stall(self, buffer: PartitionBuffer) -> None:
        buffer.stalls = buffer.stalls + 1 if buffer.stalled_at == buffer.fetched else 1
        if buffer.stalls > MAX_STALLS:
            place, after = f"{buffer.topic}[{buffer.partition}]@{buffer.fetched}", buffer.fetched + 1
            raise SourceGoneError(
                f"input {place}: expected the record that is there. Received: none, by {MAX_STALLS} clients in turn. "
                f"It may be larger than {FETCH_OPTIONS['receive_message_max_bytes'] >> 20} MiB; go on behind it with "
                f"--start '{{\"{buffer.partition}\": {after}}}'."
            )

    def _ask_ends(self, partitions: list[int]) -> dict[int, int]:
        """Ends of the partitions by a new client; empty when no broker answers."""
        try:
            check_topics(self._key.settings, [self._key.topic], "STREAM")
            return end_offsets(self._key.settings, self._key.topic, partitions)
        except AbsentTopicError as exc:
            raise SourceGoneError(f"input {self._key.topic}: expected it to go on. Received: {exc}") from exc
        except ConnectError as exc:
            self._endure(exc)
            return {}

    def _is_empty(self, buffer: PartitionBuffer) -> bool:
        """Whether a fetch of this partition alone brings nothing: compaction left no record up to the end."""
        tp = self._tp(buffer.partition)
        probe = make_consumer(self._key.settings, **FETCH_OPTIONS)
        try:
            hooks.install(probe)
            probe.assign([tp])
            probe.seek(tp, buffer.fetched)
            return not probe.poll(timeout_ms=5000) and probe.highwater(tp) is not None
        finally:
            probe.close()

    def _rebuild(self) -> None:
        """A new client at the same place; the old one may never come back to itself."""
        METERS.add("client_rebuilds")
        self._consumer.close(timeout_ms=1000)
        try:
            self._consumer, self._raw = self._connect()
        except ConnectError as exc:
            self._endure(exc)
            return
        self._consumer.assign([self._tp(partition) for partition in self._buffers])
        for buffer in self._buffers.values():
            buffer.stalled_at = buffer.fetched
            buffer.waiting_since = time.monotonic()
            self._consumer.seek(self._tp(buffer.partition), buffer.fetched)

    def _endure(self, exc: LatentstreamError) -> None:
        """Go on without a broker for a while; raise after GIVE_UP_S."""
        now = time.monotonic()
        self._down_since = self._down_since or now
        if now - self._down_since > GIVE_UP_S:
            raise exc
        log.warning("%s", exc)


_SHARED: dict[ReaderKey, SharedConsumer] = {}
_SHARED_LOCK = threading.Lock()


def shared_consumer(key: ReaderKey) -> SharedConsumer:
    """This process's consumer for ``key``, connected on first use."""
    with _SHARED_LOCK:
        if key not in _SHARED:
            _SHARED[key] = SharedConsumer(key)
        return _SHARED[key]


def total_lag() -> int:
    """Records not yet handed on, over all consumers of this process."""
    with _SHARED_LOCK:
        consumers = list(_SHARED.values())
    return sum(consumer.lag() for consumer in consumers)


def close_consumers() -> None:
    """Close all consumers of this process."""
    with _SHARED_LOCK:
        consumers: list[Any] = list(_SHARED.values())
        _SHARED.clear()
    for consumer in consumers:
        consumer.close()
