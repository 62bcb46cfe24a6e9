import math

import numpy as np
import pytest

from ae_model.exceptions import ConfigError
from ae_model.metrics.latent import active_units, largest_class, probe_accuracy


def test_unit_is_active_when_its_code_varies_over_the_frames():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 3)) * [1.0, 0.2, 0.05]

    assert active_units(codes) == 2


def test_probe_reads_classes_that_lie_apart_and_guesses_those_that_do_not():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 600)
    apart = np.eye(3)[classes] * 10 + rng.normal(size=(600, 3))

    assert probe_accuracy(apart, classes) == 1.0
    assert probe_accuracy(rng.normal(size=(600, 3)), classes) == pytest.approx(1 / 3, abs=0.08)
    assert probe_accuracy(apart, classes) == probe_accuracy(apart, classes)


def test_probe_needs_two_classes_of_five_frames():
    assert math.isnan(probe_accuracy(np.zeros((9, 2)), np.zeros(9)))
    assert math.isnan(probe_accuracy(np.zeros((9, 2)), np.array([0] * 5 + [1] * 4)))
    assert math.isnan(probe_accuracy(np.zeros((0, 2)), np.zeros(0)))


def test_rare_class_is_left_out():
    classes = np.array([0] * 20 + [1] * 20 + [2])

    assert probe_accuracy(classes[:, None] * 1.0, classes) == 1.0


def test_probe_bears_with_a_code_that_never_changes():
    classes = np.repeat(np.arange(2), 20)
    codes = np.stack([classes, np.zeros(40)], axis=1)

    assert probe_accuracy(codes, classes) == 1.0


def test_guess_is_the_most_frequent_class():
    assert largest_class(np.array([1, 1, 2, 3])) == 0.5
    assert math.isnan(largest_class(np.empty(0)))


def test_codes_and_classes_of_different_lengths_are_refused():
    with pytest.raises(ConfigError, match="classes: expected one for each of 3 codes"):
        probe_accuracy(np.zeros((3, 2)), np.zeros(2))
