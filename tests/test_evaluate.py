from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import linear_models
import numpy as np
import pytest
from numpy.typing import NDArray

from ae_model import artifact, manifest
from ae_model.config import VariationalConfig
from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.model import Detector
from ae_model.scopes import Scope
from pipelines.evaluate import Question, evaluate_stream
from pipelines.stream_file import StreamFile, parse_stream

MINUTE = 1 / 60


def make_stream(length: int = 1, rate_hz: float | None = MINUTE, **records: Any) -> StreamFile:
    document = {
        "name": "pump",
        "input": {"topic": "plant.pump.frames.v1", "channels": 3, "rate_hz": rate_hz, **records},
        "frame": {"length": length},
    }
    return parse_stream(document)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Question:
    """Two pumps with labelled faults, and a model that was trained without them."""
    folder = tmp_path_factory.mktemp("plant")
    rng = np.random.default_rng(0)
    (folder / "pumps").mkdir()
    for name, events in {"a": [200], "b": [50, 150, 250]}.items():
        samples, labels = make_pump(rng, 300), np.zeros(300, np.uint8)
        for event in events:
            samples[event : event + 5] = [5.0, -5.0, 5.0]
            labels[event : event + 5] = 1
        samples[7] = np.nan
        np.savez(folder / "pumps" / f"{name}.npz", test=samples, label=labels)
    stream = make_stream()
    linear_models.publish(stream, make_pump(rng, 600), folder / "models")
    return Question(stream, f"{folder}/pumps::test", folder / "models", f"{folder}/pumps::label")


