"""The source: Kafka partitions as raw batches, by a splittable DoFn of our own.

    Create (a KafkaShard per partition) ──> ReadPartition ─┬─ records   RawBatch
                                                           └─ refused   RefusedRecords, by reference

A call reads one partition until its time or bytes are used up or nothing is left,
and defers the rest: a runner takes its checkpoints between two calls. Offsets are
claimed before they are handed on, so a record is out exactly when it is claimed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder, TimestampCoder, registry
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp

from pipelines.beam_hooks import shorten_sampling
from pipelines.frame_batch import RawBatch
from pipelines.kafka.buffers import Caps, Chunk
from pipelines.kafka.client import KafkaSettings, tune_allocator
from pipelines.kafka.commits import COMMITTER, CommitKey, flush_commits
from pipelines.kafka.consumers import ReaderKey, SharedConsumer, close_consumers, shared_consumer, total_lag
from pipelines.kafka.placement import Subtasks, spread
from pipelines.kafka.refused import RefusedRecords as RefusedRecords
from pipelines.kafka.tracker import (
    END,
    KafkaShard,
    KafkaShardCoder,
    OffsetSpan,
    OffsetSpanCoder,
    OffsetSpanTracker,
    beam_timestamp,
)
from pipelines.kafka.transactions import Transactions, bundle
from pipelines.meters import METERS

RECORDS = "records"
REFUSED = "refused"
# Flink counts a deferral in whole seconds; shorter would be none at all.
_IDLE_DEFERRAL_S = 1
# The watermark stays this far behind the newest record, and behind the clock while nothing comes.
_WATERMARK_DELAY_MS = 10_000

_DRAIN = threading.Event()

# On import: a worker makes its sampler before any DoFn of ours is called.
shorten_sampling()
registry.register_coder(KafkaShard, KafkaShardCoder)
registry.register_coder(OffsetSpan, OffsetSpanCoder)


def request_drain() -> None:
    """End every source of this process at its next raw batch, so that the pipeline finishes cleanly."""
    _DRAIN.set()


def is_draining() -> bool:
    """Whether a drain was requested."""
    return _DRAIN.is_set()


def clear_drain() -> None:
    """Let sources read again, before another run in this process."""
    _DRAIN.clear()


def close_sources() -> None:
    """Commit what waits and close all clients; call it when a run has ended.

    Raises:
        ConnectError: the last offsets could not be committed.
    """
    close_consumers()
    _HIGHWATER.clear()
    _OFFERED.clear()
    flush_commits()


@dataclass(frozen=True)
class ReadOptions:
    """How much one call of the source does, and how much is fetched ahead.

    Args:
        budget_s: a call ends after this time; a checkpoint waits for it.
        budget_bytes: or after this many bytes.
        idle_s: how long a call waits for data when there is none at all.
        buffer_bytes: fetched ahead per partition.
        commit_s: offsets of a partition are offered for commit this often.
        max_frames: records in a raw batch.
        batch_bytes: bytes in a raw batch.
    """

    budget_s: float = 1.0
    budget_bytes: int = 32 << 20
    idle_s: float = 0.1
    buffer_bytes: int = 8 << 20
    commit_s: float = 2.0
    max_frames: int = 4096
    batch_bytes: int = 8 << 20


class ReadFrames(beam.PTransform):  # type: ignore[misc]
    """Read partitions of a topic.

    Args:
        settings: which cluster.
        topic: what to read.
        partitions: of it.
        start: first offset of each, as ``start_offsets`` gives them; a runner's own state wins.
        until: first offset not to read, of each; None for an unbounded read.
        group: whom to commit for, or None.
        max_record_bytes: key and value of a record; a larger one is refused.
        max_inflated_bytes: records of a compressed batch; one that gives more is refused.
        options: how much a call does.
        transactions: whose transactions the offsets go with, instead of a commit for ``group``.
        hold: wait at ``until`` instead of ending there, for an engine that takes no checkpoints of what has
            ended; whoever started the run ends it when the group has passed ``until``.
        subtasks: of Flink's, over which to spread the partitions; None leaves it to the engine.

    Returns:
        ``.records``, a PCollection of RawBatch, and ``.refused``, one of RefusedRecords.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: Sequence[int],
        start: Mapping[int, int],
        until: Mapping[int, int] | None = None,
        group: str | None = None,
        max_record_bytes: int = 1 << 20,
        max_inflated_bytes: int = 64 << 20,
        options: ReadOptions | None = None,
        transactions: Transactions | None = None,
        hold: bool = False,
        subtasks: Subtasks | None = None,
    ) -> None:
        """Keep plain values; nothing connects before a worker reads."""
        super().__init__()
        self.start, self.until = start, until
        options = options or ReadOptions()
        caps = Caps(options.max_frames, options.batch_bytes, max_record_bytes, max_inflated_bytes)
        self.partitions = tuple(partitions)
        shards = [KafkaShard(topic, partition) for partition in partitions]
        self._shards = spread(shards, subtasks) if subtasks else shards
        ends = None if hold else until
        kind = ReadPartition if ends is None else ReadPartitionUntil
        self._read = kind(
            key=ReaderKey(settings, topic, caps, options.buffer_bytes),
            spans={p: OffsetSpan(start[p], None if ends is None else ends[p]) for p in partitions},
            holds=dict(until or {}) if hold else {},
            commit=None if group is None or transactions else CommitKey(settings, group, topic),
            options=options,
            transactions=transactions,
        )

    def expand(self, begin: beam.pvalue.PBegin) -> beam.pvalue.DoOutputsTuple:
        """Build the two steps."""
        shards = begin | "Partitions" >> beam.Create(self._shards, reshuffle=False).with_output_types(KafkaShard)
        read = beam.ParDo(self._read).with_output_types(RawBatch)
        outputs = shards | "ReadPartition" >> read.with_outputs(REFUSED, main=RECORDS)
        # Beam tells only the main output that its input never ends.
        outputs[REFUSED].is_bounded = outputs[RECORDS].is_bounded
        return outputs


