"""The source on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from kafka import TopicPartition

from ae_model.exceptions import ConnectError, SourceGoneError
from pipelines import coders  # noqa: F401  registers the raw batch's coder
from pipelines.frame_batch import RawBatch
from pipelines.kafka import consumers, hooks
from pipelines.kafka.buffers import Caps
from pipelines.kafka.client import KafkaSettings, make_admin, make_producer
from pipelines.kafka.consumers import ReaderKey, SharedConsumer
from pipelines.kafka.offsets import (
    begin_offsets,
    commit_offsets,
    create_topics,
    end_offsets,
    group_offsets,
    offsets_at,
    start_offsets,
    until_offsets,
)
from pipelines.kafka.refused import RefusedRecords
from pipelines.kafka.source import ReadFrames, ReadOptions, clear_drain, close_sources, request_drain
from pipelines.meters import METERS

RECORDS: list[RawBatch] = []
REFUSED: list[RefusedRecords] = []
ENOUGH = threading.Event()
WANTED = [0]

Rows = list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes]]]]


def keep(batch: RawBatch) -> None:
    RECORDS.append(batch)
    if sum(map(len, RECORDS)) >= WANTED[0]:
        ENOUGH.set()


def keep_refused(refused: RefusedRecords) -> None:
    REFUSED.append(refused)


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Each test reads as a new worker process would."""
    RECORDS.clear()
    REFUSED.clear()
    ENOUGH.clear()
    METERS.reset()
    yield
    close_sources()
    clear_drain()


@pytest.fixture
def settings(broker: str) -> KafkaSettings:
    return KafkaSettings(broker)


@pytest.fixture
def topic(settings: KafkaSettings, topic_name: Callable[..., str]) -> str:
    name = topic_name()
    create_topics(settings, {name: 2})
    return name


def produce(
    settings: KafkaSettings, topic: str, values: list[bytes | None], partition: int = 0, **options: Any
) -> None:
    producer = make_producer(settings, linger_ms=5, max_request_size=32 << 20, **options)
    for row, value in enumerate(values):
        producer.send(topic, value, key=b"k%d" % row, partition=partition, timestamp_ms=1000 + row)
    producer.flush()
    producer.close()


def read(settings: KafkaSettings, topic: str, partitions: tuple[int, ...] = (0, 1), **options: Any) -> None:
    """One bounded run on FnApiRunner."""
    given = {
        "start": start_offsets(settings, topic, partitions, None, "earliest"),
        "until": until_offsets(settings, topic, partitions, "latest"),
        **options,
    }
    run(ReadFrames(settings, topic, partitions, **given))


def run(source: ReadFrames) -> None:
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        wire(pipeline, source)


def wire(pipeline: beam.Pipeline, source: ReadFrames) -> None:
    out = pipeline | "ReadFrames" >> source
    out.records | "Keep" >> beam.Map(keep)
    out.refused | "KeepRefused" >> beam.Map(keep_refused)


def offsets(partition: int) -> list[int]:
    return [offset for batch in RECORDS if batch.partition == partition for offset in batch.offsets.tolist()]


def values(partition: int = 0) -> list[bytes | None]:
    return [value for batch in RECORDS if batch.partition == partition for value in batch.values.to_pylist()]


def rows(batches: list[RawBatch]) -> Rows:
    found: Rows = []
    for batch in batches:
        columns = (batch.offsets.tolist(), batch.timestamps.tolist(), batch.keys.to_pylist(), batch.values.to_pylist())
        found.extend(zip(*columns, batch.headers or [[]] * len(batch), strict=True))
    return found


