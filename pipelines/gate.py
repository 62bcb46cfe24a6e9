"""The gate: a candidate replaces the current version only when it is about as good, on frames neither may choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.exceptions import ArtifactError
from ae_model.scaling import Scaling
from ae_model.scoring import reconstruction_errors

if TYPE_CHECKING:
    from ae_model.model import Detector
    from ae_model.training import Fitted

# How much worse a candidate may be: noise of a few frames must not keep out a model of fresher data.
MARGIN = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may become the current version.

    Args:
        passed: it may.
        reason: why, in one sentence.
        current: the version it was compared with; None when there was nothing to compare.
        current_error: that version's mean reconstruction error on the calibration frames.
        candidate_error: the candidate's, on the same frames and in the same scale.
    """

    passed: bool
    reason: str
    current: int | None = None
    current_error: float | None = None
    candidate_error: float | None = None


def judge(candidate: Fitted, models: Path, name: str, frames: Iterator[NDArray[np.float32]]) -> Verdict:
    """Compare a candidate with the current version, if there is one that takes the same frames.

    Args:
        candidate: just trained.
        models: folder of models.
        name: of the model.
        frames: calibration frames, (n, length, channels) at a time.
    """
    try:
        version = artifact.current(models, name)
    except ArtifactError:
        return Verdict(True, "there is no current version")
    try:
        detector = _load(models, name, version)
    except ArtifactError as exc:
        return Verdict(True, f"current version {version} is refused itself: {exc}", version)
    if detector.manifest.contract != candidate.contract:
        return Verdict(True, f"current version {version} takes other frames", version)
    return _compare(version, *mean_errors(candidate, detector, frames))


def _load(models: Path, name: str, version: int) -> Detector:
    from ae_model.model import Detector

    return Detector.load(artifact.resolve(models, name, version))


def mean_errors(candidate: Fitted, current: Detector, batches: Iterator[NDArray[np.float32]]) -> tuple[float, float]:
    """Mean reconstruction error of both on the same frames, each frame in the candidate's scale.

    Each version scales by its own training data, so their own errors are in different units.
    """
    sums, count = np.zeros(2), 0
    for frames in batches:
        both = (candidate.infer(frames).frames, current.reconstruct(frames))
        sums += [_errors(candidate.scaling, frames, seen).sum(dtype=np.float64) for seen in both]
        count += len(frames)
    candidate_error, current_error = (sums / count).tolist()
    return candidate_error, current_error


def _errors(scaling: Scaling, frames: NDArray[Any], reconstruction: NDArray[Any]) -> NDArray[np.float32]:
    return reconstruction_errors(scaling.apply(frames), scaling.apply(reconstruction))


def _compare(version: int, candidate_error: float, current_error: float) -> Verdict:
    passed = candidate_error <= current_error * (1 + MARGIN)
    relation = "within" if passed else "more than"
    reason = (
        f"its calibration error {candidate_error:.4g} is {relation} {MARGIN:.0%} above "
        f"the {current_error:.4g} of current version {version}"
    )
    return Verdict(passed, reason, version, current_error, candidate_error)
