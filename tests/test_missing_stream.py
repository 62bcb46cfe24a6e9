"""Frames with missing samples from the bytes of a record to the rows of a table; a sensor that dies stays visible."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_batches import make_raw
from test_formats import GOOD, arrow_value, example_value, raw_value

from ae_model import artifact
from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from ae_model.model import Detector
from pipelines.alerts import explain
from pipelines.cli import main
from pipelines.encoders import make_encoder
from pipelines.file_frames import read_frames
from pipelines.formats import make_decoder
from pipelines.frame_batch import FrameBatch, InferredBatch, RawBatch
from pipelines.model_calls import infer_surely
from pipelines.stream_file import parse_stream
from pipelines.tables import score_table

NAN = float("nan")
TWO_BY_TWO = FrameContract(length=2, hop=2, channels=("flow", "level"), missing="mask")
GAP = [[1.0, NAN], [3.0, 4.0]]
WITH_GAP = {
    "raw": [raw_value(1, NAN, 3, 4)],
    "json": [b'{"frame": [[1, null], [3, 4]]}', b"[1, null, 3, 4]", b'{"frame": [1, NaN, 3, 4]}'],
    "tf_example": [example_value([1, NAN, 3, 4])],
    "arrow": [
        arrow_value({"frame": [[1.0, None, 3.0, 4.0]]}),
        arrow_value({"frame": [[[1.0, None], [3.0, 4.0]]]}),
        arrow_value({"flow": [1, 3], "level": [None, 4]}),
    ],
}
NOTHING = {
    "raw": raw_value(NAN, NAN, NAN, NAN),
    "json": b"[null, null, null, null]",
    "tf_example": example_value([NAN] * 4),
    "arrow": arrow_value({"frame": [[None] * 4]}),
}
WILD = {
    "raw": raw_value(NAN, np.inf, 3, 4),
    "json": b"[null, 1e999, 3, 4]",
    "tf_example": example_value([NAN, np.inf, 3, 4]),
    "arrow": arrow_value({"frame": [[None, np.inf, 3.0, 4.0]]}),
}


@pytest.mark.parametrize("name", WITH_GAP)
def test_missing_samples_are_read_from_every_format(name: str) -> None:
    raw = make_raw([GOOD[name], *WITH_GAP[name], NOTHING[name], WILD[name], GOOD[name]])

    decoded = make_decoder(name, TWO_BY_TWO).decode(raw)

    gaps = len(WITH_GAP[name])
    whole = [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_array_equal(decoded.good.frames, np.array([whole, *[GAP] * gaps, whole]))
    assert [(letter.offset, letter.code) for letter in decoded.bad] == [
        (1 + gaps, "frame.nonfinite"),
        (2 + gaps, "frame.nonfinite"),
    ]
    assert "expected a sample that is there. Received: all 4 missing." in decoded.bad[0].message
    assert "Received: 1 infinite of 4." in decoded.bad[1].message


@pytest.mark.parametrize("name", WITH_GAP)
def test_a_stream_that_refuses_them_reads_on_as_ever(name: str) -> None:
    decoder = make_decoder(name, replace(TWO_BY_TWO, missing="refuse"))

    decoded = decoder.decode(make_raw([*WITH_GAP[name], GOOD[name]]))

    assert len(decoded.good) == 1
    assert {letter.code for letter in decoded.bad} <= {"frame.nonfinite", "frame.dtype"}


def test_a_channel_that_is_absent_is_not_taken_for_missing() -> None:
    decoder = make_decoder("json", replace(TWO_BY_TWO, length=1, hop=1))

    decoded = decoder.decode(make_raw([b'{"flow": 1, "level": null}', b'{"flow": 1, "levle": 2}']))

    np.testing.assert_array_equal(decoded.good.frames, [[[1.0, NAN]]])
    assert [letter.code for letter in decoded.bad] == ["frame.channels"]


@pytest.mark.parametrize("format", ["raw", "json", "tf_example", "arrow"])
def test_frames_with_gaps_come_back_from_every_format(format: str) -> None:
    stream = parse_stream(
        {
            "name": "tank",
            "input": {"topic": "t", "channels": 2, "format": format},
            "frame": {"length": 2, "missing": "mask"},
        }
    )
    frames = np.array([GAP, [[5.0, 6.0], [7.0, NAN]]], np.float32)

    values = make_encoder(stream.input)(frames)

    np.testing.assert_array_equal(make_decoder(format, stream.contract).decode(make_raw(values)).good.frames, frames)
    if format == "json":
        assert json.loads(values[0]) == {"frame": [[1.0, None], [3.0, 4.0]]}


@pytest.mark.parametrize("given", [{"format": "pcm16"}, {"format": "raw", "dtype": "int16"}])
def test_formats_without_a_word_for_missing_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"frame.missing: expected refuse with .*, which has no word for a missing"):
        parse_stream({"name": "tank", "input": {"topic": "t", "channels": 2, **given}, "frame": {"missing": "mask"}})


STREAM = {
    "name": "tank",
    "input": {"topic": "plant.tank.frames.v1", "channels": ["flow", "level", "heat"], "rate_hz": 1.0},
    "frame": {"missing": "mask"},
    "model": {"hidden": [8], "latent": 2, "epochs": 4, "batch_frames": 64, "learning_rate": 0.01},
}


def make_samples(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Three channels that follow one cause, some samples missing."""
    rng = np.random.default_rng(seed)
    samples = np.cumsum(rng.normal(size=(rows, 1)), axis=0) / 10 * [1.0, -2.0, 0.5] + 0.05 * rng.normal(size=(rows, 3))
    samples[rng.uniform(size=samples.shape) < 0.1] = NAN
    return samples.astype(np.float32)


