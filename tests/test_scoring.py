import math

import numpy as np
import pytest

from ae_model.exceptions import FrameError
from ae_model.scoring import Inference, attribution, channel_errors, reconstruction_errors, severity

FRAMES = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)
RECONSTRUCTION = np.array([[[1.0, 2.0], [3.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)
LEVELS = {"warning": 1.0, "major": 2.0, "critical": 5.0}


def test_errors_are_mean_squares_over_frame_and_over_channel():
    errors = reconstruction_errors(FRAMES, RECONSTRUCTION)
    per_channel = channel_errors(FRAMES, RECONSTRUCTION)

    assert errors.tolist() == [3.5, 0.0]
    assert per_channel.tolist() == [[5.0, 2.0], [0.0, 0.0]]
    assert errors.dtype == per_channel.dtype == np.float32


def test_no_frames_have_no_errors():
    nothing = np.zeros((0, 2, 2), np.float32)

    assert reconstruction_errors(nothing, nothing).tolist() == []
    assert channel_errors(nothing, nothing).shape == (0, 2)


def test_shapes_that_differ_are_refused_and_not_broadcast():
    with pytest.raises(FrameError, match=r"expected shape \(2, 2, 2\)"):
        reconstruction_errors(FRAMES, RECONSTRUCTION[:1])
    with pytest.raises(FrameError, match=r"expected shape \(2, 2, 2\)"):
        channel_errors(FRAMES, RECONSTRUCTION[:, :, :1])


def test_attribution_names_the_largest_shares_first():
    shares = attribution(np.array([1.0, 6.0, 0.0, 3.0]), ["a", "b", "c", "d"])

    assert shares == [("b", 0.6), ("d", 0.3), ("a", 0.1)]


def test_attribution_of_a_perfect_copy_has_no_share():
    assert attribution(np.zeros(2), ["a", "b"]) == [("a", 0.0), ("b", 0.0)]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_channels_without_a_finite_error_take_the_whole(broken):
    shares = attribution(np.array([broken, 6.0, broken]), ["a", "b", "c"])

    assert shares == [("a", 0.5), ("c", 0.5), ("b", 0.0)]


@pytest.mark.parametrize(
    ("score", "level"),
    [
        (0.0, None),
        (1.99, None),
        (2.0, "warning"),
        (3.99, "warning"),
        (4.0, "major"),
        (10.0, "critical"),
        (math.inf, "critical"),
        (math.nan, "critical"),
    ],
)
def test_severity_is_the_highest_level_reached(score, level):
    assert severity(score, 2.0, LEVELS) == level


def test_inference_knows_how_many_frames_it_is_of():
    numbers = np.zeros(3, np.float32)
    inference = Inference(np.zeros((3, 2)), np.zeros((3, 4, 1)), numbers, np.zeros((3, 1)), numbers, numbers)

    assert len(inference) == 3