def take(reader: SharedConsumer, partition: int, offset: int) -> Any:
    """The next chunk, however many calls it takes."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        chunk = reader.take(partition, offset, 0.2)
        if chunk is not None:
            return chunk
    raise AssertionError("no chunk in 20 s")


def test_bounded_read_gives_every_record_once_and_commits_where_it_stopped(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"a%d" % row for row in range(3000)], partition=0)
    produce(settings, topic, [b"b%d" % row for row in range(10)], partition=1)

    read(settings, topic, group="reader")
    close_sources()

    assert values(0) == [b"a%d" % row for row in range(3000)]
    assert values(1) == [b"b%d" % row for row in range(10)]
    assert [offsets(0), offsets(1)] == [list(range(3000)), list(range(10))]
    assert group_offsets(settings, "reader", topic) == {0: 3000, 1: 10}
    totals, gauges, _ = METERS.snapshot()
    assert totals["read"] == 3010
    assert totals["commits"] >= 1
    assert gauges["lag"] == 0


def test_small_record_batches_are_merged(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [bytes(1000)] * 800, batch_size=16_384)

    read(settings, topic, partitions=(0,))

    assert sum(map(len, RECORDS)) == 800
    assert len(RECORDS) <= 4
    assert RECORDS[0].topic == topic


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "zstd"])
def test_plain_poll_gives_the_same_records_as_the_raw_fetch(
    settings: KafkaSettings, topic: str, codec: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, topic, [b"x" * (row % 300) if row % 7 else None for row in range(500)], compression_type=codec)
    read(settings, topic, partitions=(0,))
    close_sources()
    raw = rows(RECORDS)
    RECORDS.clear()

    monkeypatch.setattr(hooks, "has_raw_fetch", lambda: False)
    read(settings, topic, partitions=(0,))

    assert len(raw) == 500
    assert rows(RECORDS) == raw


@pytest.mark.parametrize("is_raw", [True, False])
def test_transactions_end_in_gaps_and_the_aborted_one_is_not_read(
    settings: KafkaSettings, topic: str, is_raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = make_producer(settings, transactional_id=f"tx-{topic}")
    producer.init_transactions()
    for value, keeps in [(b"good", True), (b"bad", False), (b"late", True), (b"lost", False)]:
        producer.begin_transaction()
        producer.send(topic, value, partition=0).get(10)
        producer.commit_transaction() if keeps else producer.abort_transaction()
    producer.close()
    monkeypatch.setattr(hooks, "has_raw_fetch", lambda: is_raw)

    # The last offset is the mark of an abort, which no record will ever follow.
    read(settings, topic, group="reader", partitions=(0,))
    close_sources()

    assert values() == [b"good", b"late"]
    assert offsets(0) == [0, 4]
    assert group_offsets(settings, "reader", topic) == {0: 8}


def test_empty_topic_and_empty_span_end_at_once(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"x"])

    read(settings, topic, partitions=(1,))
    read(settings, topic, partitions=(0,), until={0: 0})

    assert RECORDS == []


def test_read_stops_before_the_offset_given_and_starts_where_told(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(100)])

    read(settings, topic, partitions=(0,), start={0: 10}, until={0: 60})

    assert offsets(0) == list(range(10, 60))


def test_calls_with_small_budgets_lose_and_repeat_nothing(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(5000)], batch_size=4096)

    read(settings, topic, partitions=(0,), options=ReadOptions(budget_bytes=1, max_frames=64, buffer_bytes=1))

    assert offsets(0) == list(range(5000))
    assert max(map(len, RECORDS)) <= 64


def test_unbounded_read_ends_when_it_is_drained_and_says_where(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(500)])
    WANTED[0] = 500
    source = ReadFrames(settings, topic, (0, 1), {0: 0, 1: 0}, group="drained")
    running = threading.Thread(target=run, args=(source,))

    running.start()
    assert ENOUGH.wait(30)
    request_drain()
    running.join(10)
    close_sources()

    assert not running.is_alive()
    assert offsets(0) == list(range(500))
    assert group_offsets(settings, "drained", topic) == {0: 500, 1: 0}


def test_held_read_waits_at_its_stop_and_commits_it(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(500)])
    source = ReadFrames(settings, topic, (0, 1), {0: 0, 1: 0}, until={0: 300, 1: 0}, group="held", hold=True)
    running = threading.Thread(target=run, args=(source,))

    running.start()
    deadline = time.monotonic() + 30
    while group_offsets(settings, "held", topic) != {0: 300, 1: 0} and time.monotonic() < deadline:
        time.sleep(0.1)
    waited = running.is_alive()
    request_drain()
    running.join(10)
    close_sources()

    assert waited
    assert not running.is_alive()
    assert offsets(0) == list(range(300))
    assert group_offsets(settings, "held", topic) == {0: 300, 1: 0}


def test_record_over_the_cap_and_bomb_become_references(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"small", bytes(3000), b"next"])
    produce(settings, topic, [bytes(4 << 20)], compression_type="zstd")
    produce(settings, topic, [b"last"])

    read(settings, topic, partitions=(0,), max_record_bytes=2000, max_inflated_bytes=1 << 20, group="capped")
    close_sources()

    assert values() == [b"small", b"next", b"last"]
    assert [(r.first_offset, r.last_offset, r.code, r.timestamp) for r in REFUSED] == [
        (1, 1, "record.too_large", 1001),
        (3, 3, "record.bomb", 1000),
    ]
    assert group_offsets(settings, "capped", topic) == {0: 5}
    assert METERS.snapshot()[0]["read"] == 5


def test_offset_that_was_deleted_ends_the_run_and_tells_what_is_left(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"x"] * 10)
    with make_admin(settings) as admin:
        admin.delete_records({TopicPartition(topic, 0): 7})
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))

    with pytest.raises(SourceGoneError) as caught:
        take(reader, 0, 3)
    after = take(reader, 0, 7)
    reader.close()

    assert str(caught.value) == (
        f"input {topic}[0]@3: expected an offset from 7 to 10. Received: offset=3. "
        "The records were deleted; go on with --start earliest."
    )
    assert (after.first, after.last) == (7, 9)


def test_what_was_fetched_ahead_is_kept_between_calls(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(100)])
    reader = SharedConsumer(ReaderKey(settings, topic, Caps(max_frames=30)))
    first = take(reader, 0, 0)
    reader._consumer.close()

    # The client is gone: these can only come from the buffer.
    second = reader.take(0, first.last + 1, 0)
    assert second is not None
    reader.give_back(0, second)
    again = reader.take(0, second.first, 0)

    assert [(c.first, c.last) for c in (first, second)] == [(0, 29), (30, 59)]
    assert again is second


def test_jump_to_another_offset_seeks(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"%d" % row for row in range(100)])
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))

    chunks = [take(reader, 0, offset) for offset in (0, 40, 0)]
    reader.close()

    assert [(c.first, c.last, len(c.batch)) for c in chunks] == [(0, 99, 100), (40, 99, 60), (0, 99, 100)]


def test_full_partition_is_paused_and_goes_on_when_it_is_read(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [bytes(1000)] * 400, partition=0, batch_size=8192)
    produce(settings, topic, [b"y"] * 5, partition=1)
    reader = SharedConsumer(ReaderKey(settings, topic, Caps(max_frames=50), buffer_bytes=20_000))
    first = take(reader, 0, 0)

    paused = {tp.partition for tp in reader._consumer.paused()}
    other = take(reader, 1, 0)
    last = first
    while last.last < 399:
        last = take(reader, 0, last.last + 1)
    reader.close()

    assert paused == {0}
    assert len(other.batch) == 5


def test_silent_client_is_replaced(settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "STALL_S", 1.0)
    produce(settings, topic, [b"x"] * 10)
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))
    # As after metadata that names a leader nobody knows: poll goes on, and nothing is ever asked for.
    monkeypatch.setattr(reader._consumer._fetcher, "send_fetches", list)

    chunk = take(reader, 0, 0)
    reader.close()

    assert (chunk.first, chunk.last) == (0, 9)
    assert METERS.snapshot()[0]["client_rebuilds"] == 1


def test_record_that_no_client_can_receive_ends_the_run_and_is_named(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(consumers.FETCH_OPTIONS, "receive_message_max_bytes", 3 << 20)
    monkeypatch.setitem(consumers.FETCH_OPTIONS, "fetch_max_bytes", 1 << 20)
    produce(settings, topic, [b"small"])
    produce(settings, topic, [bytes(4 << 20)])
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))

    first = take(reader, 0, 0)
    # Not before: on a busy machine the first answer may take longer.
    monkeypatch.setattr(consumers, "STALL_S", 0.2)
    with pytest.raises(SourceGoneError) as caught:
        take(reader, 0, 1)
    reader.close()

    assert first.last == 0
    assert str(caught.value) == (
        f"input {topic}[0]@1: expected the record that is there. Received: none, by 4 clients in turn. "
        """It may be larger than 3 MiB; go on behind it with --start '{"0": 2}'."""
    )


def test_offsets_that_compaction_emptied_are_passed_over(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, topic, [b"x"] * 10)
    monkeypatch.setattr(consumers, "STALL_S", 0.3)
    # What a broker says whose cleaner took the last records away.
    monkeypatch.setattr(consumers, "end_offsets", lambda *_: {0: 15})
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))
    assert take(reader, 0, 0).last == 9

    chunk = take(reader, 0, 10)
    reader.close()

    assert (chunk.first, chunk.last, chunk.batch) == (10, 14, None)


def test_topic_that_is_deleted_ends_the_run(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "STALL_S", 0.3)
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))
    assert reader.take(0, 0, 0.1) is None
    with make_admin(settings) as admin:
        admin.delete_topics([topic])

    with pytest.raises(SourceGoneError, match=f"input {topic}: expected it to go on"):
        take(reader, 0, 0)
    reader.close()


def test_absent_topic_is_told_before_anything_is_read(settings: KafkaSettings) -> None:
    with pytest.raises(ConnectError, match=r"topic absent\.frames\.v1 on .*: expected it to exist"):
        SharedConsumer(ReaderKey(settings, "absent.frames.v1", Caps()))


def test_offsets_of_a_bundle_that_fails_are_not_committed(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"x"] * 10)
    source = ReadFrames(settings, topic, (0,), {0: 0}, {0: 10}, group="failing")
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    _ = (pipeline | source).records | beam.Map(refuse)

    with pytest.raises(Exception, match="an output was not written"):
        pipeline.run()
    close_sources()

    assert group_offsets(settings, "failing", topic).get(0, 0) == 0


def refuse(batch: RawBatch) -> None:
    raise RuntimeError("an output was not written")


def test_start_is_what_is_given_then_the_commit_then_the_beginning(settings: KafkaSettings, topic: str) -> None:
    produce(settings, topic, [b"x"] * 10)
    fresh = start_offsets(settings, topic, [0, 1], "starter")
    commit_offsets(settings, "starter", topic, {0: 4})

    assert fresh == {0: 0, 1: 0}
    assert start_offsets(settings, topic, [0, 1], "starter") == {0: 4, 1: 0}
    assert start_offsets(settings, topic, [0, 1], "starter", "latest") == {0: 10, 1: 0}
    assert start_offsets(settings, topic, [0, 1], "starter", '{"1": 0}') == {0: 0, 1: 0}
    assert start_offsets(settings, topic, [0, 1], "starter", "1970-01-01T00:00:01.005Z") == {0: 5, 1: 0}
    assert offsets_at(settings, topic, [0], 99_999) == {0: 10}
    assert until_offsets(settings, topic, [0, 1], "latest") == end_offsets(settings, topic, [0, 1]) == {0: 10, 1: 0}
    assert begin_offsets(settings, topic, [0]) == {0: 0}


def test_state_in_the_pipeline_has_our_coders(settings: KafkaSettings, topic: str) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    wire(pipeline, ReadFrames(settings, topic, (0, 1), {0: 0, 1: 0}))

    proto, context = pipeline.to_runner_api(return_context=True)

    payloads = {
        name: beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for name, transform in proto.components.transforms.items()
        if transform.spec.urn == "beam:transform:pardo:v1"
    }
    (name,) = [name for name, payload in payloads.items() if payload.restriction_coder_id]
    read_transform, payload = proto.components.transforms[name], payloads[name]
    (shards,) = read_transform.inputs.values()
    element = context.coders.get_by_id(proto.components.pcollections[shards].coder_id)
    restriction = context.coders.get_by_id(payload.restriction_coder_id)
    assert type(element).__name__ == "KafkaShardCoder"
    assert [type(part).__name__ for part in restriction.coders()] == ["OffsetSpanCoder", "TimestampCoder"]
    assert {proto.components.pcollections[name].is_bounded for name in read_transform.outputs.values()} == {
        beam_runner_api_pb2.IsBounded.UNBOUNDED
    }
