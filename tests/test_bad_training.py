"""What a person does wrong with training data, typed as a command: exit code, message, and nothing published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.cli import main

MODEL = {"hidden": [8], "latent": 2, "epochs": 2, "batch_frames": 64}
ROWS = 1000

# Model settings, arrays and channels to exit code and stderr.
Train = Callable[..., tuple[int, str]]


def make_samples(rows: int = ROWS) -> Any:
    return np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    def run(samples: Any, *flags: str, array: str = "train", channels: Any = 4, **model: Any) -> tuple[int, str]:
        document = {
            "name": "pump",
            "input": {"topic": "plant.pump.frames.v1", "channels": channels},
            "model": {**MODEL, **model},
        }
        (tmp_path / "pump.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        np.savez(tmp_path / "data.npz", **{array: samples})
        words = ["--data", f"{tmp_path}/data.npz::{array}", "--models", f"{tmp_path}/models"]
        code = main(["train", f"{tmp_path}/pump.yaml", *words, *flags])
        return code, capsys.readouterr().err

    return run


def leftovers(tmp_path: Path) -> list[str]:
    """Whatever lies in the folder of models, hidden or not."""
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("models/**/*"))


def with_bad(samples: Any, rows: Any, channel: int, value: float) -> Any:
    samples[rows, channel] = value
    return samples


BAD = {
    "constant": (
        {"samples": np.full((ROWS, 4), 7.0)},
        "expected a channel that changes. Received: all 4 constant.",
    ),
    "NaN in a channel": (
        {"samples": with_bad(make_samples(), slice(None), 2, np.nan)},
        "training frames: expected at least 128 usable ones. Received: training=0, unusable=1000 by channel: "
        "ch2 in 1000. Leave out a channel that is rarely usable.",
    ),
    "infinity in a channel": (
        {"samples": with_bad(make_samples(), slice(10, None), 0, np.inf)},
        "Received: training=10, unusable=990 by channel: ch0 in 990.",
    ),
    "one sample": (
        {"samples": make_samples(1)},
        "training frames: expected at least 128 usable ones. Received: training=0, unusable=0. Give more data",
    ),
    "no sample": ({"samples": make_samples(0)}, "expected at least 128 usable ones. Received: training=0"),
    "fewer frames than a batch": (
        {"samples": make_samples(60)},
        "expected at least 128 usable ones. Received: training=43, unusable=0. Give more data, or a smaller "
        "model.batch_frames.",
    ),
    "labels as data": (
        # A code as large as its frame needs a regulariser, which is not what is wrong here.
        {
            "samples": np.repeat([0, 1], ROWS // 2),
            "array": "test_label",
            "channels": 1,
            "latent": 1,
            "contractive": 0.1,
        },
        "data.npz::test_label: expected signals. Received: an array that holds labels by its name and its values",
    ),
    "labels as data of many channels": (
        {"samples": np.repeat([0, 1], ROWS // 2), "array": "test_label"},
        "expected 4 channels, as in the stream file. Received: 1 channels.",
    ),
    "labels among the channels": (
        {
            "samples": np.column_stack([make_samples(), np.arange(ROWS) % 50 == 0]),
            "channels": ["a", "b", "c", "d", "is_anomaly"],
        },
        "input.channels: expected signals. Received: is_anomaly, which holds labels by its name and its values",
    ),
    "labels among the channels, all of them 0": (
        {"samples": np.column_stack([make_samples(), np.zeros(ROWS)]), "channels": ["a", "b", "c", "d", "Label"]},
        "Received: Label, which holds labels",
    ),
    "bce outside 0 to 1": (
        {"samples": make_samples(), "loss": "bce", "scaling": "none"},
        "loss bce: expected scaled samples in [0, 1]. Received: -",
    ),
    "bce with standard scaling": (
        {"samples": make_samples(), "loss": "bce"},
        "loss: expected mse with scaling=standard",
    ),
    "latent as large as the frame": ({"samples": make_samples(), "latent": 4}, "Received: latent=4."),
    "loss that is not finite": (
        {"samples": make_samples(), "optimizer": "sgd", "learning_rate": 1e30},
        "expected a finite loss.",
    ),
    "loss that went up": (
        {"samples": make_samples(), "learning_rate": 10.0},
        "expected a loss below that of the untrained network",
    ),
    "setting without use": (
        {"samples": make_samples(), "momentum": 0.9},
        "momentum: expected 0 unless optimizer=sgd. Received: momentum=0.9.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_training_data_exit_with_2_and_the_reason_and_leave_nothing(
    case: str, train: Train, tmp_path: Path
) -> None:
    settings, message = BAD[case]

    code, error = train(**settings)

    assert code == 2
    assert message in error
    assert leftovers(tmp_path) == []


def test_labels_are_no_argument_of_training(train: Train, tmp_path: Path) -> None:
    code, error = train(make_samples(), "--labels=data.npz::label")

    assert code == 2
    assert "Labels of samples are for `latentstream evaluate`; training sees none." in error
    assert leftovers(tmp_path) == []


def test_what_may_be_a_mistake_is_told_and_trained_on(train: Train, tmp_path: Path) -> None:
    samples = with_bad(make_samples(), slice(0, 5), 3, np.nan)

    code, said = train(np.column_stack([samples, np.arange(ROWS) % 50 == 0]), channels=5)

    assert code == 0
    assert "note: channel ch4 holds 0 and 1 alone: if it is a label, leave it out" in said
    assert "note: 5 frames are not finite or too large and were left out; by channel: ch3 in 5; the first is" in said
    assert (tmp_path / "models" / "pump" / "CURRENT").read_text() == "1\n"
