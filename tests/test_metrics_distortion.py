import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.exceptions import ConfigError
from ae_model.metrics.distortion import DistortionMeter

# Two frames of two samples and two channels: the second has the tenfold unit.
FRAMES = np.array([[[0.0, 0.0], [2.0, 20.0]], [[0.0, 0.0], [2.0, 20.0]]])
SCALE = np.array([1.0, 10.0])


def measure(frames, reconstruction, scale):
    meter = DistortionMeter(np.zeros(len(scale)), np.array(scale))
    meter.add(np.asarray(frames), np.asarray(reconstruction))
    return meter.read()


def test_errors_are_counted_in_units_of_each_channel():
    wrong = FRAMES.copy()
    wrong[0, 0] = [1.0, 10.0]

    found = measure(FRAMES, wrong, SCALE)

    # Both channels are one unit off in one sample of four, where the spread is one unit.
    assert found.mse == pytest.approx(1 / 4)
    assert found.nrmse == pytest.approx(0.5)
    assert found.max_error == 1.0


def test_copy_has_no_error_and_the_mean_an_error_of_one():
    assert astuple(measure(FRAMES, FRAMES, SCALE))[:3] == (0.0, 0.0, 0.0)
    assert measure(FRAMES, np.broadcast_to([1.0, 10.0], FRAMES.shape), SCALE).nrmse == pytest.approx(1.0)


def test_cross_entropy_has_a_floor_that_is_not_zero():
    frames = np.full((1, 2, 1), 0.5)

    found = measure(frames, np.array([[[0.5], [0.25]]]), [1.0])

    assert found.bce_floor == pytest.approx(math.log(2))
    assert found.bce == pytest.approx((math.log(2) - (math.log(0.25) + math.log(0.75)) / 2) / 2)


def test_samples_outside_of_zero_to_one_have_no_cross_entropy():
    found = measure(np.array([[[0.5], [1.5]]]), np.zeros((1, 2, 1)), [1.0])

    assert (found.bce, found.bce_floor) == (None, None)


def test_range_is_that_of_the_scaled_samples():
    meter = DistortionMeter(np.array([10.0]), np.array([100.0]))
    meter.add(np.array([[[10.0], [110.0]]]), np.array([[[60.0], [60.0]]]))

    assert meter.read().bce == pytest.approx(math.log(2))
    assert meter.read().bce_floor == pytest.approx(0.0, abs=1e-6)


def test_output_outside_of_zero_to_one_is_clipped():
    found = measure(np.array([[[0.0], [1.0]]]), np.array([[[-3.0], [4.0]]]), [1.0])

    assert found.bce == pytest.approx(0.0, abs=1e-6)


def test_constant_data_and_no_data_have_no_spread():
    assert math.isnan(measure(np.ones((1, 3, 1)), np.zeros((1, 3, 1)), [1.0]).nrmse)
    assert math.isnan(DistortionMeter(np.zeros(2), SCALE).read().mse)


def test_spread_far_from_zero_is_kept():
    frames = 1e9 + np.array([[[0.0], [2.0]]])

    assert measure(frames, frames + 1, [1.0]).nrmse == pytest.approx(1.0)


@given(st.integers(0, 20), st.integers(0, 1000))
def test_any_split_into_blocks_gives_the_same(cut, seed):
    rng = np.random.default_rng(seed)
    frames = rng.uniform(size=(20, 3, 2))
    noisy = frames + rng.normal(size=frames.shape)
    first, second, both = (DistortionMeter(np.zeros(2), SCALE) for _ in range(3))
    for meter in (first, both):
        meter.add(frames[:cut], noisy[:cut])
    for meter in (second, both):
        meter.add(frames[cut:], noisy[cut:])

    whole = astuple(measure(frames, noisy, SCALE))
    assert astuple(both.read()) == pytest.approx(whole)
    assert astuple(first.merge(second).read()) == pytest.approx(whole)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ConfigError, match=r"reconstruction: expected shape \(2, 2, 2\)"):
        measure(FRAMES, FRAMES[:1], SCALE)


def test_missing_samples_have_no_error():
    frames = np.array([[[0.0, 1.0]], [[np.nan, 0.0]], [[1.0, np.nan]]])
    reconstruction = np.array([[[0.5, 1.0]], [[9.0, 0.25]], [[1.0, 9.0]]])
    meter = DistortionMeter(np.zeros(2), np.ones(2))

    meter.add(frames, reconstruction)

    found = meter.read()
    assert found.mse == pytest.approx((0.25 / 2 + 0.0625 / 2) / 2)
    assert found.max_error == 0.5
    assert found.bce is not None
