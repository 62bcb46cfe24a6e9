"""Each alerting frame gives one alert, the same on every replay, that its schema accepts."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from small_batches import START_MS, TOPIC, make_inferred

from ae_model.calibration import Threshold
from ae_model.codes import CodeFormat
from ae_model.config import FrameContract, NetworkConfig
from ae_model.manifest import Manifest, TrainingRecord
from ae_model.scaling import Scaling
from ae_model.score_formula import ScoreFormula
from pipelines import graph
from pipelines.alerts import alert_table, explain
from pipelines.frame_batch import InferredBatch, Scorer
from pipelines.graph import ExplainBatch

SCHEMA = json.loads(resources.files("pipelines").joinpath("schemas/alert.schema.json").read_text())
CHANNELS = ("flow", "level", "heat")
MANIFEST = Manifest(
    name="pumps",
    version=1,
    created="2026-11-21T10:00:00Z",
    contract=FrameContract(length=2, hop=2, channels=CHANNELS, units=("l/s", "m", "K")),
    network=NetworkConfig(),
    threshold=Threshold(1.0, "quantile", 0.99, 50),
    formula=ScoreFormula(2, (1.0, 1.0, 1.0)),
    codes=CodeFormat(2),
    scaling=Scaling("none", np.zeros(3), np.ones(3)),  # type: ignore[arg-type]
    training=TrainingRecord("two sines", {}, {}),
    metrics={},
    files={},
    libraries={},
)


def with_manifest(scorer: Scorer) -> Manifest:
    return MANIFEST


def make_batch(scores: list[float], first: int = 100, **changes: Any) -> InferredBatch:
    batch = make_inferred(range(first, first + len(scores)), scores=scores, shape=(2, 3))
    return replace(batch, **changes)


def parse(batch: InferredBatch) -> list[dict[str, Any]]:
    documents = [json.loads(alert.to_json()) for alert in explain(batch, with_manifest, "plant")]
    for document in documents:
        Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
    return documents


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_an_alert_says_what_when_where_and_how_much() -> None:
    batch = make_batch([0.5, 2.5])
    batch.denoised[1] = [[101, 98, 101], [101, 90, 101]]
    batch.channel_errors[1] = [1, 6, 1]

    [alert] = parse(batch)

    assert alert == {
        "id": alert["id"],
        "stream": "plant",
        "rule": "threshold",
        "key": "pump-101",
        "topic": TOPIC,
        "partition": 3,
        "offset": 101,
        "time": "2026-11-21T04:01:41.000Z",
        "score": 2.5,
        "threshold": 1.0,
        "severity": "major",
        "channels": [
            {"channel": "level", "unit": "m", "share": 0.75, "sample": 1, "expected": 90.0, "seen": 101.0},
            {"channel": "flow", "unit": "l/s", "share": 0.125, "sample": 0, "expected": 101.0, "seen": 101.0},
            {"channel": "heat", "unit": "K", "share": 0.125, "sample": 0, "expected": 101.0, "seen": 101.0},
        ],
        "model": "pumps",
        "version": 1,
        "layer": "global",
        "error": 101.0,
        "latent_distance": 202.0,
        "missing": 0.0,
    }


def test_a_score_on_the_threshold_alerts_and_below_it_does_not() -> None:
    below = float(np.nextafter(np.float32(1), np.float32(0)))

    assert [alert["offset"] for alert in parse(make_batch([below, 1.0, 5.0, 0.0]))] == [101, 102]
    assert [alert["severity"] for alert in parse(make_batch([1.0, 2.0, 4.99, 5.0]))] == [
        "warning",
        "major",
        "major",
        "critical",
    ]


def test_a_threshold_that_is_no_float32_still_reaches_its_level() -> None:
    [alert] = parse(make_batch([0.7], scorers=(Scorer("pumps", 1, "global", 0.7),)))

    assert (alert["score"], alert["threshold"], alert["severity"]) == (0.7, 0.7, "warning")


def test_a_score_that_is_not_a_number_alerts_with_null() -> None:
    nan = np.full(1, np.nan, np.float32)
    batch = make_batch([np.nan], errors=nan, latent_distance=nan)
    batch.channel_errors[0] = [0, np.nan, 0]
    batch.denoised[0, 1, 1] = np.inf

    [alert] = parse(batch)

    assert (alert["score"], alert["error"], alert["latent_distance"], alert["severity"]) == (
        None,
        None,
        None,
        "critical",
    )
    assert alert["channels"][0] == {
        "channel": "level",
        "unit": "m",
        "share": 1.0,
        "sample": 1,
        "expected": None,
        "seen": 100.0,
    }


@given(st.lists(st.floats(0, 10, width=32) | st.just(float("nan")) | st.just(float("inf")), max_size=6))
def test_every_alert_fits_the_schema_and_none_is_left_out(scores: list[float]) -> None:
    batch = make_batch(scores)

    alerts = parse(batch)

    assert [alert["offset"] for alert in alerts] == [100 + i for i, score in enumerate(scores) if not score < 1.0]


def test_each_frame_is_explained_by_the_manifest_of_what_scored_it() -> None:
    own = Scorer("pumps.own.pump-7", 3, "own", 4.0)
    batch = make_batch([2.0, 2.0, 5.0], scorers=(Scorer("pumps", 1, "global", 1.0), own), scored_by=np.array([0, 1, 1]))
    other = replace(MANIFEST, contract=replace(MANIFEST.contract, units=("m3/h", "cm", "C")))

    alerts = explain(batch, lambda scorer: other if scorer == own else MANIFEST, "plant")

    assert [(alert.offset, alert.model, alert.version, alert.layer, alert.threshold) for alert in alerts] == [
        (100, "pumps", 1, "global", 1.0),
        (102, "pumps.own.pump-7", 3, "own", 4.0),
    ]
    assert [alert.channels[0].unit for alert in alerts] == ["l/s", "m3/h"]


def test_ids_are_the_same_on_a_replay_and_differ_in_every_part() -> None:
    batch = make_batch([2.0])
    other_partition = replace(batch, batch=replace(batch.batch, records=replace(batch.records, partition=4)))
    ids = [
        explain(other, with_manifest, stream)[0].id
        for other, stream in [
            (batch, "plant"),
            (make_batch([3.0]), "plant"),
            (batch, "plant2"),
            (make_batch([2.0], first=101), "plant"),
            (make_batch([2.0], scorers=(Scorer("pumps", 2, "global", 1.0),)), "plant"),
            (make_batch([2.0], scorers=(Scorer("pumps2", 1, "global", 1.0),)), "plant"),
            (other_partition, "plant"),
        ]
    ]

    assert ids[0] == ids[1]
    assert len(set(ids[1:])) == 6
    # Written out: consumers and compacted topics hold on to it, so it must not change between versions.
    assert ids[0] == "b5532bc3abfca3eec4c49a8a5febc3f0"


def test_no_more_than_five_channels_are_named() -> None:
    channels = tuple(f"c{i}" for i in range(8))
    manifest = replace(MANIFEST, contract=FrameContract(length=2, hop=2, channels=channels))
    batch = make_inferred([7], scores=[2.0], shape=(2, 8))
    batch.channel_errors[0] = [0, 1, 2, 3, 4, 5, 6, 7]

    [alert] = explain(batch, lambda scorer: manifest, "plant")

    assert [share.channel for share in alert.channels] == ["c7", "c6", "c5", "c4", "c3"]
    assert [share.unit for share in alert.channels] == [""] * 5


def test_the_record_is_a_cloudevent_in_binary_mode_with_the_id_as_key() -> None:
    [alert] = explain(make_batch([2.0]), with_manifest, "plant é")

    record = alert.to_record()

    assert record.key == alert.id.encode()
    assert record.value == alert.to_json()
    assert (record.partition, record.timestamp_ms) == (3, START_MS + 100_000)
    assert record.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", alert.id.encode()),
        ("ce_source", b"/latentstream/plant%20%C3%A9"),
        ("ce_type", b"latentstream.alert.v1"),
        ("ce_subject", f"{TOPIC}/3/100".encode()),
        ("content-type", b"application/json"),
        ("ce_time", b"2026-11-21T04:01:40.000Z"),
    ]


@pytest.mark.parametrize("timestamp", [-1, 2**62])
def test_a_time_no_calendar_holds_is_left_out(timestamp: int) -> None:
    batch = make_batch([2.0])
    records = replace(batch.records, timestamps=np.array([timestamp]), keys=pa.array([b"\xffkey"]))
    odd = replace(batch, batch=replace(batch.batch, records=records))

    [document] = parse(odd)
    [alert] = explain(odd, with_manifest, "plant")

    assert (document["time"], document["key"]) == (None, "\\xffkey")
    assert "ce_time" not in dict(alert.to_record().headers)


def test_no_alert_costs_nothing_and_changes_nothing() -> None:
    assert explain(make_batch([0.0, 0.5]), with_manifest, "plant") == []
    assert explain(make_batch([]), with_manifest, "plant") == []


def test_alert_rows_hold_what_the_alerts_say() -> None:
    alerts = explain(make_batch([2.5, 0.0, np.nan]), with_manifest, "plant")

    rows = alert_table(alerts).to_pylist()

    assert [row["id"] for row in rows] == [alert.id for alert in alerts]
    assert [row["offset"] for row in rows] == [100, 102]
    assert [row["score"] for row in rows] == [2.5, None]
    assert [channel["channel"] for channel in rows[0]["channels"]] == ["flow", "level", "heat"]
    assert alert_table([]).num_rows == 0


def test_topic_and_tables_get_the_same_alerts_of_a_batch_without_explaining_it_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph, "read_manifest", lambda models, scorer: MANIFEST)
    topic, tables = (pickle.loads(pickle.dumps(ExplainBatch("models", "plant"))) for _ in range(2))
    first, second = make_batch([2.0, 0.5]), make_batch([2.0, 3.0])

    found = [explain_batch(batch) for batch in (first, second) for explain_batch in (topic, tables)]

    assert [len(alerts) for alerts in found] == [1, 1, 2, 2]
    assert found[0] is found[1]
    assert found[2] is found[3]
    assert found[0] == explain(first, with_manifest, "plant")
