"""Which settings find faults best, asked on training recordings alone.

    python tests/benchmarks/choose_settings.py ../shared/data/smd machine-1-6 machine-3-4

A model is fitted on the first 72 % of each recording's training part and its score on the next
28 %; then faults are put into those 28 % (faults.py) and each setting's VUS-PR on them is told.
No row of a test part is read. The settings of pipelines/streams/ were chosen from this table.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faults import put_faults
from numpy.typing import NDArray

from ae_model.config import FrameContract, NetworkConfig, ScoreConfig
from ae_model.frames import cut
from ae_model.metrics.ranking import rank_rows
from ae_model.scaling import Statistics, from_statistics
from ae_model.training import Fitted, fit

NETWORKS = {
    "PCA": {"network": "linear", "latent": 8},
    "dense mse": {"hidden": (64,), "latent": 8},
    "dense huber": {"hidden": (64,), "latent": 8, "loss": "huber", "huber_delta": 1.0},
}
DESCENT = {"learning_rate": 0.003, "schedule": "cosine", "batch_frames": 128, "patience": 10}
LENGTHS = (1, 5, 10)
SCORES = [
    ScoreConfig("plain"),
    ScoreConfig("standardised"),
    ScoreConfig("standardised", newest=1),
    ScoreConfig("standardised", latent="combined"),
]
_FAULT_SEEDS = (1, 2)
# Rows by which an alert may miss a fault's edges: half of it on either side.
_WINDOW = 20


@dataclass(frozen=True)
class Recording:
    """The training part of one device, parted in time."""

    training: NDArray[np.float32]
    validation: NDArray[np.float32]
    calibration: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Its array ``train``, 72 + 8 + 20 %."""
        with np.load(path) as arrays:
            samples = arrays["train"].astype(np.float32)
        return cls(*np.split(samples, [int(0.72 * len(samples)), int(0.8 * len(samples))]))


def fit_recording(recording: Recording, length: int, settings: dict[str, object], epochs: int) -> Fitted:
    """Fit one network on frames of so many samples, one at each sample."""
    import tensorflow as tf

    contract = FrameContract(length, 1, tuple(f"ch{i}" for i in range(recording.training.shape[1])))
    network = NetworkConfig(**settings, epochs=epochs, **({} if settings.get("network") else DESCENT))  # type: ignore
    training, validation = (cut(part, length, 1) for part in (recording.training, recording.validation))
    scaling = from_statistics("standard", **vars(Statistics.of(training)))

    def batches(frames: NDArray[np.float32]):
        return lambda: tf.data.Dataset.from_tensor_slices(frames).batch(1024)

    return fit(contract, network, scaling, batches(training), batches(validation))


def measure(fitted: Fitted, recording: Recording) -> dict[ScoreConfig, float]:
    """VUS-PR of each score on the faults."""
    length = fitted.contract.length
    held_out = np.concatenate([recording.validation, recording.calibration])
    found: dict[ScoreConfig, float] = {}
    for config in SCORES:
        calibrated = fitted.calibrated(config, lambda: [cut(recording.calibration, length, 1)])
        areas = []
        for seed in _FAULT_SEEDS:
            faulty, labels = put_faults(held_out, seed)
            scores = calibrated.infer(cut(faulty, length, 1)).scores
            areas.append(rank_rows(scores, labels[length - 1 :], _WINDOW).vus_pr)
        found[config] = float(np.mean(areas))
    return found


def main() -> None:
    """Print one line per network, frame length and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="NPZ files with an array `train`")
    parser.add_argument("names", nargs="*", help="which of them; all unless given")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    paths = [args.folder / f"{name}.npz" for name in args.names] or sorted(args.folder.glob("*.npz"))
    recordings = [Recording.load(path) for path in paths]
    for length, (name, settings) in itertools.product(LENGTHS, NETWORKS.items()):
        start = time.perf_counter()
        areas = [measure(fit_recording(each, length, settings, args.epochs), each) for each in recordings]
        seconds = (time.perf_counter() - start) / len(recordings)
        for config in SCORES:
            each = [area[config] for area in areas]
            cells = " ".join(f"{value:.3f}" for value in each)
            score = f"{config.errors}, newest {config.newest or length}, latent {config.latent}"
            title = f"{name:12} length {length:2}  {score:42}"
            print(f"{title}  {np.mean(each):.3f}   {cells}   {seconds:.0f} s a recording", flush=True)


if __name__ == "__main__":
    main()
