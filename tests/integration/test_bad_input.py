"""Bad records of every kind and format, through the real broker and the whole command: none stops the stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_rig
import numpy as np
import pytest
import small_models
import stream_rig as rig

from pipelines.audit import audit_stream
from pipelines.cli import main
from pipelines.dead_letters import DeadLetter
from pipelines.encoders import make_encoder
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.records import OutputRecord
from pipelines.stream_file import StreamFile, load_stream

GOOD = 30
# A value, the code of its dead letter, and what the letter says.
Case = tuple[bytes | None, str, str]
Run = Callable[..., dict[str, Any]]

EMPTY = "record: expected a value. Received: an empty one, or none."
FINITE = "frame: expected finite samples of moderate size. Received: "
NOTHING: list[Case] = [(b"", "frame.empty", EMPTY), (None, "frame.empty", EMPTY)]


@pytest.fixture
def run(models: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a stream file to the end of its topic; gives the summary."""

    def run(path: Path, *flags: str) -> dict[str, Any]:
        code = main(command_rig.words(path, models, *flags))
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        summary: dict[str, Any] = json.loads(shown.out)
        return summary

    return run


def encode(stream: StreamFile, frames: Any, **changes: Any) -> list[bytes | None]:
    """Frames as the devices of this stream send them, or devices set up otherwise."""
    return [*make_encoder(stream.input.model_copy(update=changes))(frames)]


def filled(value: float, samples: int = 4) -> Any:
    return np.full((1, samples, 3), value, np.float32)


def unusable(stream: StreamFile) -> list[Case]:
    """What no format of floats lets pass."""
    return [
        (*encode(stream, filled(np.nan)), "frame.nonfinite", FINITE + "12 NaN or infinite of 12."),
        (*encode(stream, filled(np.inf)), "frame.nonfinite", FINITE + "12 NaN or infinite of 12."),
        (*encode(stream, filled(1e30)), "frame.nonfinite", FINITE + "a magnitude of 1e+30."),
    ]


def raw_cases(stream: StreamFile) -> list[Case]:
    expected = "frame: expected 48 bytes (4 samples x 3 channels of float32)."
    return [(b"x" * 47, "frame.size", f"{expected} Received: 47 bytes."), *unusable(stream)]


def json_cases(stream: StreamFile) -> list[Case]:
    words = json.dumps({"frame": [[1, 2, 3], [1, "2", 3], [1, 2, 3], [1, 2, 3]]}).encode()
    return [
        (words, "frame.dtype", "frame, sample 1, channel heat: expected a number. Received: string."),
        (b'{"frame": {"flow": 1}}', "frame.dtype", "frame: expected an array. Received: object."),
        (b'{"frames": []}', "schema.incompatible", "record: expected a field 'frame'. Received: ['frames']."),
        (b"{", "schema.unknown", "record: expected JSON. Received: "),
        (*encode(stream, filled(1, 3)), "frame.size", "frame: expected 12 values (4 samples x 3 channels). Received: "),
        # Replay writes NaN as null, which JSON has; some producers write the word.
        (
            *encode(stream, filled(np.nan)),
            "frame.dtype",
            "frame, sample 0, channel flow: expected a number. Received: null.",
        ),
        (words.replace(b'"2"', b"NaN"), "frame.nonfinite", FINITE + "1 NaN or infinite of 12."),
        *unusable(stream)[1:],
    ]


def tf_example_cases(stream: StreamFile) -> list[Case]:
    absent = "record: expected a feature 'frame'. Received: none."
    return [
        (*encode(stream, filled(1), feature="other"), "schema.incompatible", absent),
        (*encode(stream, filled(1, 3)), "frame.size", "frame: expected 12 values (4 samples x 3 channels). Received: "),
        (b"junk", "schema.unknown", "record: expected a tf.Example. Received: "),
        *unusable(stream),
    ]


def arrow_cases(stream: StreamFile) -> list[Case]:
    absent = "record: expected a column 'frame', or one per channel ['flow', 'heat', 'idle']. Received: ['other']."
    return [
        (*encode(stream, filled(1), feature="other"), "schema.incompatible", absent),
        (*encode(stream, filled(1, 3)), "frame.size", "frame: expected 12 values (4 samples x 3 channels). Received: "),
        (b"junk", "schema.unknown", "record: expected an uncompressed Arrow stream. Received: "),
        *unusable(stream),
    ]


