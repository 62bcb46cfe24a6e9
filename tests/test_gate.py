from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.artifact import Facts
from ae_model.calibration import Threshold
from ae_model.config import FrameContract, NetworkConfig
from ae_model.model import Detector
from ae_model.scaling import Statistics, from_statistics
from ae_model.training import Fitted, fit
from pipelines.gate import Verdict, judge

Frames = NDArray[np.float32]
CONTRACT = FrameContract(channels=("a", "b", "c"))


def make_frames(size: float = 1.0, seed: int = 0) -> Frames:
    """Frames (400, 1, 3): two signals of falling size, and noise."""
    return (size * np.random.default_rng(seed).normal(size=(400, 1, 3)) * [3.0, 1.0, 0.1]).astype(np.float32)


def fit_linear(frames: Frames, latent: int, contract: FrameContract = CONTRACT) -> Fitted:
    scaling = from_statistics("none", **vars(Statistics.of(frames)))
    dataset = tf.data.Dataset.from_tensors(frames)
    return fit(contract, NetworkConfig("linear", latent, scaling="none"), scaling, lambda: dataset, lambda: dataset)


def publish(folder: Path, fitted: Fitted, frames: Frames) -> Path:
    facts = Facts("pump", "2026-11-21T00:00:00+00:00", "d", {"training": 400}, Threshold(1.0, "quantile", 0.9, 400), {})
    artifact.export(folder / "candidate", fitted, facts, frames[:4])
    artifact.publish(folder / "candidate", folder / "models", "pump")
    return folder / "models"


def test_first_version_passes_without_comparison(tmp_path: Path) -> None:
    frames = make_frames()

    verdict = judge(fit_linear(frames, 1), tmp_path / "models", "pump", iter([frames]))

    assert verdict == Verdict(True, "there is no current version")


@pytest.mark.parametrize(("before", "after", "passed"), [(1, 2, True), (2, 2, True), (2, 1, False)])
def test_candidate_passes_unless_it_is_worse(tmp_path: Path, before: int, after: int, passed: bool) -> None:
    frames = make_frames()
    models = publish(tmp_path, fit_linear(frames, before), frames)

    verdict = judge(fit_linear(frames, after), models, "pump", iter([frames[:100], frames[100:]]))

    assert (verdict.passed, verdict.current) == (passed, 1)
    assert verdict.reason.startswith("its calibration error ")


def test_both_are_measured_in_the_candidate_s_scale(tmp_path: Path) -> None:
    small, large = make_frames(), make_frames(10.0, seed=1)
    models = publish(tmp_path, fit_linear(small, 1), small)
    scaling = from_statistics("standard", **vars(Statistics.of(large)))
    dataset = tf.data.Dataset.from_tensors(large)
    candidate = fit(CONTRACT, NetworkConfig("linear", 2), scaling, lambda: dataset, lambda: dataset)

    verdict = judge(candidate, models, "pump", iter([large[:150], large[150:]]))

    residual = (large - Detector.load(models / "pump" / "1").reconstruct(large)) / np.array(scaling.scale, np.float32)
    assert verdict.current_error == pytest.approx(float(np.mean(residual**2)), rel=1e-4)
    assert verdict.candidate_error == pytest.approx(float(candidate.infer(large).errors.mean()), rel=1e-4)


def test_current_version_for_other_channels_is_not_compared(tmp_path: Path) -> None:
    frames = make_frames()
    models = publish(tmp_path, fit_linear(frames, 2), frames)
    other = FrameContract(channels=("a", "b", "renamed"))

    verdict = judge(fit_linear(frames, 1, other), models, "pump", iter([frames]))

    assert verdict == Verdict(True, "current version 1 takes other frames", 1)


def test_damaged_current_version_is_not_compared(tmp_path: Path) -> None:
    frames = make_frames()
    models = publish(tmp_path, fit_linear(frames, 2), frames)
    (models / "pump" / "1" / "manifest.json").write_text("{}")

    verdict = judge(fit_linear(frames, 1), models, "pump", iter([frames]))

    assert verdict.passed
    assert verdict.reason.startswith("current version 1 is refused itself: ")
