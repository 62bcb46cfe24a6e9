"""The sink on a real broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from kafka import TopicPartition

from ae_model.exceptions import ConnectError, SinkError
from pipelines.kafka import sink
from pipelines.kafka.client import KafkaSettings, make_consumer
from pipelines.kafka.offsets import create_topics
from pipelines.kafka.sink import UnflushedRecords, WriteRecords, close_sinks, shared_producer
from pipelines.meters import METERS
from pipelines.records import OutputRecord


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Each test writes as a new worker process would."""
    METERS.reset()
    yield
    close_sinks()


@pytest.fixture
def settings(broker: str) -> KafkaSettings:
    return KafkaSettings(broker)


@pytest.fixture
def topic(settings: KafkaSettings, topic_name: Callable[..., str]) -> str:
    name = topic_name("codes")
    create_topics(settings, {name: 2})
    return name


def written(settings: KafkaSettings, topic: str) -> list[Any]:
    """Every record of the topic, by partition and offset."""
    consumer = make_consumer(settings)
    partitions = [TopicPartition(topic, number) for number in (0, 1)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    found: list[Any] = []
    while len(found) < sum(ends.values()):
        found.extend(record for records in consumer.poll(timeout_ms=1000).values() for record in records)
    consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def write(settings: KafkaSettings, topic: str, record: OutputRecord) -> None:
    """One record, as a bundle of its own."""
    unflushed = UnflushedRecords(settings, topic)
    unflushed.send(record)
    unflushed.flush()


def test_records_arrive_as_they_are_and_in_order(settings: KafkaSettings, topic: str) -> None:
    records = [
        OutputRecord(b"k", b"v", [("a", b"1"), ("a", b"2")], partition=1, timestamp_ms=1234),
        OutputRecord(None, b"", partition=1),
        OutputRecord(b"k", None, partition=1),
    ]

    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        _ = pipeline | beam.Create(records, reshuffle=False) | WriteRecords(settings, topic)

    found = written(settings, topic)
    assert [(r.partition, r.key, r.value, list(r.headers)) for r in found] == [
        (1, b"k", b"v", [("a", b"1"), ("a", b"2")]),
        (1, None, b"", []),
        (1, b"k", None, []),
    ]
    assert found[0].timestamp == 1234
    assert METERS.snapshot()[0] == {"written": 3}


def test_empty_bundle_writes_nothing_and_connects_nowhere() -> None:
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        records = pipeline | beam.Create([OutputRecord(None, b"x")], reshuffle=False) | beam.Filter(lambda _: False)
        _ = records | WriteRecords(KafkaSettings("127.0.0.1:1"), "nowhere")

    assert METERS.snapshot()[0] == {}


def test_process_has_one_producer(settings: KafkaSettings) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(shared_producer(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len({id(producer) for producer in found}) == 1


def test_many_bytes_are_flushed_on_the_way(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "UNFLUSHED_BYTES", 20_000)
    unflushed = UnflushedRecords(settings, topic)

    for _ in range(25):
        unflushed.send(OutputRecord(None, bytes(1000), partition=0))

    assert METERS.snapshot()[0] == {"written": 20}


@pytest.mark.parametrize(("together", "found"), [(False, [b"why"]), (True, [])])
def test_record_outlives_its_bundle_unless_it_may_wait(
    settings: KafkaSettings, topic: str, together: bool, found: list[bytes]
) -> None:
    UnflushedRecords(settings, topic, together=together).send(OutputRecord(None, b"why", partition=0))
    # As when another step fails before the bundle is finished.
    close_sinks()

    assert [record.value for record in written(settings, topic)] == found


def test_absent_topic_is_told_by_name(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sink.PRODUCE_OPTIONS, "max_block_ms", 500)

    with pytest.raises(ConnectError) as caught:
        write(settings, "absent.codes.v1", OutputRecord(None, b"x"))

    assert str(caught.value) == (
        f"topic absent.codes.v1 on {settings.bootstrap}: expected it to exist. Received: none. "
        "Run `latentstream topics create STREAM`."
    )


def test_record_the_topic_does_not_take_is_told_by_name(
    settings: KafkaSettings, topic_name: Callable[..., str]
) -> None:
    topic = topic_name("narrow")
    create_topics(settings, {topic: 1}, configs={"max.message.bytes": "1000"})
    unflushed = UnflushedRecords(settings, topic)
    unflushed.send(OutputRecord(None, bytes(range(256)) * 400))

    with pytest.raises(SinkError, match=rf"topic {topic}: expected records within its max\.message\.bytes"):
        unflushed.flush()


def test_wrong_partition_is_told(settings: KafkaSettings, topic: str) -> None:
    with pytest.raises(SinkError, match=rf"topic {topic}.*Unrecognized partition 9"):
        write(settings, topic, OutputRecord(None, b"x", partition=9))


def test_producer_that_hangs_is_replaced_and_nothing_is_lost(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "HUNG_S", 0.5)
    unflushed = UnflushedRecords(settings, topic)
    unflushed.send(OutputRecord(None, b"before", partition=0))
    unflushed.flush()
    # As after metadata that names a leader nobody knows: its sender never comes to sending.
    hung = shared_producer(settings)._sender
    monkeypatch.setattr(hung, "run_once", lambda: None)

    for value in (b"one", b"two"):
        unflushed.send(OutputRecord(None, value, partition=0))
    unflushed.flush()

    assert [record.value for record in written(settings, topic)] == [b"before", b"one", b"two"]
    assert METERS.snapshot()[0] == {"written": 3, "client_rebuilds": 1}
    hung.join(5)
    assert not hung.is_alive()
