"""``latentstream replay``: recordings into a topic, as the devices would have sent them.

file or folder ──> samples per device ──cut, last frame padded with zeros──> records
                                                   bad records, if asked ──┘
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError, SinkError
from ae_model.frames import cut
from pipelines.encoders import Encoder, make_encoder
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.kafka.offsets import check_topics
from pipelines.samples import iter_blocks
from pipelines.stream_file import InputConfig, StreamFile

# Files without a rate get a sample per second, as ``score`` gives them.
DEFAULT_RATE_HZ = 1.0
# The client holds no more records than this that the broker has not taken yet.
FLUSH_RECORDS = 50_000


class Record(NamedTuple):
    """One record to send; ``kind`` is ``frame`` or what is wrong with it."""

    key: bytes
    value: bytes | None
    timestamp_ms: int
    kind: str = "frame"


@dataclass(frozen=True)
class ReplayOptions:
    """How to replay.

    Args:
        rate: records per second; None for as fast as the broker takes them.
        key: of every record; None takes the name of each file.
        start_ms: event time of the first sample; None lets the last record be now.
        bad_share: bad records to mix in, as a share of the real ones.
        seed: of the places and contents of bad records.
    """

    rate: float | None = None
    key: str | None = None
    start_ms: int | None = None
    bad_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.rate is not None and self.rate <= 0:
            raise ConfigError(f"--rate: expected more than 0 records per second. Received: rate={self.rate}.")
        if not 0 <= self.bad_share <= 1:
            raise ConfigError(f"--bad-share: expected a share from 0 to 1. Received: bad_share={self.bad_share}.")


@dataclass(frozen=True)
class ReplaySummary:
    """What was sent.

    Args:
        topic: where to.
        records: in all.
        frames: of them real.
        bad: of them bad, by kind.
        padded: zero samples added behind the last samples of the recordings.
        first_ms: event time of the first record.
        last_ms: event time of the last record.
        seconds: wall time of sending.
    """

    topic: str
    records: int
    frames: int
    bad: dict[str, int] = field(default_factory=dict)
    padded: int = 0
    first_ms: int = 0
    last_ms: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def replay(stream: StreamFile, data: str, topic: str, kafka: KafkaSettings, options: ReplayOptions) -> ReplaySummary:
    """Send recordings to a topic.

    Args:
        stream: says what a frame is and how a record holds it.
        data: what to read; see pipelines.samples.
        topic: which exists.
        kafka: the brokers.
        options: pace, key, times and bad records.

    Raises:
        ConfigError: the data cannot be read as the stream's frames.
        ConnectError: no broker, or no topic.
        SinkError: a record was not taken.
    """
    recordings, padded = read_recordings(data, stream.contract)
    records = make_records(recordings, stream.input, stream.contract, options)
    check_topics(kafka, [topic], stream.given)
    start = time.monotonic()
    send_records(kafka, topic, records, options.rate)
    kinds = Counter(record.kind for record in records)
    return ReplaySummary(
        topic=topic,
        records=len(records),
        frames=kinds.pop("frame", 0),
        bad=dict(kinds),
        padded=padded,
        first_ms=records[0].timestamp_ms,
        last_ms=records[-1].timestamp_ms,
        seconds=round(time.monotonic() - start, 3),
    )


def read_recordings(data: str, contract: FrameContract) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Frames (n, length, channels) by key, and how many zero samples pad their last ones.

    Raises:
        ConfigError: nothing to read.
    """
    blocks: dict[str, list[NDArray[np.float32]]] = {}
    for block in iter_blocks(data, contract):
        blocks.setdefault(block.key, []).append(block.samples)
    samples = {key: np.concatenate(parts) for key, parts in blocks.items()}
    missing = {key: _missing(len(rows), contract) for key, rows in samples.items() if len(rows)}
    if not missing:
        raise ConfigError(f"{data}: expected at least one sample. Received: none.")
    padded = {key: np.pad(samples[key], ((0, count), (0, 0))) for key, count in missing.items()}
    return {key: cut(rows, contract.length, contract.hop) for key, rows in padded.items()}, sum(missing.values())