class _Watermarks(WatermarkEstimatorProvider):  # type: ignore[misc]
    """A watermark that is set by hand and is never None, from which no window would ever fire."""

    def initial_estimator_state(self, element: KafkaShard, restriction: OffsetSpan) -> Timestamp:
        """Before everything."""
        return MIN_TIMESTAMP

    def create_watermark_estimator(self, estimator_state: Timestamp) -> ManualWatermarkEstimator:
        """Go on from a call before."""
        return ManualWatermarkEstimator(estimator_state)

    def estimator_state_coder(self) -> Coder:
        """Eight bytes."""
        return TimestampCoder()


class _PartitionReader(beam.DoFn, RestrictionProvider):  # type: ignore[misc]
    """Read one partition from the restriction's next offset on."""

    def __init__(
        self,
        key: ReaderKey,
        spans: Mapping[int, OffsetSpan],
        holds: Mapping[int, int],
        commit: CommitKey | None,
        options: ReadOptions,
        transactions: Transactions | None = None,
    ) -> None:
        """Keep plain values."""
        super().__init__()
        self._holds = dict(holds)
        self._transactions = transactions
        self._key = key
        self._spans = dict(spans)
        self._commit = commit
        self._options = options
        self._read_counter = Metrics.counter("latentstream", "read")

    def initial_restriction(self, element: KafkaShard) -> OffsetSpan:
        """Where this partition starts and stops."""
        return self._spans[element.partition]

    def create_tracker(self, restriction: OffsetSpan) -> OffsetSpanTracker:
        """Track one call."""
        return OffsetSpanTracker(restriction)

    def restriction_size(self, element: KafkaShard, restriction: OffsetSpan) -> float:
        """Records left, from what is known without asking: runners call this often."""
        stop = _HIGHWATER.get((self._key, element.partition)) if restriction.stop is None else restriction.stop
        return 1.0 if stop is None else float(max(0, stop - restriction.next))

    def restriction_coder(self) -> Coder:
        """Seventeen bytes that outlive this build."""
        return OffsetSpanCoder()

    def truncate(self, element: KafkaShard, restriction: OffsetSpan) -> None:
        """A runner's drain reads no further."""
        return None

    def _read_chunks(self, shard: KafkaShard, tracker: Any, finalizer: Any, estimator: Any) -> Iterator[Any]:
        tune_allocator()
        if self._transactions is not None:
            bundle().enter(self._transactions)
        call = _Call(self._options, tracker, shared_consumer(self._key), shard, self._holds.get(shard.partition))
        first = first_of_call = call.next
        for chunk in call.chunks():
            estimator.set_watermark(max(estimator.current_watermark(), _watermark(chunk)))
            yield from self._outputs(chunk, first)
            # Offsets without records are answered for by the next batch that has some.
            first = first if chunk.batch is None else chunk.last + 1
        estimator.set_watermark(max(estimator.current_watermark(), call.watermark()))
        _HIGHWATER[self._key, shard.partition] = call.consumer.highwater(shard.partition)
        METERS.set("lag", total_lag())
        if self._transactions is not None and call.next > first_of_call:
            bundle().read(self._transactions, shard.partition, call.next)
        self._offer_commit(shard, call, finalizer)

    def _outputs(self, chunk: Chunk, first: int) -> Iterator[Any]:
        if chunk.batch is not None:
            batch = replace(chunk.batch, span=(first, chunk.last))
            METERS.add("read", len(chunk.batch))
            METERS.add("bytes_in", chunk.nbytes)
            self._read_counter.inc(len(chunk.batch))
            yield TimestampedValue(batch, beam_timestamp(int(batch.timestamps.max())))
        for refused in chunk.refused:
            METERS.add("read", len(refused))
            self._read_counter.inc(len(refused))
            yield TaggedOutput(REFUSED, TimestampedValue(refused, beam_timestamp(refused.timestamp)))

    def _offer_commit(self, shard: KafkaShard, call: _Call, finalizer: Any) -> None:
        """Ask for a callback when the outputs are durable; rarely, because it keeps the worker's stage alive."""
        if self._commit is None:
            return
        place, now = (self._commit, shard.partition), time.monotonic()
        offered, when = _OFFERED.get(place, (-1, 0.0))
        is_new = call.next != offered
        # One that waits at its stop offers it again and again: whoever ends the run must come to know.
        if not (is_new or call.is_held):
            return
        if now - when < self._options.commit_s and not (is_new and (call.is_last or call.is_held)):
            return
        _OFFERED[place] = (call.next, now)
        commit, next_offset = self._commit, call.next
        finalizer.register(lambda: COMMITTER.enqueue(commit, shard.partition, next_offset))


