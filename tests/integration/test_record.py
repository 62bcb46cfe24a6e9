"""A topic's frames become recordings that train and evaluate as the devices' own would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ae_model.exceptions import ConfigError
from ae_model.frames import cut
from pipelines.cli import main
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.kafka.offsets import create_topics
from pipelines.record import file_stem, record_stream
from pipelines.replay import ReplayOptions, replay
from pipelines.samples import find_recordings, read_blocks
from pipelines.stream_file import StreamFile, parse_stream

Names = Callable[..., str]


def make_stream(topic: str, broker: str, length: int, hop: int) -> StreamFile:
    document = {
        "name": "pumps",
        "input": {"topic": topic, "channels": ["a", "b"], "rate_hz": 1.0},
        "frame": {"length": length, "hop": hop},
        "kafka": {"bootstrap": broker},
    }
    create_topics(KafkaSettings(broker), {topic: 3})
    return parse_stream(document)


def make_signal(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)


def read(data: str, stream: StreamFile) -> dict[str, NDArray[np.float32]]:
    found = find_recordings(data, stream.contract)
    return {each.key: np.concatenate([b.samples for b in read_blocks(each, 0, each.rows)]) for each in found}


def send(stream: StreamFile, broker: str, frames: list[bytes], key: bytes | None = b"p") -> None:
    producer = make_producer(KafkaSettings(broker))
    for frame in frames:
        producer.send(stream.input.topic, frame, key=key, partition=0)
    producer.flush()
    producer.close()


@pytest.mark.parametrize(("length", "hop"), [(1, 1), (6, 1), (6, 2), (6, 6)])
def test_what_devices_sent_is_recorded_sample_for_sample(
    broker: str, topic_name: Names, tmp_path: Path, length: int, hop: int
) -> None:
    stream = make_stream(topic_name(), broker, length, hop)
    signals = {"hall-1": make_signal(600, 1), "hall-2": make_signal(300, 2)}
    (tmp_path / "sent").mkdir()
    for name, signal in signals.items():
        np.savez(tmp_path / "sent" / f"{name}.npz", x=signal)
    replay(stream, f"{tmp_path}/sent::x", stream.input.topic, KafkaSettings(broker), ReplayOptions())

    summary = record_stream(stream, KafkaSettings(broker), tmp_path / "out")

    recorded = read(summary.data, stream)
    assert (list(recorded), summary.keys, summary.gaps, summary.bad) == (["hall-1", "hall-2"], 2, 0, {})
    assert summary.records == summary.frames == sum(len(cut(signal, length, hop)) for signal in signals.values())
    for name, signal in signals.items():
        np.testing.assert_array_equal(recorded[name], signal)


def test_frame_that_is_lost_leaves_missing_rows_across_which_no_frame_is_cut(
    broker: str, topic_name: Names, tmp_path: Path
) -> None:
    stream = make_stream(topic_name(), broker, 4, 2)
    frames = cut(make_signal(12, 3), 4, 2)
    values = [frame.tobytes() for frame in frames]
    send(stream, broker, [values[0], b"no frame", values[2], values[3], values[4]])

    summary = record_stream(stream, KafkaSettings(broker), tmp_path / "out")

    (rows,) = read(summary.data, stream).values()
    missing = np.full((4, 2), np.nan, np.float32)
    np.testing.assert_array_equal(rows, np.concatenate([frames[0], missing, frames[2], frames[3][2:], frames[4][2:]]))
    assert (summary.records, summary.frames, summary.bad, summary.gaps) == (5, 4, {"frame.size": 1}, 1)
    again = cut(rows, 4, 2)
    np.testing.assert_array_equal(again[np.isfinite(again).all(axis=(1, 2))], frames[[0, 2, 3, 4]])


def test_part_of_a_topic_is_recorded_by_offsets(broker: str, topic_name: Names, tmp_path: Path) -> None:
    stream = make_stream(topic_name(), broker, 1, 1)
    signal = make_signal(10, 4)
    send(stream, broker, [row.tobytes() for row in signal], key=None)

    summary = record_stream(
        stream, KafkaSettings(broker), tmp_path / "out", '{"0": 2}', json.dumps({"0": 7, "1": 0, "2": 0})
    )

    assert summary.offsets == {0: (2, 7), 1: (0, 0), 2: (0, 0)}
    assert {key: rows.tolist() for key, rows in read(summary.data, stream).items()} == {"no-key": signal[2:7].tolist()}


def test_refused_recording_leaves_nothing(broker: str, topic_name: Names, tmp_path: Path) -> None:
    stream = make_stream(topic_name(), broker, 1, 1)
    send(stream, broker, [b"no frame"])
    (tmp_path / "old").mkdir()

    with pytest.raises(ConfigError, match=r"expected frames from start=earliest until=latest. .*frames=0, bad=1"):
        record_stream(stream, KafkaSettings(broker), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--out: expected a folder that is not there yet. Received: out=.*old"):
        record_stream(stream, KafkaSettings(broker), tmp_path / "old")

    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_command_tells_what_to_train_on(
    broker: str, topic_name: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topic_name()
    stream = make_stream(topic, broker, 3, 3)
    send(stream, broker, [frame.tobytes() for frame in cut(make_signal(30, 5), 3, 3)])
    path = tmp_path / "pumps.yaml"
    path.write_text(json.dumps(stream.model_dump(mode="json", exclude_unset=True)))

    code = main(["record", str(path), "--out", str(tmp_path / "out"), "-o", "json"])

    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (code, found["data"], found["frames"], found["rows"]) == (0, f"{tmp_path}/out::frames", 10, 30)
    assert read(found["data"], stream)["p"].shape == (30, 2)


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        (b"machine-1-6", "machine-1-6"),
        (b"hall 1.b", "hall 1.b"),
        (b"../x", "..%2Fx"),
        (b"..", "%2e2e"),
        (b"no-key", "%6e6f2d6b6579"),
        (b"", "%"),
        (b"\xff", "%FF"),
        (b"k" * 300, f"{'k' * 200}%17b16d8ef494060fefa36a6a41567b8c"),
        (None, "no-key"),
    ],
)
def test_no_key_leads_out_of_the_folder(key: bytes | None, stem: str) -> None:
    assert file_stem(key) == stem
