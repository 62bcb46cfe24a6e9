import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.exceptions import ConfigError
from ae_model.metrics.signals import si_sdr, stoi

REFERENCE = np.array([1.0, -1.0, 1.0, -1.0])
# At a right angle to the reference, and of the same power.
NOISE = np.array([1.0, 1.0, -1.0, -1.0])


@pytest.mark.parametrize(("share", "expected_db"), [(1.0, 0.0), (0.1, 20.0), (10.0, -20.0)])
def test_ratio_is_that_of_the_powers(share, expected_db):
    assert si_sdr(REFERENCE + share * NOISE, REFERENCE) == pytest.approx(expected_db)


@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_loudness_and_offset_do_not_count(gain, offset):
    estimate = REFERENCE + 0.3 * NOISE

    assert si_sdr(gain * estimate + offset, REFERENCE) == pytest.approx(si_sdr(estimate, REFERENCE))


def test_copy_is_infinitely_clean_and_silence_has_no_ratio():
    assert si_sdr(3 * REFERENCE, REFERENCE) == math.inf
    assert math.isnan(si_sdr(REFERENCE, np.full(4, 0.2)))
    assert math.isnan(si_sdr(np.zeros(4), REFERENCE))
    assert si_sdr(NOISE, REFERENCE) == -math.inf


def make_speech(seconds, rate_hz=8000):
    """Bursts of tones, loud enough to be taken for speech all through."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * 500 * times) * (1.2 + np.sin(2 * np.pi * 4 * times))


def test_intelligibility_falls_with_noise():
    speech = make_speech(2.0)
    noise = np.random.default_rng(0).normal(size=len(speech))

    copy, noisy, drowned = (stoi(speech + level * noise, speech, 8000) for level in (0.0, 1.0, 10.0))

    assert copy == pytest.approx(1.0)
    assert copy > noisy > drowned


def test_speech_too_short_to_judge_has_no_number():
    speech = make_speech(0.2)

    assert math.isnan(stoi(speech, speech, 8000))


def test_signals_of_different_lengths_are_refused():
    with pytest.raises(ConfigError, match=r"one signal as long as the reference \(4,\)"):
        si_sdr(np.zeros(3), REFERENCE)
    with pytest.raises(ConfigError, match="estimate"):
        stoi(np.zeros((4, 1)), REFERENCE, 8000)