class ReadPartition(_PartitionReader):
    """Read a partition without an end."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        shard: KafkaShard,
        # Before the restriction: in the other order Beam 2.77 passes the tracker twice.
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = beam.DoFn.RestrictionParam(),  # noqa: B008  Beam's way of asking for it
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(_Watermarks()),  # noqa: B008
    ) -> Iterator[Any]:
        """One call; see the module's docstring."""
        yield from self._read_chunks(shard, tracker, finalizer, estimator)


class ReadPartitionUntil(_PartitionReader):
    """Read a partition up to its stop offset."""

    def process(
        self,
        shard: KafkaShard,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = beam.DoFn.RestrictionParam(),  # noqa: B008
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(_Watermarks()),  # noqa: B008
    ) -> Iterator[Any]:
        """One call; see the module's docstring."""
        yield from self._read_chunks(shard, tracker, finalizer, estimator)


class _Call:
    """One call of ``process``: claims, budget, and how it ends."""

    def __init__(
        self, options: ReadOptions, tracker: Any, consumer: SharedConsumer, shard: KafkaShard, hold: int | None
    ) -> None:
        """Begin at the restriction's next offset."""
        span = tracker.current_restriction()
        self.next: int = span.next
        self.is_last = False
        self.consumer = consumer
        self._stop: int | None = span.stop
        self._hold = hold
        self._options = options
        self._tracker = tracker
        self._partition = shard.partition
        self._newest_ms: int | None = None
        self._idle = False

    def chunks(self) -> Iterator[Chunk]:
        """Chunks up to the end of the call, each claimed before it is handed on."""
        deadline, room = time.monotonic() + self._options.budget_s, self._options.budget_bytes
        while not self._has_ended():
            if time.monotonic() >= deadline or room <= 0:
                self._tracker.defer_remainder()
                return
            chunk = None if self.is_held else self.consumer.take(self._partition, self.next, self._options.idle_s)
            if chunk is None:
                self._idle = True
                self._tracker.defer_remainder(Duration(seconds=_IDLE_DEFERRAL_S))
                return
            chunk = chunk.until(self._stop if self._hold is None else self._hold)
            if not self._tracker.try_claim(chunk.last):
                self.consumer.give_back(self._partition, chunk)
                return
            self.next, room = chunk.last + 1, room - chunk.nbytes
            yield chunk

    @property
    def is_held(self) -> bool:
        """Whether it waits at its stop, without an end."""
        return self._hold is not None and self.next >= self._hold

    def watermark(self) -> Timestamp:
        """Near the clock when all is read, so that an idle partition holds nothing back."""
        if not self._idle:
            return MIN_TIMESTAMP
        return beam_timestamp(int(time.time() * 1000) - _WATERMARK_DELAY_MS)

    def _has_ended(self) -> bool:
        """Whether the restriction is at its end; a drain puts the end here."""
        if is_draining():
            self._tracker.try_claim(END)
            self.is_last = True
        elif self._stop is not None and self.next >= self._stop:
            self.is_last = True
        return self.is_last


def _watermark(chunk: Chunk) -> Timestamp:
    """A little behind the newest record; one from the future must not close windows that the rest still need."""
    if chunk.batch is None:
        return MIN_TIMESTAMP
    newest = min(int(chunk.batch.timestamps.max()), int(time.time() * 1000))
    return beam_timestamp(newest - _WATERMARK_DELAY_MS)


# Ends of partitions as last seen by this process, and the offsets last offered for commit.
_HIGHWATER: dict[tuple[ReaderKey, int], int | None] = {}
_OFFERED: dict[tuple[CommitKey, int], tuple[int, float]] = {}
