from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.config import from_mapping
from ae_model.exceptions import FrameError, TrainingError
from ae_model.scaling import Scaling, Statistics, from_percentiles, from_statistics

FRAMES = np.array([[[0.0, 5.0], [2.0, 5.0]], [[4.0, 5.0], [6.0, 5.0]]], np.float32)


def test_statistics_are_those_of_each_channel():
    statistics = Statistics.of(FRAMES)

    assert statistics.count.tolist() == [4, 4]
    assert statistics.mean.tolist() == [3.0, 5.0]
    assert statistics.variance.tolist() == [5.0, 0.0]
    assert statistics.minimum.tolist() == [0.0, 5.0]
    assert statistics.maximum.tolist() == [6.0, 5.0]


@given(st.lists(st.integers(-1000, 1000), max_size=40), st.integers(0, 40))
def test_merged_statistics_are_those_of_all_samples(values, split):
    samples = np.array(values, np.float32).reshape(-1, 1, 1)
    whole = Statistics.of(samples)

    merged = Statistics.of(samples[:split]).merge(Statistics.of(samples[split:]))

    assert merged.count.tolist() == whole.count.tolist()
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(merged.variance, whole.variance, rtol=1e-9, atol=1e-9)
    assert merged.minimum.tolist() == whole.minimum.tolist()
    assert merged.maximum.tolist() == whole.maximum.tolist()


@pytest.mark.parametrize(
    ("kind", "center", "scale"),
    [
        ("standard", (3.0, 5.0), (np.sqrt(5.0), 1.0)),
        ("minmax", (0.0, 5.0), (6.0, 1.0)),
        ("none", (0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_center_and_scale_follow_the_kind_and_constant_channels_keep_scale_one(kind, center, scale):
    scaling = from_statistics(kind, **vars(Statistics.of(FRAMES)))

    assert scaling == Scaling(kind, center, scale)


def test_shared_minmax_divides_images_by_255_whatever_a_column_holds():
    images = np.zeros((2, 3, 3), np.uint8)
    images[0, 1] = [0, 51, 255]

    scaling = from_statistics("minmax_shared", **vars(Statistics.of(images)))

    assert (scaling.center, scaling.scale) == ((0.0,) * 3, (255.0,) * 3)
    assert scaling.apply(images).tolist() == (images.astype(np.float32) / np.float32(255)).tolist()


def test_shared_minmax_of_blank_images_only_centers_them():
    scaling = from_statistics("minmax_shared", **vars(Statistics.of(np.full((1, 2, 2), 7, np.uint8))))

    assert (scaling.center, scaling.scale) == ((7.0, 7.0), (1.0, 1.0))


def test_minmax_puts_training_samples_between_zero_and_one():
    scaling = from_statistics("minmax", **vars(Statistics.of(FRAMES)))

    assert scaling.apply(FRAMES)[:, :, 0].ravel().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_standard_scaling_clips_at_twenty_deviations_and_the_others_do_not():
    wild = np.array([[[1e9], [-1e9], [30.0]]], np.float32)

    assert Scaling("standard", (0.0,), (2.0,)).apply(wild).ravel().tolist() == [20.0, -20.0, 15.0]
    assert Scaling("none", (0.0,), (1.0,)).apply(wild).ravel().tolist() == [1e9, -1e9, 30.0]


def test_a_channel_that_moves_less_than_float32_can_tell_is_constant():
    steady = np.array([[[1e6], [np.nextafter(np.float32(1e6), np.float32(2e6))]]], np.float32)

    scaling = from_statistics("standard", **vars(Statistics.of(steady)))

    assert scaling.scale == (1.0,)


@given(st.floats(-1e6, 1e6, width=32), st.floats(1e-3, 1e3))
def test_invert_undoes_apply_within_rounding(center, scale):
    scaling = Scaling("standard", (center,), (scale,))
    frames = (center + scale * np.linspace(-19, 19, 12)).astype(np.float32).reshape(2, 6, 1)

    back = scaling.invert(scaling.apply(frames))

    np.testing.assert_allclose(back, frames, rtol=1e-5, atol=1e-4 * scale)


def test_scaling_changes_neither_its_input_nor_its_type():
    frames = FRAMES.copy()
    frames.flags.writeable = False
    scaling = from_statistics("standard", **vars(Statistics.of(frames)))

    assert scaling.apply(frames).dtype == np.float32
    assert scaling.invert(frames).dtype == np.float32
    assert frames.tolist() == FRAMES.tolist()


def test_frames_of_other_channels_are_refused():
    scaling = Scaling("none", (0.0, 0.0), (1.0, 1.0))

    with pytest.raises(FrameError, match="expected 2 channels"):
        scaling.apply(np.zeros((1, 4, 3), np.float32))
    with pytest.raises(FrameError, match="expected 2 channels"):
        scaling.invert(np.zeros((1, 4, 1), np.float32))


def test_statistics_of_nothing_or_of_nan_cannot_scale():
    broken = Statistics.of(np.array([[[np.nan]]]))

    with pytest.raises(TrainingError, match=r"count=\[0 0\]"):
        from_statistics("standard", **vars(Statistics.empty(2)))
    with pytest.raises(TrainingError, match="finite"):
        from_statistics("minmax", **vars(broken))


def test_scaling_survives_its_mapping():
    scaling = Scaling("minmax", (1.5, -2.0), (0.5, 3.0))

    assert from_mapping(Scaling, asdict(scaling)) == scaling


def test_robust_scaling_ignores_a_tenth_of_faults():
    samples = np.concatenate([np.arange(90.0), np.full(10, 1e6)])
    percentiles = np.percentile(samples, np.arange(101))[None]

    scaling = from_percentiles(percentiles, Statistics.of(samples.reshape(-1, 1, 1)))

    assert scaling.kind == "robust"
    assert scaling.center == (49.5,)
    assert scaling.scale == pytest.approx(((74.25 - 24.75) / 1.349,))
    assert scaling.apply(np.array([[[1e6]]], np.float32)).item() == 20.0


@pytest.mark.parametrize(
    ("busy", "scale"),
    [(0, 1.0), (10, 1 / 3.290), (3, 1 / 4.653), (1, float(np.sqrt(0.01 * 0.99)))],
)
def test_robust_scale_of_a_channel_that_mostly_rests_comes_from_further_out(busy, scale):
    samples = np.concatenate([np.full(100 - busy, 5.0), np.full(busy, 6.0)])
    percentiles = np.percentile(samples, np.arange(101), method="lower")[None]

    scaling = from_percentiles(percentiles, Statistics.of(samples.reshape(-1, 1, 1)))

    assert scaling.center == (5.0,)
    assert scaling.scale == pytest.approx((scale,))


def test_robust_scaling_without_percentiles_is_refused():
    with pytest.raises(ValueError, match="percentiles"):
        from_statistics("robust", **vars(Statistics.of(FRAMES)))
