"""Reads a whole topic once, for tools that look back; the stream has its own source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition

from ae_model.exceptions import SourceGoneError
from pipelines.kafka.client import KafkaSettings, make_consumer

POLL_MS = 1000
# Polls without a record before giving up: half a minute, longer than any leader election.
PATIENCE = 30


def read_all(settings: KafkaSettings, topic: str) -> Iterator[Any]:
    """Every committed record of a topic up to its end at the time of the call.

    Yields:
        kafka-python's ConsumerRecord, in offset order within a partition.

    Raises:
        ConnectError: no broker.
        SourceGoneError: the topic is absent, or stops answering before its end.
    """
    with _consumer(settings) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            raise SourceGoneError(f"topic {topic} on {settings.bootstrap}: expected it to exist. Received: none.")
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        yield from _read_to(consumer, consumer.end_offsets(partitions), topic)


def read_span(settings: KafkaSettings, topic: str, span: Mapping[int, tuple[int, int]]) -> Iterator[Any]:
    """The committed records of a part of a topic.

    Args:
        settings: which cluster.
        topic: what to read.
        span: by partition the first offset to read, and the first not to.

    Yields:
        As ``read_all``.

    Raises:
        ConnectError: no broker.
        SourceGoneError: the topic stops answering.
    """
    spans = {TopicPartition(topic, number): found for number, found in span.items() if found[0] < found[1]}
    if not spans:
        return
    with _consumer(settings) as consumer:
        consumer.assign(list(spans))
        for partition, (start, _) in spans.items():
            consumer.seek(partition, start)
        yield from _read_to(consumer, {partition: stop for partition, (_, stop) in spans.items()}, topic)


@contextmanager
def _consumer(settings: KafkaSettings) -> Iterator[Any]:
    consumer = make_consumer(settings, isolation_level="read_committed")
    try:
        yield consumer
    finally:
        consumer.close()


def _read_to(consumer: Any, end: dict[TopicPartition, int], topic: str) -> Iterator[Any]:
    patience = PATIENCE
    while any(consumer.position(partition) < stop for partition, stop in end.items()):
        polled = consumer.poll(timeout_ms=POLL_MS)
        patience = PATIENCE if polled else patience - 1
        if not patience:
            raise SourceGoneError(f"topic {topic}: expected records up to {end}. Received: none for {PATIENCE} s.")
        for records in polled.values():
            yield from (record for record in records if record.offset < end[TopicPartition(topic, record.partition)])