def _missing(count: int, contract: FrameContract) -> int:
    """How many samples the last frame lacks."""
    return contract.length - count if count < contract.length else -(count - contract.length) % contract.hop


def make_records(
    recordings: dict[str, NDArray[np.float32]], config: InputConfig, contract: FrameContract, options: ReplayOptions
) -> list[Record]:
    """Records in event time, one recording behind the other; a frame's time is its last sample's."""
    encode = make_encoder(config)
    period_ms = 1000.0 / (contract.rate_hz or DEFAULT_RATE_HZ)
    records: list[Record] = []
    done = 0
    for name, frames in recordings.items():
        key = (options.key or name).encode()
        last = done + contract.length - 1 + contract.hop * np.arange(len(frames))
        times = np.rint(last * period_ms).astype(np.int64).tolist()
        records += [Record(key, value, at) for value, at in zip(encode(frames), times, strict=True)]
        done = int(last[-1]) + 1
    first = int(time.time() * 1000) - records[-1].timestamp_ms if options.start_ms is None else options.start_ms
    records = [record._replace(timestamp_ms=record.timestamp_ms + first) for record in records]
    sample = next(iter(recordings.values()))[0]
    return mix_bad(records, list(make_bad(sample, encode, config)), options.bad_share, options.seed)


def make_bad(frame: NDArray[np.float32], encode: Encoder, config: InputConfig) -> Iterator[tuple[str, bytes | None]]:
    """One value of each kind that the stream must refuse.

    Args:
        frame: (length, channels), a real one.
        encode: as for the real ones.
        config: says whether a sample can be NaN at all.
    """
    yield "wrong_size", encode(np.concatenate([frame, frame], axis=1)[None])[0]
    yield "empty", b""
    yield "null", None
    if config.format != "pcm16" and (config.format != "raw" or config.dtype.startswith("float")):
        yield "nan", encode(np.full_like(frame, np.nan)[None])[0]
    yield "random_bytes", None


def mix_bad(records: list[Record], bad: list[tuple[str, bytes | None]], share: float, seed: int) -> list[Record]:
    """Bad records at random places among the real ones, which keep their order."""
    random = np.random.default_rng(seed)
    count = round(share * len(records))
    places = np.sort(random.integers(0, len(records), count)).tolist()
    extra: dict[int, list[Record]] = {}
    for index, place in enumerate(places):
        kind, value = bad[index % len(bad)]
        if kind == "random_bytes":
            # No frame has an odd size beyond one byte, no text and no message starts with 0xff.
            value = b"\xff" + random.bytes(2 * int(random.integers(1, 40)))
        extra.setdefault(place, []).append(records[place]._replace(value=value, kind=kind))
    return [each for place, record in enumerate(records) for each in (*extra.get(place, ()), record)]


def send_records(kafka: KafkaSettings, topic: str, records: list[Record], rate: float | None = None) -> None:
    """Send in order, and wait until the broker has taken all.

    Raises:
        ConnectError: no broker.
        SinkError: it did not take a record.
    """
    failures: list[Exception] = []
    producer = make_producer(kafka, linger_ms=20, batch_size=1 << 18)
    start = time.monotonic()
    try:
        for index, record in enumerate(records):
            if rate is not None:
                time.sleep(max(0.0, start + index / rate - time.monotonic()))
            future = producer.send(topic, record.value, record.key, timestamp_ms=record.timestamp_ms)
            future.add_errback(failures.append)
            if index % FLUSH_RECORDS == FLUSH_RECORDS - 1:
                producer.flush()
        producer.flush()
    finally:
        producer.close()
    if failures:
        raise SinkError(f"topic {topic}: expected to take {len(records)} records. Received: {failures[0]}.")
