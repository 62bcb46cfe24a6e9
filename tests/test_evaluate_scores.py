"""Score tables of one recording beside its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines.cli import main
from pipelines.evaluate import evaluate_scores
from pipelines.evaluation.inputs import label_frames
from pipelines.stream_file import StreamFile, parse_stream
from pipelines.tables import SCORE_SCHEMA

MINUTE = 1 / 60


def make_stream(length: int = 1, rate_hz: float | None = MINUTE) -> StreamFile:
    document = {
        "name": "pump",
        "input": {"topic": "plant.pump.frames.v1", "channels": 3, "rate_hz": rate_hz},
        "frame": {"length": length},
        "model": {"latent": 1},
    }
    return parse_stream(document)


def write_scores(path: Path, offsets: list[int], scores: list[float], **columns: Any) -> str:
    count = len(offsets)
    values = {
        "topic": ["pump.npz"] * count,
        "partition": [0] * count,
        "offset": offsets,
        "timestamp": [0] * count,
        "key": [b"pump"] * count,
        "model": ["pump"] * count,
        "version": [1] * count,
        "error": scores,
        "latent_distance": [0.0] * count,
        "score": scores,
        "threshold": [1.0] * count,
        "alert": [score >= 1.0 for score in scores],
        **columns,
    }
    pa.parquet.write_table(pa.table(values), path)
    return str(path)


def write_labels(path: Path, labels: list[float]) -> str:
    np.savez(path, test_label=np.array(labels))
    return f"{path}::test_label"


def find_alerts(stream: StreamFile, scores: str, labels: str, **others: str) -> dict[str, dict[str, Any]]:
    """The numbers by role for the one recording."""
    (section,) = evaluate_scores(stream, scores, labels, **others).sections
    (roles,) = section.entities.values()
    return roles


def test_recall_and_false_episodes_are_counted_by_hand(tmp_path: Path) -> None:
    # 1440 minutes: events [100, 110) found after 5 and [200, 201) missed; alerts 50-51 and 300 are two false episodes.
    labels = np.zeros(1440)
    labels[100:110] = labels[200] = 1
    scores = np.full(1440, 0.5)
    scores[[50, 51, 105, 300]] = 1.0
    table = write_scores(tmp_path / "s.parquet", list(range(1440)), scores.tolist())

    found = find_alerts(make_stream(), table, write_labels(tmp_path / "l.npz", labels.tolist()))

    assert list(found) == ["model", "random"]
    counts = ("frames", "missing", "events", "alerts", "threshold", "event_recall", "false_episodes_per_day", "delay_s")
    assert [found["model"][name] for name in counts] == [1440, 0, 2, 4, 1.0, 0.5, 2.0, 300.0]
    points = ("point_precision", "point_recall", "false_alarm_rate", "recall_at_budget")
    assert [found["model"][name] for name in points] == [1 / 4, 1 / 11, 3 / 1429, 0.0]
    assert found["model"]["point_f1"] == pytest.approx(2 / 15)
    assert found["random"]["auc_pr"] == pytest.approx(11 / 1440)


def test_baseline_stands_beside_the_model(tmp_path: Path) -> None:
    good = write_scores(tmp_path / "a.parquet", [0, 1, 2], [0, 2, 0])
    bad = write_scores(tmp_path / "b.parquet", [0, 1, 2], [0, 0, 0])

    found = find_alerts(make_stream(), good, write_labels(tmp_path / "l.npz", [0, 1, 0]), baseline=bad)

    assert {role: found[role]["event_recall"] for role in ("model", "baseline")} == {"model": 1.0, "baseline": 0.0}


def test_rows_meet_by_offset_in_any_order_and_missing_ones_are_counted(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "s.parquet", [4, 0, 2], [2, 0, 0])

    found = find_alerts(make_stream(), table, write_labels(tmp_path / "l.npz", [0, 0, 0, 0, 1]))

    assert (found["model"]["missing"], found["model"]["event_recall"]) == (2, 1.0)


def test_frame_is_labelled_by_the_rows_it_adds() -> None:
    contract = FrameContract(length=4, hop=2, channels=("a",))
    # frames end with rows 3, 5, 7: [0..3], then rows 4-5, then rows 6-7.
    labels = np.array([1, 0, 0, 0, 0, 0, 0, 1, 0], bool)

    assert label_frames(labels, contract).tolist() == [True, False, True]


@given(labels=st.lists(st.booleans(), max_size=60), length=st.integers(1, 8), hop=st.integers(1, 8))
def test_labels_of_frames_follow_their_definition(labels: list[bool], length: int, hop: int) -> None:
    contract = FrameContract(length=length, hop=min(hop, length), channels=("a",))
    stops = range(length, len(labels) + 1, contract.hop)

    found = label_frames(np.array(labels, bool), contract)

    assert found.tolist() == [any(labels[0 if stop == length else stop - contract.hop : stop]) for stop in stops]


def test_offsets_of_long_frames_are_their_last_rows(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "s.parquet", [3, 7], [0, 2])

    found = find_alerts(make_stream(length=4), table, write_labels(tmp_path / "l.npz", [0] * 7 + [1] + [0] * 2))

    assert (found["model"]["frames"], found["model"]["event_recall"]) == (2, 1.0)


def test_without_events_or_rate_there_is_no_number(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "s.parquet", [0, 1], [0, 2])

    found = find_alerts(make_stream(rate_hz=None), table, write_labels(tmp_path / "l.npz", [0, 0]))

    names = ("event_recall", "false_episodes_per_day", "delay_s", "vus_pr", "auc_roc")
    assert [found["model"][name] for name in names] == [None] * 5


@pytest.mark.parametrize("offsets", [[0, 5], [0, 1, 99]])
def test_offset_outside_the_labels_is_refused(tmp_path: Path, offsets: list[int]) -> None:
    table = write_scores(tmp_path / "s.parquet", offsets, [0.0] * len(offsets))

    with pytest.raises(ConfigError, match=f"of the 3 labelled frames .* Received: offset={offsets[-1]}"):
        evaluate_scores(make_stream(), table, write_labels(tmp_path / "l.npz", [0, 0, 1]))


def test_offset_between_two_frames_is_refused(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "s.parquet", [3, 6], [0, 0])

    with pytest.raises(ConfigError, match=r"length 4, hop 4. Received: offset=6"):
        evaluate_scores(make_stream(length=4), table, write_labels(tmp_path / "l.npz", [0] * 12))


def test_scores_of_two_recordings_are_refused(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "s.parquet", [0, 1], [0, 0], topic=["a", "b"])

    with pytest.raises(ConfigError, match=r"expected rows of one recording. Received: 2 recordings"):
        evaluate_scores(make_stream(), table, write_labels(tmp_path / "l.npz", [0, 0]))


@pytest.mark.parametrize("wrong", [0.5, -1])
def test_labels_other_than_whole_numbers_are_refused(tmp_path: Path, wrong: float) -> None:
    table = write_scores(tmp_path / "s.parquet", [0, 1], [0, 0])

    with pytest.raises(ConfigError, match=rf"expected 0 or 1 per row, or the number of a class. Received: {wrong}"):
        evaluate_scores(make_stream(), table, write_labels(tmp_path / "l.npz", [0, wrong]))


def test_table_that_is_no_score_table_is_refused(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")

    with pytest.raises(ConfigError, match="expected a readable score table"):
        evaluate_scores(make_stream(), str(tmp_path / "x.parquet"), write_labels(tmp_path / "l.npz", [0]))


def test_command_prints_the_report_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pump.yaml").write_text(yaml.safe_dump(make_stream().model_dump(mode="json")))
    table = write_scores(tmp_path / "s.parquet", [0, 1, 2, 3], [0, 2, 0, 2])
    labels = write_labels(tmp_path / "l.npz", [0, 1, 0, 1])
    words = ["evaluate", str(tmp_path / "pump.yaml"), "--scores", table, "--labels", labels]

    as_text = main([*words, "--out", str(tmp_path / "out")]), capsys.readouterr().out
    as_json = main([*words, "-o", "json"]), capsys.readouterr().out

    assert as_text == (0, (tmp_path / "out" / "report.md").read_text())
    assert "The numbers rest on 2 events of 1 entity." in as_text[1]
    assert (as_json[0], json.loads(as_json[1])["alerts"]["mean"]["model"]["event_recall"]) == (0, 1.0)


def test_scores_without_labels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pump.yaml").write_text(yaml.safe_dump(make_stream().model_dump(mode="json")))

    code = main(["evaluate", str(tmp_path / "pump.yaml"), "--scores", "s.parquet"])

    assert code == 2
    assert capsys.readouterr().err.startswith("error: evaluate --scores: expected --labels")


def test_columns_read_are_those_of_the_score_table() -> None:
    from pipelines.evaluation.score_tables import _COLUMNS

    assert [name for name in SCORE_SCHEMA.names if name in _COLUMNS] == _COLUMNS
