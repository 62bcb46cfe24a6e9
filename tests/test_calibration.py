import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.calibration import Threshold, fit_threshold
from ae_model.config import ThresholdConfig
from ae_model.exceptions import TrainingError


def test_threshold_is_the_quantile_of_the_scores():
    scores = np.arange(1, 1001, dtype=np.float32)[::-1]

    threshold = fit_threshold(scores, ThresholdConfig(target=0.99))

    assert threshold == Threshold(
        value=991.0,
        method="quantile",
        target=0.99,
        frames=1000,
        levels={"warning": 1.0, "major": 2.0, "critical": 5.0},
    )


def test_too_few_scores_for_the_target_give_the_highest():
    assert fit_threshold(np.array([3.0, 1.0, 2.0]), ThresholdConfig(target=0.999)).value == 3.0


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_no_more_than_the_target_lets_through_lies_above_the_threshold(values, target):
    scores = np.array(values, np.float32)

    threshold = fit_threshold(scores, ThresholdConfig(target=target))

    assert np.count_nonzero(scores > threshold.value) <= (1 - target) * len(scores) + 1e-6
    assert np.count_nonzero(scores >= threshold.value) >= (1 - target) * (len(scores) - 1) or threshold.value < 1e-30


def test_perfect_scores_do_not_make_a_threshold_that_perfect_frames_reach():
    threshold = fit_threshold(np.zeros(50, np.float32), ThresholdConfig())

    assert np.float32(0) < threshold.value
    assert np.float32(threshold.value) > 0


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_that_are_missing_or_not_finite_cannot_calibrate(scores):
    with pytest.raises(TrainingError, match=r"calibration scores: expected .* Received: \d not finite of \d"):
        fit_threshold(np.array(scores), ThresholdConfig())


def test_calibration_leaves_the_scores_as_they_were():
    scores = np.array([3.0, 1.0, 2.0])
    scores.flags.writeable = False

    fit_threshold(scores, ThresholdConfig(target=0.5))

    assert scores.tolist() == [3.0, 1.0, 2.0]