def write_csv(path: Path, samples: NDArray[np.float32]) -> None:
    lines = [",".join("" if np.isnan(value) else f"{value:.6g}" for value in row) for row in samples.tolist()]
    path.write_text("\n".join(["flow,level,heat", *lines]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, and recordings as CSV with empty cells."""
    folder = tmp_path_factory.mktemp("tank")
    (folder / "tank.yaml").write_text(yaml.safe_dump(STREAM), encoding="utf-8")
    write_csv(folder / "train.csv", make_samples(1500))
    test = make_samples(200, seed=1)
    test[50:60] = NAN  # nothing came at all
    test[100:150, 1] = NAN  # one sensor is dead
    write_csv(folder / "test.csv", test)
    code = main(["train", f"{folder}/tank.yaml", "--data", f"{folder}/train.csv", "--models", f"{folder}/models"])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def detector(folder: Path) -> Detector:
    return Detector.load(artifact.resolve(folder / "models", "tank"))


def test_empty_cells_train_a_model_whose_golden_frames_have_gaps(detector: Detector) -> None:
    assert detector.manifest.contract.missing == "mask"
    assert detector.manifest.training.frames["training"] > 1000
    with np.load(detector.path / detector.manifest.golden) as golden:
        assert np.isnan(golden["frames"]).any()
        assert np.isfinite(golden["expected_frames"]).all()


def test_a_dead_sensor_shows_in_every_row_and_a_row_of_nothing_is_a_dead_letter(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", f"{folder}/tank.yaml", "--data", f"{folder}/test.csv", "--models", f"{folder}/models"]

    code = main([*words, "--out", f"{tmp_path}/out", "-o", "json"])

    summary = json.loads(capsys.readouterr().out)
    table = pq.read_table(tmp_path / "out" / "scores").sort_by("offset")
    missing = dict(zip(table["offset"].to_pylist(), table["missing"].to_pylist(), strict=True))
    assert code == 0
    assert (summary["read"], summary["ok"], summary["dead"]) == (200, len(missing), 200 - len(missing))
    assert [offset for offset in range(50, 60) if offset in missing] == []
    assert min(missing[offset] for offset in range(100, 150) if offset in missing) > 0.33
    assert np.isfinite(table["score"].to_numpy()).all()


def column(batches: list[InferredBatch], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(batch, name) for batch in batches])


def infer_all(detector: Detector, batches: list[RawBatch]) -> tuple[list[InferredBatch], list[int]]:
    decoder = make_decoder("raw", detector.manifest.contract)
    decoded = [decoder.decode(batch) for batch in batches]
    outcomes = [outcome for part in decoded for outcome in infer_surely(detector, part.good)]
    letters = [letter.offset for part in decoded for letter in part.bad]
    return [outcome.inferred for outcome in outcomes if outcome.inferred is not None], letters


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 199), max_size=10))
def test_any_split_of_frames_with_gaps_gives_the_same_codes_and_scores(
    folder: Path, detector: Detector, cuts: list[int]
) -> None:
    [whole] = read_frames(f"{folder}/test.csv", detector.manifest.contract)
    batch, letters = infer_all(detector, [whole])

    edges = [0, *sorted(cuts), len(whole)]
    stream, others = infer_all(detector, [whole.slice(a, b) for a, b in pairwise(edges) if a < b])

    assert others == letters
    assert set(range(50, 60)) <= set(letters)
    np.testing.assert_allclose(column(stream, "codes"), column(batch, "codes"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(column(stream, "scores"), column(batch, "scores"), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(column(stream, "missing"), column(batch, "missing"))


def test_an_alert_says_null_for_what_is_missing_and_a_number_for_what_it_should_be(detector: Detector) -> None:
    frames = np.array([[[50.0, NAN, 1.0]]], np.float32)
    [outcome] = infer_surely(detector, FrameBatch(make_raw([frames.tobytes()]), frames))
    inferred = outcome.inferred
    assert inferred is not None
    assert inferred.alerting.all()

    [alert] = explain(inferred, lambda scorer: detector.manifest, "tank")

    document = json.loads(alert.to_json())
    assert document["missing"] == pytest.approx(1 / 3)
    assert document["channels"][0]["channel"] == "flow"
    [level] = [share for share in document["channels"] if share["channel"] == "level"]
    assert level["seen"] is None
    assert np.isfinite(level["expected"])
    assert level["share"] == 0.0
    assert score_table(inferred)["missing"].to_pylist() == [pytest.approx(1 / 3)]


def test_missing_samples_are_filled_better_than_by_the_mean(detector: Detector) -> None:
    truth = np.linspace(-3, 3, 60)[:, None] * [1.0, -2.0, 0.5]
    frames = truth[:, None, :].astype(np.float32)
    frames[:, :, 1] = NAN

    clean = detector.infer(frames).frames[:, 0, 1]

    mean = detector.manifest.scaling.center[1]
    assert np.square(clean - truth[:, 1]).mean() < 0.5 * np.square(mean - truth[:, 1]).mean()


def test_arrow_columns_of_nulls_alone_are_missing_samples() -> None:
    value = arrow_value({"flow": [1.0, 3.0], "level": pa.nulls(2)})

    decoded = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([value]))

    np.testing.assert_array_equal(decoded.good.frames, [[[1.0, NAN], [3.0, NAN]]])
