"""From a real topic through the real engine and model to every output, and nothing lost on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import small_models
import stream_rig as rig

from ae_model.exceptions import ArtifactError, ConfigError, ConnectError, DeadLetterBreakerError
from ae_model.model import Detector
from ae_model.receiver import decode
from pipelines.audit import audit_stream
from pipelines.commands.verify import compare
from pipelines.dead_letters import DeadLetter
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import create_topics
from pipelines.parquet_files import read_table, verify_folder
from pipelines.records import OutputRecord, read_codes
from pipelines.stream import run_stream

BAD: list[bytes | None] = [
    b"short",
    b"",
    None,
    np.full((4, 3), np.nan, np.float32).tobytes(),
    np.full((4, 3), np.inf, np.float32).tobytes(),
    np.full((4, 3), 1e30, np.float32).tobytes(),
    b"x" * (2 << 20),
]
REASONS = ["frame.size", "frame.empty", "frame.empty", "frame.nonfinite", "frame.nonfinite", "frame.nonfinite"]


def test_every_record_becomes_a_code_or_a_dead_letter(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path
) -> None:
    stream = rig.make_stream(topic_name(), broker)
    values = rig.good_values(300)
    for place, bad in enumerate(BAD):
        values.insert(40 * place, bad)
    rig.send_values(broker, stream.input.topic, values)

    summary = run_stream(stream, rig.settings(broker, models, parquet=str(tmp_path)))

    audit = audit_stream(stream, KafkaSettings(broker))
    assert (summary.read, summary.ok, summary.dead, summary.balance) == (307, 300, 7, 0)
    assert (audit.records, audit.coded, audit.dead, audit.replayed, audit.ok) == (307, 300, 7, 0, True)
    assert compare(verify_folder(tmp_path), audit)["ok"]
    assert read_table(tmp_path, "scores").num_rows == 300


def test_dead_letters_keep_the_bytes_and_say_why(broker: str, models: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.make_stream(topic_name(), broker)
    rig.send_values(broker, stream.input.topic, [*BAD, *rig.good_values(8)])

    run_stream(stream, rig.settings(broker, models))

    records = rig.read_records(broker, stream.outputs.dead_letters)
    letters = [DeadLetter.from_record(OutputRecord(r.key, r.value, list(r.headers))) for r in records]
    by_place = {(letter.partition, letter.offset): letter for letter in letters}
    in_order = [by_place[index % 3, index // 3] for index in range(7)]
    assert [letter.code for letter in in_order] == [*REASONS, "record.too_large"]
    assert [letter.value for letter in in_order[:6]] == BAD[:6]
    assert [letter.key for letter in in_order[:3]] == [b"device-0", b"device-1", b"device-2"]
    # Two megabytes stay where they are; the letter says where that is.
    assert (in_order[6].value, in_order[6].by_reference) == (None, True)


def test_receiver_decodes_the_codes_to_what_the_model_reconstructs(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.make_stream(topic_name(), broker)
    rig.send_values(broker, stream.input.topic, rig.good_values(90))

    run_stream(stream, rig.settings(broker, models))

    detector = Detector.load(models / "small" / "1")
    rows = [read_codes(r.value, r.headers) for r in rig.read_records(broker, stream.outputs.codes)]
    received = {
        (row.partition, int(o)): f
        for row in rows
        for o, f in zip(row.offsets, decode(row.codes, detector), strict=True)
    }
    expected = detector.reconstruct(small_models.make_frames(90, 5))
    ordered = np.stack([received[index % 3, index // 3] for index in range(90)])
    # To rounding: float32 kernels may differ with the size of a frame batch.
    np.testing.assert_allclose(ordered, expected, rtol=1e-5, atol=1e-7)
    assert {(row.topic, row.model, row.version) for row in rows} == {(stream.input.topic, "small", 1)}


@pytest.mark.parametrize("per", ["batch", "frame"])
def test_codes_of_one_byte_are_those_that_the_model_gives_all_frames_at_once(
    broker: str, topic_name: Callable[..., str], tmp_path: Path, per: str
) -> None:
    stream = rig.make_stream(topic_name(), broker, outputs={"per": per})
    detector = Detector.load(small_models.publish(tmp_path, codes="int8"))
    values = rig.good_values(90)
    values[6] = np.full((4, 3), 1e9, np.float32).tobytes()
    rig.send_values(broker, stream.input.topic, values)

    summary = run_stream(stream, rig.settings(broker, tmp_path))

    records = rig.read_records(broker, stream.outputs.codes or "")
    rows = [read_codes(r.value, r.headers) for r in records]
    received = {(row.partition, int(o)): code for row in rows for o, code in zip(row.offsets, row.codes, strict=True)}
    frames = np.stack([np.frombuffer(value or b"", np.float32).reshape(4, 3) for value in values])
    ordered = np.stack([received[index % 3, index // 3] for index in range(90)])
    assert {row.codes.dtype for row in rows} == {np.dtype(np.int8)}
    assert ordered.tolist() == detector.encode(frames).tolist()
    assert (summary.ok, summary.clipped) == (90, 1)


def test_codes_of_a_partition_leave_in_the_order_of_their_records(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.make_stream(topic_name(), broker)
    rig.send_values(broker, stream.input.topic, rig.good_values(9000))

    run_stream(stream, rig.settings(broker, models))

    rows = [read_codes(r.value, r.headers) for r in rig.read_records(broker, stream.outputs.codes or "")]
    assert len(rows) > 3
    for partition in range(3):
        offsets = [int(offset) for row in rows if row.partition == partition for offset in row.offsets]
        assert offsets == list(range(3000))


def test_strange_frame_raises_an_alert_that_names_its_channel(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.make_stream(topic_name(), broker)
    rig.send_values(broker, stream.input.topic, [*rig.good_values(30), rig.strange_frame().tobytes()])

    summary = run_stream(stream, rig.settings(broker, models))

    [alert] = [
        a for a in rig.read_alerts(broker, stream.outputs.alerts or "") if (a["partition"], a["offset"]) == (0, 10)
    ]
    schema = json.loads(Path("pipelines/schemas/alert.schema.json").read_text())
    jsonschema.validate(alert, schema)
    assert summary.alerts >= 1
    assert (alert["channels"][0]["channel"], alert["channels"][0]["unit"], alert["channels"][0]["seen"]) == (
        "heat",
        "K",
        0.5,
    )
    assert alert["severity"] == "critical"
    assert alert["time"] == "2026-01-01T00:01:00.000Z"


def test_second_run_starts_where_the_first_one_stopped(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.make_stream(topic_name(), broker, name="small")
    rig.send_values(broker, stream.input.topic, rig.good_values(60))
    first = run_stream(stream, rig.settings(broker, models))
    rig.send_values(broker, stream.input.topic, rig.good_values(30, seed=8))

    second = run_stream(stream, rig.settings(broker, models))

    audit = audit_stream(stream, KafkaSettings(broker))
    assert (first.read, second.read) == (60, 30)
    assert (audit.coded, audit.replayed, audit.ok) == (90, 0, True)


def test_empty_topic_ends_at_once(broker: str, models: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.make_stream(topic_name(), broker)

    summary = run_stream(stream, rig.settings(broker, models))

    assert (summary.read, summary.ok, summary.dead, summary.balance) == (0, 0, 0, 0)


def test_codes_per_frame_carry_the_same_lineage(broker: str, models: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.make_stream(topic_name(), broker, outputs={"per": "frame", "denoised": None, "alerts": None})
    rig.send_values(broker, stream.input.topic, rig.good_values(30))

    run_stream(stream, rig.settings(broker, models))

    records = rig.read_records(broker, stream.outputs.codes or "")
    assert len(records) == 30
    assert Counter(record.key for record in records) == {b"device-0": 10, b"device-1": 10, b"device-2": 10}
    assert audit_stream(stream, KafkaSettings(broker)).ok


def test_breaker_stops_the_run_when_the_input_is_no_longer_what_it_was(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.make_stream(topic_name(), broker, breaker={"share": 0.5, "records": 100})
    rig.send_values(broker, stream.input.topic, [*rig.good_values(60), *([b"other format"] * 300)])

    with pytest.raises(Exception, match="dead letter") as caught:
        run_stream(stream, rig.settings(broker, models))

    assert DeadLetterBreakerError.__name__ in repr(caught.value) + str(caught.value)


def test_absent_topic_is_named_before_anything_is_read(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.parse_stream(rig.describe(topic_name()))

    with pytest.raises(ConnectError, match=r"latentstream topics create small"):
        run_stream(stream, rig.settings(broker, models))


def test_output_topic_with_too_few_partitions_is_refused_before_anything_is_read(
    broker: str, models: Path, topic_name: Callable[..., str]
) -> None:
    stream = rig.parse_stream(rig.describe(topic_name()))
    create_topics(KafkaSettings(broker), {stream.outputs.codes or "": 2})
    rig.make_topics(stream, broker)

    with pytest.raises(ConfigError, match=r"codes.*expected at least 3 partitions.*Received: partitions=2"):
        run_stream(stream, rig.settings(broker, models))


def test_absent_model_is_refused_before_the_broker_is_asked(tmp_path: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.parse_stream(rig.describe(topic_name()))

    with pytest.raises(ArtifactError, match="small"):
        run_stream(stream, rig.settings("127.0.0.1:1", tmp_path))


def test_absent_broker_is_one_clear_error(models: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.parse_stream(rig.describe(topic_name()))

    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        run_stream(stream, rig.settings("127.0.0.1:1", models))


def test_model_of_other_frames_is_refused(broker: str, models: Path, topic_name: Callable[..., str]) -> None:
    stream = rig.parse_stream({**rig.describe(topic_name()), "frame": {"length": 2}})

    with pytest.raises(ArtifactError, match="Train the stream again"):
        run_stream(stream, rig.settings(broker, models))
