import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from ae_model.metrics.compression import lossless_bytes, rounded_bytes, steps_for

PACK = Path(os.environ.get("LATENTSTREAM_DATA", "absent"))


def test_numbers_are_packed_in_the_order_that_takes_less():
    # Two columns that repeat, each with a period of its own; row by row the whole repeats every 77 rows alone.
    rows = np.stack([np.arange(2000) % 7, np.arange(2000) % 11], axis=1).astype(np.float32)
    by_row, by_column = (len(lzma.compress(rows.tobytes(order=order))) for order in ("C", "F"))

    assert by_column < by_row
    assert lossless_bytes(rows) == by_column
    assert lossless_bytes(rows.T) == by_column
    assert lossless_bytes(np.empty((0, 3), np.float32)) == len(lzma.compress(b""))


def test_rounded_samples_are_packed_as_small_differences():
    # A ramp of one step a row: differences of 1 in a single byte each.
    ramp = np.arange(1000.0)[:, None]

    assert rounded_bytes(ramp + 0.3, np.array([1.0])) == len(lzma.compress(bytes([0] + [1] * 999)))


def test_differences_of_any_size_are_kept():
    wild = np.array([[0.0], [1e30], [-1e30]])

    assert rounded_bytes(wild, np.array([1.0])) > rounded_bytes(wild, np.array([1e30]))


@pytest.mark.parametrize("nrmse", [0.01, 0.1, 0.5])
def test_step_gives_the_error_asked_for_in_every_channel(nrmse):
    samples = np.random.default_rng(0).normal(size=(20_000, 2)) * [1.0, 100.0] + [0.0, 7.0]
    scale = np.array([1.0, 100.0])

    steps = steps_for(nrmse, samples, scale)

    rounded = np.rint(samples / steps) * steps
    errors = np.sqrt(np.square((rounded - samples) / scale).mean(axis=0))
    assert errors == pytest.approx([nrmse, nrmse], rel=0.05)
    assert steps[1] == pytest.approx(100 * steps[0])


def test_known_ratios_of_real_sensors_are_reproduced():
    file = PACK / "sensor-compress" / "household_active_power_train.npz"
    if not file.is_file():
        pytest.skip("LATENTSTREAM_DATA names no folder with sensor-compress/household_active_power_train.npz")
    with np.load(file) as data:
        power = data["x"].astype(np.float32).reshape(-1, 1)

    ratios = [power.nbytes / rounded_bytes(power, 2 * share * power.std(axis=0)) for share in (0.01, 0.05, 0.1)]

    # Known of a coder that keeps two bytes a difference; one is enough from a bound of 0.05 on.
    assert ratios[0] == pytest.approx(9.5, abs=0.05)
    assert (np.array(ratios[1:]) > [17.4, 23.7]).all()