def make_pump(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Three channels that move together, each with a little noise of its own."""
    together = rng.normal(size=(rows, 1)) * np.array([[1.0, 2.0, -1.0]])
    return (together + 0.01 * rng.normal(size=(rows, 3))).astype(np.float32)


def test_every_entity_is_measured_beside_its_baseline_and_a_random_score(plant: Question) -> None:
    (section,) = evaluate_stream(plant).sections

    assert {name: list(roles) for name, roles in section.entities.items()} == {
        name: ["model", "baseline", "random"] for name in "ab"
    }
    counts = ("frames", "missing", "events", "event_recall", "auc_pr", "delay_s")
    assert [section.entities["a"]["model"][name] for name in counts] == [300, 1, 1, 1.0, 1.0, 0.0]
    assert [section.mean["model"][name] for name in counts] == [600, 2, 4, 1.0, 1.0, 0.0]
    assert section.entities["b"]["baseline"] == section.entities["b"]["model"]
    assert section.mean["model"]["threshold"] is None


def test_notes_tell_how_many_events_the_numbers_rest_on_and_that_nobody_won(plant: Question) -> None:
    (section,) = evaluate_stream(plant).sections

    vus_pr = section.mean["model"]["vus_pr"]
    assert section.notes[:3] == [
        "The numbers rest on 4 events of 2 entities.",
        "Fewer than 2 events, to be read with the others only: a.",
        f"In mean VUS-PR the model and PCA are equal: {vus_pr:.3f} for the model, {vus_pr:.3f} for PCA; "
        "the model wins 0 and loses 0 of 2 entities.",
    ]


def test_one_event_alone_proves_nothing(plant: Question) -> None:
    folder = plant.data.partition("::")[0]
    alone = replace(plant, data=f"{folder}/a.npz::test", labels=f"{folder}/a.npz::label")

    (section,) = evaluate_stream(alone).sections

    assert section.notes == [
        "The numbers rest on 1 event of 1 entity.",
        "One event proves nothing: evaluate it with other entities. No comparison is made.",
    ]


def test_report_is_written_for_programs_and_for_people_with_its_pictures(plant: Question, tmp_path: Path) -> None:
    lines: list[str] = []

    report = evaluate_stream(replace(plant, out=tmp_path / "new"), lines.append)

    stored = json.loads((tmp_path / "new" / "report.json").read_text())
    text = (tmp_path / "new" / "report.md").read_text()
    assert lines == ["1/2  a  300 rows", "2/2  b  300 rows"]
    assert stored == json.loads(json.dumps(report.as_json()))
    assert text == report.as_text()
    assert "- model: pump version 1, trained on two sines" in text
    assert sorted(file.name for file in (tmp_path / "new").glob("*.png")) == sorted(report.pictures.values())
    assert {"entities-vus_pr.png", "a-scores.png", "b-histogram.png", "b-reconstruction.png", "b-codes.png"} <= set(
        report.pictures.values()
    )
    assert "| events (sum)              |     4 |     4 |            - |" in text
    assert "![VUS-PR of each entity](entities-vus_pr.png)" in text


def test_each_key_is_measured_by_the_first_model_that_a_run_would_ask(plant: Question, tmp_path: Path) -> None:
    stream = plant.stream.model_copy(update={"key": "pump"})
    own = make_pump(np.random.default_rng(5), 400) * np.float32(10)
    linear_models.publish(stream, make_pump(np.random.default_rng(6), 600), tmp_path)
    linear_models.publish(stream, own, tmp_path, Scope("own", "b"))

    report = evaluate_stream(replace(plant, stream=stream, models=tmp_path))

    assert report.models == {
        "a": "pump version 1, trained on two sines",
        "b": "pump.own.b version 1, layer own, trained on two sines",
    }
    served = [manifest.read(artifact.resolve(tmp_path, name)) for name in ("pump", "pump.own.b")]
    (section,) = report.sections
    for role in ("model", "baseline"):
        thresholds = [section.entities[key][role]["threshold"] for key in "ab"]
        assert thresholds == pytest.approx([each.threshold.value for each in served])


def test_labels_may_be_a_column_of_tables(plant: Question, tmp_path: Path) -> None:
    folder = Path(plant.data.partition("::")[0])
    for name in "ab":
        with np.load(folder / f"{name}.npz") as arrays:
            lines = [f"{row};{label}" for row, label in enumerate(arrays["label"])]
        (tmp_path / f"{name}.csv").write_text("\n".join(["row;fault", *lines]))

    (section,) = evaluate_stream(replace(plant, labels=f"{tmp_path}::fault")).sections

    assert section.mean["model"]["events"] == 4


def test_labels_that_do_not_belong_to_the_data_are_refused(plant: Question, tmp_path: Path) -> None:
    folder = plant.data.partition("::")[0]
    np.savez(tmp_path / "a.npz", label=np.zeros(300))
    np.savez(tmp_path / "short.npz", label=np.zeros(299))

    with pytest.raises(ConfigError, match=r"labels: expected one for each of 2 recordings.* Received: none for b"):
        evaluate_stream(replace(plant, labels=f"{tmp_path}/a.npz::label"))
    with pytest.raises(ConfigError, match=r"one for each of 300 rows of a.npz::test. Received: 299 labels"):
        evaluate_stream(replace(plant, data=f"{folder}/a.npz::test", labels=f"{tmp_path}/short.npz::label"))


def test_without_labels_the_codes_are_measured_and_recordings_of_one_model_are_pooled(
    plant: Question, tmp_path: Path
) -> None:
    report = evaluate_stream(replace(plant, labels=None, out=tmp_path))

    (section,) = report.sections
    (roles,) = section.entities.values()
    assert (section.name, list(section.entities)) == ("codes", ["2 recordings"])
    assert list(roles) == ["model", "baseline", "lossless", "rounded"]
    assert (roles["model"]["frame_bytes"], roles["model"]["code_bytes"]) == (12.0, 4.0)
    assert roles["rounded"]["nrmse"] == roles["model"]["nrmse"]
    assert {"2-recordings-rates.png", "2-recordings-codes.png", "a-reconstruction.png"} <= set(report.pictures.values())


def test_classes_are_read_from_codes(plant: Question, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 3, 90)
    samples = (classes[:, None] - 1) * np.array([[1.0, 2.0, -1.0]]) + 0.01 * rng.normal(size=(90, 3))
    np.savez(tmp_path / "d.npz", test=samples, label=classes)
    question = replace(plant, data=f"{tmp_path}/d.npz::test", labels=f"{tmp_path}/d.npz::label")

    sections = {section.name: section for section in evaluate_stream(question).sections}

    roles = sections["classes"].entities["d"]
    assert list(sections) == ["classes", "codes"]
    assert (roles["model"]["frames"], roles["model"]["classes"], roles["model"]["accuracy"]) == (90, 3, 1.0)
    assert roles["random"]["accuracy"] == np.bincount(classes).max() / 90


def test_classes_that_fit_neither_frames_nor_rows_are_refused(plant: Question, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", test=np.zeros((6, 3)), label=[0, 1, 2])

    with pytest.raises(ConfigError, match=r"one class for each of 6 frames or 6 rows. Received: 3 classes"):
        evaluate_stream(replace(plant, data=f"{tmp_path}/d.npz::test", labels=f"{tmp_path}/d.npz::label"))


def write_wav(path: Path, samples: NDArray[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())


def test_noisy_sound_is_compared_with_its_clean_original(tmp_path: Path) -> None:
    # Two tones fill one direction of a frame of two samples each; noise fills the other as well.
    clean = 0.3 * np.sin(2 * np.pi * 100 * np.arange(16_000) / 8000)
    noisy = clean + 0.05 * np.random.default_rng(0).normal(size=16_000)
    for name, samples in {"noisy": noisy, "clean": clean}.items():
        write_wav(tmp_path / name / "m.wav", samples)
    stream = parse_stream(
        {
            "name": "voice",
            "input": {"topic": "lab.voice.frames.v1", "format": "pcm16", "channels": ["a"], "rate_hz": 8000},
            "frame": {"length": 32, "hop": 16},
        }
    )
    linear_models.publish(stream, clean[:, None].astype(np.float32), tmp_path / "models", latent=2)

    report = evaluate_stream(
        Question(
            stream,
            str(tmp_path / "noisy"),
            tmp_path / "models",
            reference=str(tmp_path / "clean"),
            out=tmp_path / "out",
        )
    )

    denoising, codes = report.sections
    roles = denoising.entities["m"]
    assert (denoising.name, codes.name) == ("denoising", "codes")
    assert roles["model"]["gain_db"] > 6
    assert roles["model"]["si_sdr_db"] - roles["input"]["si_sdr_db"] == pytest.approx(roles["model"]["gain_db"])
    assert roles["input"]["seconds"] == 2.0
    assert roles["input"]["stoi"] is not None
    # Of 16 bits, and only the new half of each frame.
    assert codes.entities["m"]["model"]["frame_bytes"] == 32.0
    assert "m-signals.png" in report.pictures.values()


def test_reference_of_another_length_is_refused(plant: Question, tmp_path: Path) -> None:
    folder = plant.data.partition("::")[0]
    np.savez(tmp_path / "r.npz", clean=np.zeros((299, 3)))

    with pytest.raises(ConfigError, match=r"expected 300 rows, as a.npz::test has. Received: 299 rows"):
        evaluate_stream(replace(plant, data=f"{folder}/a.npz::test", labels=None, reference=f"{tmp_path}/r.npz::clean"))


def test_images_are_shown_and_measured_in_their_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stripes = np.where(np.arange(6) % 2 == rng.integers(0, 2, (200, 1)), 255, 0)  # (200, 6)
    images = np.repeat(stripes[:, None, :], 6, axis=1).astype(np.uint8)  # (200, 6, 6)
    np.savez(tmp_path / "i.npz", x=images)
    stream = make_stream(length=6, rate_hz=None, channels=6, dtype="uint8")
    linear_models.publish(stream, images.reshape(-1, 6), tmp_path / "models", scaling="minmax_shared")

    report = evaluate_stream(Question(stream, f"{tmp_path}/i.npz::x", tmp_path / "models", out=tmp_path / "out"))

    (section,) = report.sections
    model = section.entities["i"]["model"]
    assert (model["frame_bytes"], model["bce_floor"]) == (36.0, pytest.approx(0, abs=1e-5))
    assert model["mse"] == pytest.approx(0, abs=1e-6)
    assert "i-images.png" in report.pictures.values()


def test_data_that_the_model_was_trained_on_are_called_so(plant: Question, tmp_path: Path, monkeypatch: Any) -> None:
    # The models of these tests say that they were trained on two sines.
    (tmp_path / "two sines").mkdir()
    (tmp_path / "two sines" / "a.csv").write_text("ch0,ch1,ch2\n" + "1,2,-1\n" * 20)
    monkeypatch.chdir(tmp_path)

    report = evaluate_stream(replace(plant, data="two sines", labels=None))

    assert "- caution: the model was trained on these very data, which flatters it" in report.as_text()


def test_frames_with_missing_samples_are_measured_by_those_that_are_there(tmp_path: Path) -> None:
    samples = make_pump(np.random.default_rng(3), 400)
    samples[::7, 1] = np.nan
    stream = make_stream()
    frame = stream.frame.model_copy(update={"missing": "mask"})
    stream = stream.model_copy(update={"frame": frame})
    linear_models.publish(stream, samples, tmp_path / "models", network="dense", hidden=(4,), epochs=1)
    np.savez(tmp_path / "d.npz", test=samples, label=np.arange(400) // 10 == 20)
    question = Question(stream, f"{tmp_path}/d.npz::test", tmp_path / "models", out=tmp_path / "out")

    (codes,) = evaluate_stream(question).sections
    (alerts,) = evaluate_stream(replace(question, labels=f"{tmp_path}/d.npz::label")).sections

    assert codes.entities["d"]["model"]["nrmse"] is not None
    assert codes.entities["d"]["lossless"]["packed_bytes"] is not None
    assert (alerts.mean["model"]["frames"], alerts.mean["model"]["missing"]) == (400, 0)


@pytest.mark.parametrize("labelled", [True, False])
def test_recording_shorter_than_a_frame_has_no_numbers(plant: Question, tmp_path: Path, labelled: bool) -> None:
    np.savez(tmp_path / "d.npz", test=np.zeros((0, 3)), label=np.zeros(0))
    labels = f"{tmp_path}/d.npz::label" if labelled else None

    report = evaluate_stream(replace(plant, data=f"{tmp_path}/d.npz::test", labels=labels, out=tmp_path / "out"))

    (section,) = report.sections
    assert section.mean["model"].get("vus_pr") is None
    assert section.mean["model"].get("nrmse") is None
    json.dumps(report.as_json(), allow_nan=False)


def test_stream_without_a_rate_is_drawn_by_rows(plant: Question, tmp_path: Path) -> None:
    stream = make_stream(rate_hz=None)
    linear_models.publish(stream, make_pump(np.random.default_rng(4), 200), tmp_path / "models")

    report = evaluate_stream(replace(plant, stream=stream, models=tmp_path / "models", out=tmp_path / "out"))

    assert report.sections[0].mean["model"]["false_episodes_per_day"] is None
    assert "a-scores.png" in report.pictures.values()


def test_variational_codes_tell_how_much_of_them_is_used(plant: Question, tmp_path: Path) -> None:
    samples = make_pump(np.random.default_rng(2), 256)
    variational = {"network": "dense", "latent": 2, "epochs": 1, "variational": VariationalConfig(), "codes": "int8"}
    linear_models.publish(plant.stream, samples, tmp_path / "models", **variational)

    report = evaluate_stream(replace(plant, labels=None, models=tmp_path / "models"))

    (roles,) = report.sections[0].entities.values()
    assert (roles["model"]["latent"], roles["model"]["code_bytes"]) == (2, 2.0)
    detector = Detector.load(artifact.resolve(tmp_path / "models", "pump"))
    folder = plant.data.partition("::")[0]
    usable = [np.delete(np.load(f"{folder}/{name}.npz")["test"], 7, axis=0) for name in "ab"]
    codes = detector.encode(np.concatenate(usable)[:, None]) * np.array(detector.manifest.codes.step)
    assert roles["model"]["active_units"] == (codes.var(axis=0) > 0.01).sum()
    assert roles["lossless"].get("active_units") is None


def test_active_units_are_not_counted_where_the_prior_was_learned(plant: Question, tmp_path: Path) -> None:
    samples = make_pump(np.random.default_rng(2), 256)
    learned = VariationalConfig(prior="learned")
    linear_models.publish(plant.stream, samples, tmp_path, network="dense", latent=2, epochs=1, variational=learned)

    (roles,) = evaluate_stream(replace(plant, labels=None, models=tmp_path)).sections[0].entities.values()

    assert (roles["model"]["latent"], roles["model"]["active_units"]) == (2, None)


def test_without_a_model_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", test=np.zeros((3, 3)), label=np.zeros(3))

    with pytest.raises(ArtifactError, match="Train pump first"):
        evaluate_stream(Question(make_stream(), f"{tmp_path}/d.npz::test", tmp_path / "models"))
