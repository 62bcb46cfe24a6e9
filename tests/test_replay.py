from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError, ConnectError
from pipelines.encoders import encode_pcm16, encode_raw, make_encoder
from pipelines.formats import make_decoder
from pipelines.frame_batch import RawBatch
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import create_topics
from pipelines.kafka.read_all import read_all
from pipelines.replay import Record, ReplayOptions, make_bad, make_records, mix_bad, read_recordings, replay
from pipelines.stream_file import StreamFile, parse_stream

DATA = Path(__file__).parent / "data"
FORMATS = ["raw", "json", "tf_example", "arrow", "pcm16"]


def make_stream(format: str = "raw", length: int = 2, channels: int = 2, **input_: Any) -> StreamFile:
    given = {"topic": "x.y.frames.v1", "format": format, "channels": channels, "rate_hz": 10, **input_}
    return parse_stream({"name": "press", "input": given, "frame": {"length": length}})


def as_batch(values: list[bytes | None]) -> RawBatch:
    count = len(values)
    return RawBatch(
        topic="t",
        partition=0,
        offsets=np.arange(count),
        timestamps=np.arange(count),
        keys=pa.array([None] * count, pa.binary()),
        values=pa.array(values, pa.binary()),
    )


def decode(stream: StreamFile, values: list[bytes | None]) -> tuple[NDArray[np.float32], list[str]]:
    decoder = make_decoder(stream.input.format, stream.contract, dtype=stream.input.dtype, feature=stream.input.feature)
    good, bad = decoder.decode(as_batch(values))
    return good.frames, [letter.code for letter in bad]


@pytest.mark.parametrize("format", FORMATS)
def test_frames_come_back_from_every_format(format: str) -> None:
    stream = make_stream(format)
    frames = np.array([[[0.5, -0.25], [0.0, 0.125]], [[-1.0, 0.75], [0.25, -0.5]]], np.float32)

    decoded, bad = decode(stream, [*make_encoder(stream.input)(frames)])

    assert bad == []
    np.testing.assert_array_equal(decoded, frames)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_pcm16_survives_the_way_through_floats(samples: list[int]) -> None:
    original = np.array(samples, "<i2").tobytes()
    floats = (np.array(samples, np.float32) / 32768.0).reshape(1, -1, 1)

    assert encode_pcm16(floats) == [original]


def test_whole_number_samples_are_rounded_and_clipped() -> None:
    frames = np.array([[[1.4], [1.6], [1e9], [-1e9]]], np.float32)

    assert encode_raw(frames, "int16") == [np.array([1, 2, 32767, -32768], "<i2").tobytes()]


def test_last_frame_is_padded_with_zeros(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(1, 11, dtype=np.float32).reshape(5, 2))

    frames, padded = read_recordings(f"{tmp_path / 'a.npz'}::x", make_stream().contract)

    assert padded == 1
    assert frames["a"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [0, 0]]]


@pytest.mark.parametrize(("rows", "frames", "padded"), [(1, 1, 3), (4, 1, 0), (5, 2, 1), (6, 2, 0), (7, 3, 1)])
def test_padding_fills_the_last_hop(tmp_path: Path, rows: int, frames: int, padded: int) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((rows, 1), np.float32))

    cut, zeros = read_recordings(f"{tmp_path / 'a.npz'}::x", FrameContract(length=4, hop=2))

    assert (len(cut["a"]), zeros) == (frames, padded)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.empty((0, 2), np.float32))

    with pytest.raises(ConfigError, match="expected at least one sample"):
        read_recordings(f"{tmp_path / 'a.npz'}::x", make_stream().contract)


def test_recordings_follow_each_other_in_event_time() -> None:
    stream = make_stream(length=2, channels=1)
    recordings = {"a": np.zeros((2, 2, 1), np.float32), "b": np.zeros((1, 2, 1), np.float32)}

    records = make_records(recordings, stream.input, stream.contract, ReplayOptions(start_ms=1000))

    # 10 samples a second, two to a frame; a frame's time is its last sample's.
    assert [(record.key, record.timestamp_ms) for record in records] == [(b"a", 1100), (b"a", 1300), (b"b", 1500)]


def test_without_a_start_the_last_record_is_not_in_the_future() -> None:
    import time

    stream = make_stream(length=2, channels=1)

    records = make_records({"a": np.zeros((50, 2, 1), np.float32)}, stream.input, stream.contract, ReplayOptions())

    assert records[-1].timestamp_ms - records[0].timestamp_ms == 9800
    assert time.time() * 1000 - 60_000 < records[-1].timestamp_ms <= time.time() * 1000


