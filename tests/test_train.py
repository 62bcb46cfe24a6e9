from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.config import NetworkConfig
from ae_model.exceptions import ConfigError, TrainingError
from ae_model.model import Detector
from pipelines import batch_size
from pipelines.stream_file import StreamFile, parse_stream
from pipelines.train import TrainSummary, train_stream

ROWS = 2000
SMALL = NetworkConfig(network="dense", hidden=(8,), latent=2, epochs=3, batch_frames=64, learning_rate=0.01)


def make_stream(
    network: NetworkConfig = SMALL, *, name: str = "pump", channels: int = 4, length: int = 1
) -> StreamFile:
    document = {
        "name": name,
        "input": {"topic": "plant.pump.frames.v1", "channels": channels, "rate_hz": 1.0},
        "frame": {"length": length},
        "threshold": {"target": 0.99},
    }
    return parse_stream(document).model_copy(update={"model": network})


def make_samples(rows: int = ROWS, channels: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Two hidden signals seen by every channel, with a little noise."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2))
    mixing = np.random.default_rng(99).normal(size=(2, channels))
    return (hidden @ mixing + 0.05 * rng.normal(size=(rows, channels))).astype(np.float32)


def save(path: Path, samples: NDArray[Any]) -> str:
    np.savez(path, train=samples)
    return f"{path}::train"


def train(tmp_path: Path, stream: StreamFile, data: str, models: str = "models") -> tuple[TrainSummary, list[str]]:
    lines: list[str] = []
    return train_stream(stream, data, tmp_path / models, (), lines.append), lines


def start_from(trained: tuple[Path, TrainSummary, list[str]], tmp_path: Path) -> str:
    """Put version 1 of ``trained`` under this test's models, and give the data it was trained on."""
    folder, _, _ = trained
    shutil.copytree(folder / "models", tmp_path / "models")
    return f"{folder}/train.npz::train"


def current_detector(tmp_path: Path, name: str = "pump") -> Detector:
    return Detector.load(artifact.resolve(tmp_path / "models", name))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary, list[str]]:
    folder = tmp_path_factory.mktemp("trained")
    data = save(folder / "train.npz", make_samples())
    summary, lines = train(folder, make_stream(), data)
    return folder, summary, lines


