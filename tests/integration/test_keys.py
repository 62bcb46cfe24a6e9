"""A stream with a model per key, from a real topic to every output: each row is what its key's model says alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keyed_models
import numpy as np
import pytest
import stream_rig as rig
from keyed_models import NAMES
from small_models import make_frames

from ae_model.model import Detector
from pipelines.audit import audit_stream
from pipelines.backfill import score_stream
from pipelines.commands.verify import compare
from pipelines.decode import decode_parquet, decode_topic
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.parquet_files import read_table, verify_folder
from pipelines.records import read_codes
from pipelines.stream import RunSummary, run_stream
from pipelines.stream_file import StreamFile, parse_stream

KEYS: list[bytes | None] = [b"a-1", b"a-2", b"b/1", b"new", None]
COUNT = 300
FRAMES = make_frames(COUNT, seed=7)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keyed_models.publish_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def detectors(keyed: Path) -> dict[str, Detector]:
    return keyed_models.load_all(keyed)


def key_of(index: int) -> bytes | None:
    """Keys in an order that no partition or batch follows."""
    return KEYS[(index * 7 + index // 11) % 5]


def model_of(index: int) -> str:
    return NAMES.get(key_of(index), "small")


def make_stream(topic: str, broker: str, **changes: object) -> StreamFile:
    described = keyed_models.describe(kafka={"bootstrap": broker}, **changes)
    stream = parse_stream({**described, "input": {**described["input"], "topic": topic}})
    rig.make_topics(stream, broker)
    return stream


def send(broker: str, topic: str, *, bad: tuple[int, ...] = ()) -> None:
    """Frames in turn over three partitions; offset i of partition p is frame 3 * i + p."""
    producer = make_producer(KafkaSettings(broker))
    for index, frame in enumerate(FRAMES):
        value = b"bad" if index in bad else frame.tobytes()
        producer.send(topic, value, key=key_of(index), partition=index % 3, timestamp_ms=1_767_225_600_000 + index)
    producer.flush()
    producer.close()


def index_of(row: dict[str, object]) -> int:
    return 3 * int(str(row["offset"])) + int(str(row["partition"]))


@pytest.fixture(scope="module")
def ran(
    broker: str, keyed: Path, topic_name: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[StreamFile, RunSummary, Path]:
    stream = make_stream(topic_name(), broker)
    send(broker, stream.input.topic, bad=(10, 155))
    parquet = tmp_path_factory.mktemp("parquet")
    # Room for one model: each that is loaded drives out another.
    settings = rig.settings(broker, keyed, parquet=str(parquet), model_cache_mib=1)
    return stream, run_stream(stream, settings), parquet


def test_more_models_than_fit_score_each_row_as_its_model_does_alone(
    ran: tuple[StreamFile, RunSummary, Path], detectors: dict[str, Detector]
) -> None:
    _, summary, parquet = ran
    said = {name: detector.infer(FRAMES) for name, detector in detectors.items()}

    rows = read_table(parquet, "scores").to_pylist()

    assert len(rows) == COUNT - 2
    assert [row["model"] for row in rows] == [model_of(index_of(row)) for row in rows]
    for row in rows:
        manifest, index = detectors[row["model"]].manifest, index_of(row)
        assert (row["version"], row["layer"], row["key"]) == (1, manifest.scope.layer, key_of(index))
        assert row["threshold"] == np.float32(manifest.threshold.value)
        assert row["score"] == pytest.approx(float(said[row["model"]].scores[index]), rel=1e-4, abs=1e-7)
        assert row["alert"] == (row["score"] >= row["threshold"])
    assert summary.models["evictions"] > 0


def test_summary_counts_layers_and_loses_nothing(ran: tuple[StreamFile, RunSummary, Path], broker: str) -> None:
    stream, summary, parquet = ran

    audit = audit_stream(stream, KafkaSettings(broker))

    good = [index for index in range(COUNT) if index not in (10, 155)]
    layers = [{"small": "global"}.get(model_of(index), model_of(index).split(".")[1:2]) for index in good]
    assert (summary.read, summary.ok, summary.dead, summary.balance) == (COUNT, COUNT - 2, 2, 0)
    assert summary.layers == {
        "own": layers.count(["own"]),
        "cohort": layers.count(["cohort"]),
        "global": layers.count("global"),
        "statistics": 0,
    }
    assert (audit.coded, audit.dead, audit.ok) == (COUNT - 2, 2, True)
    assert compare(verify_folder(parquet), audit)["ok"]
    assert {part["model"] for part in verify_folder(parquet)["partitions"]} == {"small"}


def test_every_code_is_decoded_by_the_model_that_its_record_names(
    ran: tuple[StreamFile, RunSummary, Path],
    detectors: dict[str, Detector],
    keyed: Path,
    broker: str,
    tmp_path: Path,
) -> None:
    stream, _, parquet = ran
    denoised = {name: detector.reconstruct(FRAMES) for name, detector in detectors.items()}

    from_topic = decode_topic(KafkaSettings(broker), stream.outputs.codes or "", keyed, tmp_path / "topic.npz")
    from_files = decode_parquet(parquet, keyed, tmp_path / "files.npz")

    assert from_topic.versions == from_files.versions
    assert sum(from_topic.versions.values()) == COUNT - 2
    for path in ("topic.npz", "files.npz"):
        with np.load(tmp_path / path, allow_pickle=False) as arrays:
            indices = 3 * arrays["offsets"] + arrays["partitions"]
            expected = np.stack([denoised[model_of(int(index))][int(index)] for index in indices])
            np.testing.assert_allclose(arrays["frames"], expected, rtol=1e-4, atol=1e-6)


def test_codes_of_a_key_leave_in_the_order_of_its_records(
    ran: tuple[StreamFile, RunSummary, Path], broker: str
) -> None:
    stream, _, _ = ran

    parts = [read_codes(r.value, r.headers) for r in rig.read_records(broker, stream.outputs.codes or "")]

    for partition in range(3):
        for key in KEYS:
            offsets = [
                int(offset)
                for part in parts
                if part.partition == partition
                for offset, owner in zip(part.offsets, part.keys.to_pylist(), strict=True)
                if owner == key
            ]
            assert offsets == sorted(set(offsets))
            assert offsets
    assert {(part.model, part.layer) for part in parts} == {
        ("small", "global"),
        ("small.cohort.a", "cohort"),
        ("small.own.a-1", "own"),
        ("small.own.b.2f1", "own"),
    }


def test_alerts_name_the_layer_and_are_those_of_the_scores(
    ran: tuple[StreamFile, RunSummary, Path], broker: str
) -> None:
    stream, summary, parquet = ran

    alerts = rig.read_alerts(broker, stream.outputs.alerts or "")

    rows = {index_of(row): row for row in read_table(parquet, "scores").to_pylist() if row["alert"]}
    assert {index_of(alert) for alert in alerts} == set(rows)
    assert summary.alerts == len(rows) > 0
    for alert in alerts:
        row = rows[index_of(alert)]
        assert (alert["model"], alert["layer"]) == (row["model"], row["layer"])
        assert np.float32(alert["threshold"]) == row["threshold"]
    assert json.loads(json.dumps(alerts)) == alerts


def test_files_by_key_are_scored_as_their_records_are(
    keyed: Path, detectors: dict[str, Detector], tmp_path: Path
) -> None:
    (tmp_path / "data" / "b").mkdir(parents=True)
    for name in ("a-1", "a-2", "b/1", "new"):
        np.savez(tmp_path / "data" / f"{name}.npz", test=FRAMES[:20].reshape(-1, 3))

    summary = score_stream(keyed_models.make_stream(), f"{tmp_path}/data::test", keyed, tmp_path / "out", ())

    rows = read_table(tmp_path / "out", "scores").to_pylist()
    assert summary.layers == {"own": 40, "cohort": 20, "global": 20, "statistics": 0}
    for row in rows:
        detector = detectors[NAMES.get(row["key"], "small")]
        assert (row["model"], row["layer"]) == (detector.manifest.name, detector.manifest.scope.layer)
        frame = FRAMES[(row["offset"] - 3) // 4][None]
        assert row["score"] == pytest.approx(float(detector.infer(frame).scores[0]), rel=1e-4, abs=1e-7)
