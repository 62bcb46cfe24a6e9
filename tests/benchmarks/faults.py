"""Faults put into recordings that have none, to choose settings without a single test label.

Each fault befalls one channel or up to a third of them for a while, as sensors and machines fail: a
level that shifts, a slow drift, a stuck value, noise, spikes, and a stretch of another time, in
which every channel looks normal by itself and only their relation is wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = ("shift", "drift", "stuck", "noise", "spikes", "other time")
# Rows of one fault, and the share of rows that are faulty in the end.
_ROWS = (5, 60)
_SHARE = 0.06


def put_faults(samples: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A copy of samples (n, channels) with faults of all kinds, and the rows (n,) that have one."""
    random = np.random.default_rng(seed)
    faulty, labels = samples.copy(), np.zeros(len(samples), bool)
    moving = np.flatnonzero(samples.std(axis=0) > 1e-6)
    places = np.arange(0, len(samples) - _ROWS[1], int((_ROWS[0] + _ROWS[1]) / 2 / _SHARE))
    for number, place in enumerate(places):
        start, length = int(place), int(random.integers(*_ROWS))
        channels = random.choice(moving, int(random.integers(1, max(len(moving) // 3, 1) + 1)), replace=False)
        rows = np.ix_(range(start, start + length), channels)
        faulty[rows] = _break(samples, rows, KINDS[number % len(KINDS)], random)
        labels[start : start + length] = True
    return faulty, labels


def _break(
    samples: NDArray[np.float32], rows: tuple[NDArray[np.int64], ...], kind: str, random: np.random.Generator
) -> NDArray[np.float64]:
    part, spread = samples[rows].astype(np.float64), samples[:, rows[1][0]].std(axis=0)  # (length, channels)
    length = len(part)
    size = random.uniform(1.0, 3.0, part.shape[1]) * random.choice([-1, 1], part.shape[1]) * spread
    if kind == "shift":
        return part + size
    if kind == "drift":
        return part + size * np.linspace(0, 1, length)[:, None]
    if kind == "stuck":
        return np.repeat(part[:1], length, axis=0)
    if kind == "noise":
        return part + random.normal(0, 1.0, part.shape) * spread
    if kind == "spikes":
        return part + 2 * size * (random.uniform(size=part.shape) < 0.3)
    other = int(random.integers(0, len(samples) - length))
    return samples[other : other + length][:, rows[1][0]].astype(np.float64)