def test_model_and_baseline_are_published_with_one_version_each(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder, summary, _ = trained

    assert (summary.model, summary.version, summary.promoted) == ("pump", 1, True)
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["pump", "pump.pca"]
    assert Detector.load(Path(summary.path)).manifest.network == SMALL
    assert current_detector(folder, "pump.pca").manifest.network == NetworkConfig("linear", 2, batch_frames=64)


def test_splits_have_their_shares_and_the_manifest_says_so(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder, summary, _ = trained

    manifest = current_detector(folder).manifest

    assert summary.frames == {"training": 1440, "validation": 160, "calibration": 400, "unusable": 0}
    assert manifest.training.frames == {"training": 1440, "validation": 160, "calibration": 400}
    assert manifest.training.data == f"{folder}/train.npz::train"
    assert manifest.threshold.frames == 400


def test_manifest_names_a_batch_size_that_was_tried(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder, _, _ = trained

    assert current_detector(folder).manifest.batch_frames in batch_size.CANDIDATES


def test_scaling_comes_from_training_frames_alone(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder, _, _ = trained
    training = make_samples()[:1440].astype(np.float64)

    scaling = current_detector(folder).manifest.scaling

    np.testing.assert_allclose(scaling.center, training.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaling.scale, training.std(axis=0), rtol=1e-9)


def test_errors_in_the_manifest_are_those_of_frames_that_fit_never_saw(
    trained: tuple[Path, TrainSummary, list[str]],
) -> None:
    folder, summary, _ = trained
    samples = make_samples()[:, None, :]

    for role, name in (("model", "pump"), ("baseline", "pump.pca")):
        detector = current_detector(folder, name)
        metrics = current_detector(folder).manifest.metrics[role]
        assert metrics == summary.metrics[role]
        assert metrics["validation_error"] == pytest.approx(
            float(detector.infer(samples[1440:1600]).errors.mean()), rel=1e-5
        )
        assert metrics["calibration_error"] == pytest.approx(
            float(detector.infer(samples[1600:]).errors.mean()), rel=1e-5
        )


def test_threshold_is_a_quantile_of_calibration_scores(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder, summary, _ = trained
    detector = current_detector(folder)

    scores = np.sort(detector.infer(make_samples()[1600:, None, :]).scores)

    # 0.99 of 400 scores: rank 395.01 of 0..399, taken upwards.
    assert summary.threshold == pytest.approx(float(scores[396]), rel=1e-5)
    assert detector.manifest.threshold.value == summary.threshold


def test_artifact_shows_how_it_was_trained_and_what_its_threshold_rests_on(
    trained: tuple[Path, TrainSummary, list[str]],
) -> None:
    _, summary, _ = trained

    pictures = sorted(path.name for path in (Path(summary.path) / "assets").glob("*.png"))

    assert pictures == ["threshold.png", "training.png"]
    card = (Path(summary.path) / "README.md").read_text()
    assert [f"![{name}](assets/{name}.png)" in card for name in ("threshold", "training")] == [True, True]


def test_progress_tells_epochs_and_both_errors(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    _, _, lines = trained

    assert lines[:3] == [
        "data: 2000 samples of 4 channels in 1 recordings",
        "frames: training 1440, validation 160, calibration 400, unusable 0",
        "network: dense autoencoder 1x4 - 8 - 2 - 8 - 1x4",
    ]
    assert [line.split("  ")[0] for line in lines[3:6]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert lines[6].startswith("error on calibration frames: model ")
    assert lines[-1].startswith("pump version 1 is current now: there is no current version")


def test_summary_is_json(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    _, summary, _ = trained

    document = json.loads(json.dumps(summary.as_json(), allow_nan=False))

    assert document["version"] == 1
    assert [channel["channel"] for channel in document["channels"]] == ["ch0", "ch1", "ch2", "ch3"]
    assert sorted(document["channels"][0]) == [
        "channel",
        "max",
        "mean",
        "min",
        "missing",
        "p1",
        "p50",
        "p99",
        "std",
        "unit",
    ]


def test_same_data_and_seed_give_the_same_weights(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    folder, _, _ = trained
    frames = make_samples(seed=3)[:, None, :]

    train(tmp_path, make_stream(), save(tmp_path / "train.npz", make_samples()))

    again, first = current_detector(tmp_path), current_detector(folder)
    assert np.array_equal(again.encode(frames), first.encode(frames))
    assert again.manifest.threshold == first.manifest.threshold
    assert again.manifest.training.history == first.manifest.training.history


def test_many_short_recordings_train_a_model_of_long_frames(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(50):
        columns = ",".join(f"ch{i}" for i in range(2))
        rows = make_samples(41, 2, seed=number)
        np.savetxt(tmp_path / "clips" / f"{number:02d}.csv", rows, "%.6f", delimiter=",", header=columns, comments="")

    summary, _ = train(
        tmp_path, make_stream(replace(SMALL, batch_frames=32), channels=2, length=8), str(tmp_path / "clips")
    )

    assert summary.frames == {"training": 180, "validation": 20, "calibration": 50, "unusable": 0}
    assert current_detector(tmp_path).manifest.contract.shape == (8, 2)


def test_unusable_frames_are_left_out_counted_and_named(tmp_path: Path) -> None:
    samples = make_samples()
    samples[[10, 700, 1900], 1] = [np.nan, np.inf, 1e20]

    summary, lines = train(tmp_path, make_stream(), save(tmp_path / "train.npz", samples))

    note = (
        "3 frames are not finite or too large and were left out; by channel: ch1 in 3; "
        "the first is train.npz::train, frame at row 10"
    )
    assert summary.frames == {"training": 1438, "validation": 160, "calibration": 399, "unusable": 3}
    assert note in summary.notes
    assert f"note: {note}" in lines


def test_constant_channel_is_named(tmp_path: Path) -> None:
    samples = make_samples()
    samples[:, 2] = 7.0

    summary, _ = train(tmp_path, make_stream(), save(tmp_path / "train.npz", samples))

    assert "1 of 4 channels are constant in training: ch2" in summary.notes


def test_target_beyond_the_calibration_frames_is_pointed_out(tmp_path: Path) -> None:
    stream = make_stream()
    stream = stream.model_copy(update={"threshold": replace(stream.threshold, target=0.9999)})

    summary, _ = train(tmp_path, stream, save(tmp_path / "train.npz", make_samples()))

    assert summary.notes == [
        "the threshold is the highest of 400 calibration scores, which are too few for target 0.9999: "
        "give more data, or take method: pot"
    ]


def test_linear_network_is_its_own_baseline_in_the_same_codes(tmp_path: Path) -> None:
    linear = NetworkConfig(network="linear", latent=2, batch_frames=64, codes="int8")

    summary, lines = train(tmp_path, make_stream(linear), save(tmp_path / "train.npz", make_samples()))

    model, baseline = (current_detector(tmp_path, name).manifest.codes for name in ("pump", "pump.pca"))
    assert (model.dtype, baseline) == ("int8", model)
    assert summary.metrics["model"] == summary.metrics["baseline"]
    assert not any(line.startswith("epoch") for line in lines)


def test_bce_trains_on_samples_in_zero_to_one(tmp_path: Path) -> None:
    squashed = 1 / (1 + np.exp(-make_samples()))

    summary, _ = train(
        tmp_path, make_stream(replace(SMALL, loss="bce", scaling="none")), save(tmp_path / "t.npz", squashed)
    )

    assert summary.promoted


def test_equal_candidate_becomes_the_next_version(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    data = start_from(trained, tmp_path)

    summary, _ = train(tmp_path, make_stream(), data)

    assert (summary.version, summary.promoted) == (2, True)
    assert artifact.current(tmp_path / "models", "pump") == 2
    assert summary.reason.endswith("of current version 1")


def test_worse_candidate_is_published_and_not_promoted(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    data = start_from(trained, tmp_path)

    summary, lines = train(tmp_path, make_stream(replace(SMALL, latent=1, epochs=1)), data)

    models = tmp_path / "models"
    assert (summary.version, summary.promoted) == (2, False)
    assert artifact.versions(models, "pump") == [1, 2]
    assert [artifact.current(models, name) for name in ("pump", "pump.pca")] == [1, 1]
    assert "is more than 5% above the" in summary.reason
    assert lines[-1].startswith("pump version 2 is published, but not current: its calibration error")


def test_candidate_for_other_frames_is_promoted_without_comparison(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    start_from(trained, tmp_path)

    summary, _ = train(tmp_path, make_stream(channels=3), save(tmp_path / "three.npz", make_samples(channels=3)))

    assert (summary.version, summary.promoted) == (2, True)
    assert summary.reason == "current version 1 takes other frames"


def test_damaged_current_version_does_not_keep_its_successor_out(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    data = start_from(trained, tmp_path)
    (tmp_path / "models" / "pump" / "1" / "saved_model.pb").write_bytes(b"damaged")

    summary, _ = train(tmp_path, make_stream(), data)

    assert (summary.version, summary.promoted) == (2, True)
    assert summary.reason.startswith("current version 1 is refused itself")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("nowhere.npz::train", ConfigError, "which is absent"),
        ("good.npz::trian", ConfigError, "Did you mean 'train'"),
        ("empty", ConfigError, "Received: none"),
        ("narrow.npz::train", ConfigError, "expected 4 channels, .* Received: 3 channels"),
        (
            "short.npz::train",
            TrainingError,
            "training frames: expected at least 128 usable ones. Received: training=72",
        ),
        ("nan.npz::train", TrainingError, "expected at least 128 usable ones. Received: training=0, unusable=2000"),
    ],
)
def test_data_that_cannot_train_publish_nothing_and_leave_nothing(
    tmp_path: Path, data: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "good.npz", make_samples())
    save(tmp_path / "narrow.npz", make_samples(channels=3))
    save(tmp_path / "short.npz", make_samples(rows=100))
    save(tmp_path / "nan.npz", np.full((ROWS, 4), np.nan, np.float32))

    with pytest.raises(error, match=message):
        train(tmp_path, make_stream(), f"{tmp_path}/{data}")

    assert list((tmp_path / "models").glob("**/*")) == []


def test_bce_outside_zero_to_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    data = save(tmp_path / "train.npz", make_samples())

    with pytest.raises(TrainingError, match=r"loss bce: expected scaled samples in \[0, 1\]"):
        train(tmp_path, make_stream(replace(SMALL, loss="bce", scaling="none")), data)

    assert list((tmp_path / "models").glob("**/*")) == []


def test_diverging_training_leaves_the_current_version_alone(
    tmp_path: Path, trained: tuple[Path, TrainSummary, list[str]]
) -> None:
    data = start_from(trained, tmp_path)

    with pytest.raises(TrainingError, match="expected a finite loss"):
        train(tmp_path, make_stream(replace(SMALL, optimizer="sgd", learning_rate=1e30)), data)

    assert artifact.versions(tmp_path / "models", "pump") == [1]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["pump", "pump.pca"]


def test_direct_runner_is_refused(tmp_path: Path) -> None:
    data = save(tmp_path / "train.npz", make_samples())

    with pytest.raises(ConfigError, match="expected one engine"):
        train_stream(make_stream(), data, tmp_path / "models", ("--runner=DirectRunner",))