@pytest.mark.parametrize("format", FORMATS)
def test_every_bad_record_is_refused_by_the_decoder(format: str) -> None:
    stream = make_stream(format)
    frame = np.full((2, 2), 0.5, np.float32)
    encode = make_encoder(stream.input)
    real = [Record(b"k", value, 0) for value in encode(np.stack([frame] * 200))]

    records = mix_bad(real, list(make_bad(frame, encode, stream.input)), share=0.5, seed=1)

    frames, codes = decode(stream, [record.value for record in records])
    assert len(frames) == 200
    assert len(codes) == 100


def test_bad_records_are_the_same_for_the_same_seed_and_leave_the_real_ones_in_order() -> None:
    real = [Record(b"k", bytes([index]), index) for index in range(100)]
    bad: list[tuple[str, bytes | None]] = [("empty", b""), ("random_bytes", None)]

    once, again, other = (mix_bad(real, bad, 0.1, seed) for seed in (1, 1, 2))

    assert once == again
    assert once != other
    assert [record for record in once if record.kind == "frame"] == real
    assert sorted(record.kind for record in once if record.kind != "frame") == ["empty"] * 5 + ["random_bytes"] * 5


def test_pcm16_has_no_nan_to_offer() -> None:
    kinds = {}
    for format in ("pcm16", "raw"):
        stream = make_stream(format)
        frame = np.zeros((2, 2), np.float32)
        kinds[format] = [kind for kind, _ in make_bad(frame, make_encoder(stream.input), stream.input)]

    assert kinds == {
        "pcm16": ["wrong_size", "empty", "null", "random_bytes"],
        "raw": ["wrong_size", "empty", "null", "nan", "random_bytes"],
    }


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"bad_share": -0.1}, {"bad_share": 1.1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Received"):
        ReplayOptions(**options)  # type: ignore[arg-type]


def test_recordings_arrive_in_the_topic_bit_for_bit(broker: str, topic_name: Any) -> None:
    topic, kafka = topic_name("replay"), KafkaSettings(broker)
    create_topics(kafka, {topic: 2})
    stream = parse_stream(
        {
            "name": "digits",
            "input": {"topic": topic, "format": "pcm16", "channels": 1, "rate_hz": 8000},
            "frame": {"length": 256},
        }
    )

    summary = replay(stream, str(DATA / "fsdd" / "test"), topic, kafka, ReplayOptions(start_ms=0))

    records = list(read_all(kafka, topic))
    first = b"".join(r.value for r in records if r.key == b"0_jackson_0")
    wav = (DATA / "fsdd" / "test" / "0_jackson_0.wav").read_bytes()[44:]
    assert (summary.records, summary.frames, summary.bad) == (len(records), len(records), {})
    assert len({r.key for r in records}) == 30
    assert {len(r.value) for r in records} == {512}
    assert first.rstrip(b"\0") == wav.rstrip(b"\0")
    assert min(r.timestamp for r in records) == 32


def test_bad_records_are_counted_by_kind(broker: str, topic_name: Any, tmp_path: Path) -> None:
    topic, kafka = topic_name("replay"), KafkaSettings(broker)
    create_topics(kafka, {topic: 1})
    np.savez(tmp_path / "a.npz", x=np.ones((500, 2), np.float32))
    stream = make_stream(length=1, topic=topic)

    summary = replay(stream, f"{tmp_path / 'a.npz'}::x", topic, kafka, ReplayOptions(bad_share=0.01, key="one"))

    records = list(read_all(kafka, topic))
    assert summary.bad == {"wrong_size": 1, "empty": 1, "null": 1, "nan": 1, "random_bytes": 1}
    assert summary.records == len(records) == 505
    assert {r.key for r in records} == {b"one"}
    assert sum(r.value == np.ones(2, "<f4").tobytes() for r in records) == 500


def test_rate_paces_the_records(broker: str, topic_name: Any, tmp_path: Path) -> None:
    topic, kafka = topic_name("replay"), KafkaSettings(broker)
    create_topics(kafka, {topic: 1})
    np.savez(tmp_path / "a.npz", x=np.ones((21, 2), np.float32))

    summary = replay(make_stream(length=1), f"{tmp_path / 'a.npz'}::x", topic, kafka, ReplayOptions(rate=40.0))

    assert summary.seconds >= 0.5


def test_topic_that_is_absent_is_named(broker: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 2), np.float32))

    with pytest.raises(ConnectError, match="topics create press"):
        replay(make_stream(), f"{tmp_path / 'a.npz'}::x", "absent.v1", KafkaSettings(broker), ReplayOptions())
