import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.exceptions import ConfigError
from ae_model.frames import MAX_MAGNITUDE, FrameCutter, cut, usable


def test_frames_start_one_hop_apart_and_the_tail_is_left_out():
    samples = np.arange(10).reshape(5, 2)

    frames = cut(samples, length=3, hop=1)

    assert frames.tolist() == [
        [[0, 1], [2, 3], [4, 5]],
        [[2, 3], [4, 5], [6, 7]],
        [[4, 5], [6, 7], [8, 9]],
    ]
    assert cut(samples, length=2, hop=2).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert frames.dtype == np.float32
    assert frames.flags.c_contiguous


@pytest.mark.parametrize("count", [0, 2])
def test_fewer_samples_than_a_frame_give_no_frame(count):
    frames = cut(np.zeros((count, 2)), length=3, hop=1)

    assert frames.shape == (0, 3, 2)


@pytest.mark.parametrize(("length", "hop"), [(0, 1), (3, 0), (3, 4)])
def test_length_and_hop_out_of_range_are_refused(length, hop):
    with pytest.raises(ConfigError, match=r"expected .* Received"):
        cut(np.zeros((9, 1)), length, hop)
    with pytest.raises(ConfigError, match=r"expected .* Received"):
        FrameCutter(length, hop)


@st.composite
def signals_in_pieces(draw):
    length = draw(st.integers(1, 9))
    hop = draw(st.integers(1, length))
    count = draw(st.integers(0, 60))
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=8)))
    return length, hop, count, cuts


@given(signals_in_pieces())
def test_frames_are_the_same_for_any_chunking(signal):
    length, hop, count, cuts = signal
    samples = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    cutter = FrameCutter(length, hop)

    pieces = [cutter.push(piece) for piece in np.split(samples, cuts)]

    assert np.concatenate(pieces).tolist() == cut(samples, length, hop).tolist()


def test_cutter_keeps_no_hold_of_the_callers_array():
    samples = np.arange(3, dtype=np.float32).reshape(3, 1)
    cutter = FrameCutter(length=2, hop=2)

    first = cutter.push(samples)
    samples[:] = 99
    second = cutter.push(np.array([[3.0]]))

    assert first.tolist() == [[[0], [1]]]
    assert second.tolist() == [[[2], [3]]]


def test_usable_frames_are_finite_and_within_range():
    frames = np.zeros((7, 2, 2), np.float32)
    frames[1, 0, 1] = np.nan
    frames[2, 1, 1] = np.inf
    frames[3, 1, 0] = -np.inf
    frames[4, 0, 0] = 2 * MAX_MAGNITUDE
    frames[5, 0, 0] = -2 * MAX_MAGNITUDE
    frames[6, 0, 0] = -MAX_MAGNITUDE / 2

    mask = usable(frames)

    assert mask.tolist() == [True, False, False, False, False, False, True]


def test_no_frames_have_no_usable_ones():
    assert usable(np.zeros((0, 2, 2), np.float32)).tolist() == []


def test_the_largest_usable_frame_has_a_finite_error():
    frames = np.full((1, 512, 8), MAX_MAGNITUDE, np.float32)

    assert usable(frames).all()
    assert np.isfinite(np.square(frames).sum(dtype=np.float32))
