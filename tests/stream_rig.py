"""A small stream on the real broker: its file, its topics, its records, and what came out of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import small_models
import yaml
from kafka import TopicPartition
from numpy.typing import NDArray

from pipelines.kafka.client import KafkaSettings, make_consumer, make_producer
from pipelines.kafka.offsets import create_topics
from pipelines.kafka.read_all import read_all
from pipelines.options import RunSettings
from pipelines.stream_file import StreamFile, parse_stream

# Records per second of a stream that is sent while a job runs, and how long its codes may stall.
RATE = 12_000
STALL_S = 60


def describe(topic: str, **changes: Any) -> dict[str, Any]:
    """The stream file of the small model, as a mapping."""
    return {
        "name": "small",
        "input": {
            "topic": topic,
            "format": "raw",
            "channels": list(small_models.CONTRACT.channels),
            "units": list(small_models.CONTRACT.units),
            "rate_hz": small_models.CONTRACT.rate_hz,
            "partitions": 3,
            **changes.pop("input", {}),
        },
        "frame": {"length": small_models.CONTRACT.length},
        **changes,
    }


def make_stream(topic: str, broker: str, **changes: Any) -> StreamFile:
    """The small stream, with its topics on the broker."""
    stream = parse_stream(describe(topic, kafka={"bootstrap": broker}, **changes))
    make_topics(stream, broker)
    return stream


def make_topics(stream: StreamFile, broker: str) -> None:
    """All topics of a stream."""
    create_topics(KafkaSettings(broker), dict.fromkeys([stream.input.topic, *stream.outputs.topics], 3))


def write_stream(folder: Path, topic: str, broker: str, **changes: Any) -> Path:
    """The same as a file for the command line; topics are made too."""
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(describe(topic, kafka={"bootstrap": broker}, **changes)))
    make_stream(topic, broker, **changes)
    return path


def send_values(
    broker: str,
    topic: str,
    values: list[bytes | None],
    first_ms: int = 1_767_225_600_000,
    late_ms: Sequence[int] = (0, 0, 0),
) -> None:
    """Values in turn over the partitions, two seconds apart; each partition may be late by event time."""
    producer = make_producer(KafkaSettings(broker), batch_size=1 << 18, max_request_size=4 << 20)
    for index, value in enumerate(values):
        partition = index % 3
        time_ms = first_ms + 2000 * index - late_ms[partition]
        producer.send(topic, value, key=b"device-%d" % partition, partition=partition, timestamp_ms=time_ms)
    producer.flush()
    producer.close()


def good_values(count: int, seed: int = 5) -> list[bytes | None]:
    """Frames like those the small model was trained on."""
    return [frame.tobytes() for frame in small_models.make_frames(count, seed)]


def strange_frame() -> NDArray[np.float32]:
    """A frame whose heat runs away, which the small model must flag."""
    frame = small_models.make_frames(1)[0].copy()
    frame[:, 1] = 0.5
    return frame


def settings(broker: str, models: Path, **changes: Any) -> RunSettings:
    """Run to the present end, without a panel."""
    return RunSettings(**{"bootstrap": broker, "models": models, "until": "latest", "panel": False, **changes})


def read_records(broker: str, topic: str) -> list[Any]:
    """All records of a topic, in partition and offset order."""
    return sorted(read_all(KafkaSettings(broker), topic), key=lambda record: (record.partition, record.offset))


def read_alerts(broker: str, topic: str) -> list[dict[str, Any]]:
    """All alerts of a topic."""
    return [json.loads(record.value) for record in read_records(broker, topic)]


@contextmanager
def sending(broker: str, topic: str, count: int, rate: int = RATE) -> Iterator[None]:
    """Send records at a steady rate in the background, one in a hundred of them bad."""

    def send() -> None:
        good = good_values(500)
        producer = make_producer(KafkaSettings(broker), batch_size=1 << 16, linger_ms=10)
        start = time.monotonic()
        for index in range(count):
            value = b"bad" if index % 100 == 7 else good[index % 500]
            producer.send(topic, value, key=b"k", partition=index % 3)
            if index % 500 == 0:
                time.sleep(max(0.0, start + index / rate - time.monotonic()))
        producer.flush()
        producer.close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class Reader:
    """Counts the frames on the codes topic while the job runs, as a consumer downstream would."""

    def __init__(self, broker: str, topic: str) -> None:
        self._consumer = make_consumer(KafkaSettings(broker))
        self._consumer.assign([TopicPartition(topic, partition) for partition in range(3)])
        self._consumer.seek_to_beginning()
        self.frames = 0

    def wait_for(self, frames: int, stall_s: float = STALL_S) -> None:
        """Read until so many frames have come."""
        patience = time.monotonic() + stall_s
        while self.frames < frames:
            for records in self._consumer.poll(timeout_ms=200).values():
                self.frames += sum(int(dict(record.headers)["ls-frames"]) for record in records)
            assert time.monotonic() < patience, f"codes stalled at {self.frames} of {frames} frames"

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