def pcm16_cases(stream: StreamFile) -> list[Case]:
    expected = "frame: expected 24 bytes (4 samples x 3 channels of int16)."
    return [
        (*encode(stream, filled(1, 3)), "frame.size", f"{expected} Received: 18 bytes."),
        (b"x" * 23, "frame.size", f"{expected} Received: 23 bytes."),
    ]


CASES = {
    "raw": raw_cases,
    "json": json_cases,
    "tf_example": tf_example_cases,
    "arrow": arrow_cases,
    "pcm16": pcm16_cases,
}


def read_letters(broker: str, stream: StreamFile) -> dict[tuple[int, int], DeadLetter]:
    """The dead letters by partition and offset of their records."""
    records = rig.read_records(broker, stream.outputs.dead_letters)
    letters = [DeadLetter.from_record(OutputRecord(r.key, r.value, list(r.headers))) for r in records]
    assert len({(letter.partition, letter.offset) for letter in letters}) == len(letters)
    return {(letter.partition, letter.offset): letter for letter in letters}


@pytest.mark.parametrize("format", CASES)
def test_bad_records_are_kept_with_their_reasons_and_the_good_ones_go_on(
    format: str, broker: str, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, input={"format": format})
    stream = load_stream(str(path))
    cases = [*NOTHING, *CASES[format](stream)]
    values = encode(stream, small_models.make_frames(GOOD, 5))
    for place, (value, _, _) in enumerate(cases):
        values.insert(3 * place, value)
    rig.send_values(broker, stream.input.topic, values)

    summary = run(path)

    letters = read_letters(broker, stream)
    # A record goes to partition index % 3, so those at every third place lie in partition 0, one behind the other.
    assert sorted(letters) == [(0, offset) for offset in range(len(cases))]
    found = [letters[0, offset] for offset in range(len(cases))]
    assert [(letter.value, letter.code) for letter in found] == [case[:2] for case in cases]
    for letter, (_, _, message) in zip(found, cases, strict=True):
        assert letter.message.startswith(message)
    assert (summary["read"], summary["ok"], summary["dead"]) == (GOOD + len(cases), GOOD, len(cases))
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.coded, audit.dead, audit.replayed, audit.ok) == (GOOD, len(cases), 0, True)


def test_record_over_the_cap_and_a_bomb_stay_where_they_are_and_the_rest_goes_on(
    broker: str, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, input={"max_record_bytes": 70_000})
    stream = load_stream(str(path))
    good = rig.good_values(9)
    rig.send_values(broker, stream.input.topic, [*good, b"x" * 70_000])
    send_bomb(broker, stream.input.topic, 1100)
    rig.send_values(broker, stream.input.topic, good)

    summary = run(path)

    letters = read_letters(broker, stream)
    assert (summary["read"], summary["ok"], summary["dead"]) == (1119, 18, 1101)
    assert sorted(letters) == [(0, offset) for offset in range(3, 1104)]
    assert [letters[0, offset].code for offset in (3, 4, 1103)] == ["record.too_large", "record.bomb", "record.bomb"]
    assert {(letter.value, letter.by_reference, letter.stage) for letter in letters.values()} == {(None, True, "read")}
    topic = stream.input.topic
    # The key counts too.
    assert letters[0, 3].message == f"record {topic}[0]@3: expected at most 70000 bytes. Received: 70008."
    assert letters[0, 4].message == (
        f"record {topic}[0]@4: expected at most 67108864 bytes inflated. Received: 72102736 bytes."
    )
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.coded, audit.dead, audit.replayed, audit.ok) == (18, 1101, 0, True)


def send_bomb(broker: str, topic: str, records: int) -> None:
    """One compressed batch of 6 KiB whose records are each small enough, and together are not."""
    producer = make_producer(
        KafkaSettings(broker), compression_type="zstd", batch_size=128 << 20, linger_ms=10_000, max_request_size=1 << 28
    )
    for _ in range(records):
        producer.send(topic, bytes(64 << 10), partition=0, timestamp_ms=1_767_225_600_000)
    producer.flush()
    producer.close()
