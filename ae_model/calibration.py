"""The threshold, fitted on scores of frames that training never saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import ThresholdConfig, ThresholdMethod
from ae_model.exceptions import TrainingError

# How many times the threshold a score must reach to be called so.
LEVELS = {"warning": 1.0, "major": 2.0, "critical": 5.0}


@dataclass(frozen=True)
class Threshold:
    """The cut-off on the score; a score at or above ``value`` alerts.

    Args:
        value: in the score's own units, more than 0.
        method: how it was fitted.
        target: what the method was asked for.
        frames: how many calibration frames it rests on.
        levels: severity names with their multiples of ``value``.
    """

    value: float
    method: ThresholdMethod
    target: float
    frames: int
    levels: dict[str, float] = field(default_factory=lambda: dict(LEVELS))


def fit_threshold(scores: NDArray[Any], config: ThresholdConfig) -> Threshold:
    """Take the quantile ``config.target`` of the calibration scores.

    It is one of the scores and never lies between two: with too few frames for the target it is
    the highest.

    Args:
        scores: (n,), finite.
        config: the method and its target.

    Raises:
        TrainingError: there are no scores, or some are not finite.
    """
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if len(scores) == 0 or bad:
        raise TrainingError(
            f"calibration scores: expected at least one, all finite. Received: {bad} not finite of {len(scores)}. "
            "Give more data, or lower the learning rate."
        )
    value = float(np.quantile(scores, config.target, method="higher"))
    # A perfect copy scores 0 and must not alert, even when all calibration frames were perfect.
    value = max(value, float(np.finfo(np.float32).tiny))
    return Threshold(value, config.method, config.target, len(scores))
