"""``latentstream train`` as a person types it, killed in mid-training and typed again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ae_model import artifact
from ae_model.model import Detector

EPOCHS = 60
STREAM = {
    "name": "pump",
    "input": {"topic": "plant.pump.frames.v1", "channels": 4},
    "model": {
        "hidden": [8],
        "latent": 2,
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "batch_frames": 64,
        "schedule": "cosine",
        "corruption": {"kind": "gaussian", "amount": 0.1},
    },
}


def write_files(folder: Path, **model: Any) -> list[str]:
    """Words of the command that trains on data of its own into a folder of its own."""
    folder.mkdir()
    stream = {**STREAM, "model": {**STREAM["model"], **model}}  # type: ignore[dict-item]
    (folder / "pump.yaml").write_text(yaml.safe_dump(stream), encoding="utf-8")
    np.savez(folder / "data.npz", train=np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32))
    words = ["train", f"{folder}/pump.yaml", "--data", f"{folder}/data.npz::train", "--models", f"{folder}/models"]
    return [sys.executable, "-m", "pipelines.cli", *words]


def run(command: list[str]) -> list[str]:
    """Lines of stderr of a run that succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def kill_in_epoch(command: list[str], epoch: int) -> None:
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if line.startswith(f"epoch {epoch}/"):
                job.kill()
                break
        assert job.wait() == -signal.SIGKILL


def first_epoch(lines: list[str]) -> int:
    return int(next(line for line in lines if line.startswith("epoch ")).split()[1].split("/")[0])


def facts(folder: Path) -> tuple[dict[str, Any], Detector]:
    detector = Detector.load(artifact.resolve(folder / "models", "pump"))
    document = json.loads((detector.path / "manifest.json").read_text(encoding="utf-8"))
    return {name: document[name] for name in ("training", "threshold", "metrics", "scaling")}, detector


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_killed_twice_the_training_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    broken, unbroken = write_files(tmp_path / "broken"), write_files(tmp_path / "unbroken")

    kill_in_epoch(broken, 12)
    assert visible(tmp_path / "broken" / "models") == []
    kill_in_epoch(broken, 30)
    assert visible(tmp_path / "broken" / "models") == []
    lines = run(broken)
    run(unbroken)

    # The line was read before or after its epoch was written down, and some more may have been done until the kill.
    assert f"going on after epoch {first_epoch(lines) - 1}/{EPOCHS}, where a training of the same was stopped" in lines
    assert first_epoch(lines) >= 30
    (found, detector), (expected, other) = facts(tmp_path / "broken"), facts(tmp_path / "unbroken")
    found["training"]["data"] = expected["training"]["data"]
    assert found == expected
    assert len(found["training"]["history"]["loss"]) == EPOCHS
    frames = np.random.default_rng(1).normal(size=(50, 1, 4)).astype(np.float32)
    assert detector.infer(frames).frames.tobytes() == other.infer(frames).frames.tobytes()
    assert sorted(path.name for path in (tmp_path / "broken" / "models").iterdir()) == ["pump", "pump.pca"]


@pytest.mark.slow
def test_other_settings_after_a_kill_start_anew_and_leave_nothing(tmp_path: Path) -> None:
    command = write_files(tmp_path / "killed")
    kill_in_epoch(command, 5)
    assert sorted((tmp_path / "killed" / "models").glob(".unfinished-pump.npz")) != []

    document = yaml.safe_load((tmp_path / "killed" / "pump.yaml").read_text(encoding="utf-8"))
    document["model"]["epochs"] = 3
    (tmp_path / "killed" / "pump.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    lines = run(command)

    assert [line for line in lines if line.startswith("going on")] == []
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1/3", "2/3", "3/3"]
    assert sorted(path.name for path in (tmp_path / "killed" / "models").iterdir()) == ["pump", "pump.pca"]
