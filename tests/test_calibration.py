from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.calibration import Threshold, fit_threshold
from ae_model.config import FrameContract, ThresholdConfig
from ae_model.exceptions import ConfigError, TrainingError
from ae_model.metrics.alerts import episodes

# A frame a minute: 1440 a day, and 10 frames of silence part two episodes.
CONTRACT = FrameContract(rate_hz=1 / 60)
METHODS = ("quantile", "gamma", "pot")


def test_threshold_is_the_quantile_of_the_scores():
    scores = np.arange(1, 1001, dtype=np.float32)[::-1]

    threshold = fit_threshold(scores, ThresholdConfig(target=0.99), CONTRACT)

    assert replace(threshold, interval=None) == Threshold(
        value=991.0,
        method="quantile",
        target=0.99,
        frames=1000,
        reached=10,
        levels={"warning": 1.0, "major": 2.0, "critical": 5.0},
    )


def test_too_few_scores_for_the_target_give_the_highest():
    assert fit_threshold(np.array([3.0, 1.0, 2.0]), ThresholdConfig(target=0.999), CONTRACT).value == 3.0


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_no_more_than_the_target_lets_through_lies_above_the_threshold(values, target):
    scores = np.array(values, np.float32)

    threshold = fit_threshold(scores, ThresholdConfig(target=target), CONTRACT)

    assert np.count_nonzero(scores > threshold.value) <= (1 - target) * len(scores) + 1e-6
    assert np.count_nonzero(scores >= threshold.value) >= (1 - target) * (len(scores) - 1) or threshold.value < 1e-30


def test_perfect_scores_do_not_make_a_threshold_that_perfect_frames_reach():
    threshold = fit_threshold(np.zeros(50, np.float32), ThresholdConfig(), CONTRACT)

    assert np.float32(0) < threshold.value
    assert np.float32(threshold.value) > 0


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_that_are_missing_or_not_finite_cannot_calibrate(scores):
    with pytest.raises(TrainingError, match=r"calibration scores: expected .* Received: \d not finite of \d"):
        fit_threshold(np.array(scores), ThresholdConfig(), CONTRACT)


def test_calibration_leaves_the_scores_as_they_were():
    scores = np.array([3.0, 1.0, 2.0])
    scores.flags.writeable = False

    fit_threshold(scores, ThresholdConfig(target=0.5), CONTRACT)

    assert scores.tolist() == [3.0, 1.0, 2.0]


def make_scores(days: int = 20, seed: int = 0) -> np.ndarray:
    """Gamma-distributed scores of so many days, each held for five frames as slow signals hold them."""
    return np.repeat(np.random.default_rng(seed).gamma(2.0, 1.0, days * 288), 5)


@pytest.mark.parametrize(("method", "off"), [("quantile", 0.05), ("gamma", 0.05), ("pot", 0.05)])
def test_every_method_finds_the_true_quantile_of_a_known_distribution(method, off):
    scores = np.random.default_rng(1).gamma(2.0, 1.0, 50_000)

    threshold = fit_threshold(scores, ThresholdConfig(method, target=0.999), CONTRACT)

    # The 0.999 quantile of gamma(2, 1).
    assert threshold.value == pytest.approx(9.2334, rel=off)
    assert threshold.interval[0] < 9.2334 < threshold.interval[1]


@pytest.mark.parametrize("method", ["gamma", "pot"])
def test_a_fitted_tail_reaches_beyond_the_frames_there_are(method):
    scores = np.random.default_rng(3).gamma(2.0, 1.0, 2000)

    threshold = fit_threshold(scores, ThresholdConfig(method, target=0.99999), CONTRACT)

    # The true quantile is 14.2; the highest of 2000 frames lies near 10.
    assert scores.max() < threshold.value
    assert 11.0 < threshold.value < 18.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_day", [0.5, 2.0])
def test_false_alarms_are_counted_as_episodes_of_days_that_were_not_seen(method, per_day):
    threshold = fit_threshold(make_scores(40), ThresholdConfig(method, false_alarms_per_day=per_day), CONTRACT)

    fresh = make_scores(400, seed=9)
    found = len(episodes(fresh >= threshold.value, 10)) / 400

    assert threshold.target is None
    assert found == pytest.approx(per_day, rel=0.6)


def test_no_more_episodes_than_asked_for_alert_in_calibration():
    scores = np.zeros(2880)
    scores[[100, 101, 500, 900, 1300, 1700]] = [9, 8, 7, 6, 5, 4]

    values = [
        fit_threshold(scores, ThresholdConfig(false_alarms_per_day=alarms), CONTRACT).value for alarms in (0.5, 1, 1.5)
    ]

    # Two days: 1, 2 and 3 episodes; the first two frames are one of them.
    assert values == [8.0, 7.0, 6.0]


def test_faults_among_the_calibration_frames_move_gamma_little_and_may_be_left_out():
    clean = np.random.default_rng(2).gamma(2.0, 1.0, 10_000)
    faulty = np.concatenate([clean, np.full(200, 400.0)])

    def value(scores, method, contamination=0.0):
        config = ThresholdConfig(method, target=0.999, contamination=contamination)
        return fit_threshold(scores, config, CONTRACT).value

    assert value(faulty, "gamma") < 1.15 * value(clean, "gamma")
    for method in ("quantile", "pot"):
        assert value(faulty, method) > 10 * value(clean, method)
        assert value(faulty, method, 0.02) == pytest.approx(value(clean, method), rel=0.1)


def test_frames_left_out_are_counted_with_those_that_reach_the_threshold():
    scores = np.arange(1, 101, dtype=np.float64)

    threshold = fit_threshold(scores, ThresholdConfig(target=0.9, contamination=0.05), CONTRACT)

    assert (threshold.excluded, threshold.value, threshold.reached) == (5, 86.0, 15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scores", [[2.0], [0.0] * 30, [1.0, 1.0, 1.0, 5.0]])
def test_few_or_equal_scores_still_give_a_threshold_above_zero(method, scores):
    threshold = fit_threshold(np.array(scores), ThresholdConfig(method), CONTRACT)

    assert 0 < threshold.value < 1e6


@pytest.mark.parametrize("method", METHODS)
def test_the_same_scores_give_the_same_threshold_and_interval(method):
    config = ThresholdConfig(method, false_alarms_per_day=1)

    assert fit_threshold(make_scores(5), config, CONTRACT) == fit_threshold(make_scores(5), config, CONTRACT)


def test_alarms_by_the_day_need_a_rate():
    with pytest.raises(ConfigError, match=r"false_alarms_per_day: expected input.rate_hz"):
        fit_threshold(np.ones(9), ThresholdConfig(false_alarms_per_day=1), FrameContract())


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 1.0},
        {"target": 0.99, "false_alarms_per_day": 1.0},
        {"false_alarms_per_day": 0.0},
        {"contamination": 0.5},
    ],
)
def test_targets_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        ThresholdConfig(**wrong)
