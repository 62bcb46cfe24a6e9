"""The labelled recordings of three public data sets, each with a part to train on and a part to judge by."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Rows of a SKAB file that its protocol gives to training.
_SKAB_TRAINING = 400


@dataclass(frozen=True)
class Entity:
    """One device or experiment.

    Args:
        name: of the machine, server or file.
        training: (n, channels) float32, presumed normal.
        test: (m, channels) float32.
        labels: (m,) True where the test part is labelled.
    """

    name: str
    training: NDArray[np.float32]
    test: NDArray[np.float32]
    labels: NDArray[np.bool_]


def read_npz(folder: Path) -> Iterator[Entity]:
    """SMD and ASD: one NPZ per machine with train, test and test_label."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            parts = (arrays["train"].astype(np.float32), arrays["test"].astype(np.float32))
            yield Entity(path.stem, *parts, arrays["test_label"] != 0)


def read_skab(folder: Path) -> Iterator[Entity]:
    """SKAB: one CSV per experiment, of which the first 400 rows are for training."""
    for path in sorted(folder.glob("valve1/*.csv"), key=lambda path: int(path.stem)):
        with path.open(newline="") as file:
            rows = list(csv.reader(file, delimiter=";"))[1:]
        values = np.array([row[1:10] for row in rows], np.float32)  # (n, 8 channels and the label)
        samples, labels = values[:, :8], values[:, 8] != 0
        yield Entity(path.stem, samples[:_SKAB_TRAINING], samples[_SKAB_TRAINING:], labels[_SKAB_TRAINING:])
