"""The image models of goals G1 to G6: their settings, and what one of them reaches on images it never saw.

Settings were chosen on mnist_train20k alone, by the error on its calibration images (every
fifth of the round of 25), with seeds other than those of the goals' table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.metrics.distortion import DistortionMeter
from ae_model.metrics.latent import active_units, probe_accuracy
from ae_model.model import Detector
from ae_model.scopes import baseline_name
from pipelines.stream_file import StreamFile, load_stream
from pipelines.train import train_stream

TRAINING, TEST = "mnist/mnist_train20k.npz", "mnist/mnist_test2k.npz"
WHITE = 255.0
# Standard deviation of the noise of G5, for pixels from 0 to 1; noisy pixels are clipped to that range.
NOISE = 0.5

# Changes to the `model` block of the ready stream `mnist`, which is the vanilla 784-32-784.
VARIANTS: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "int8": {"codes": "int8"},
    "multilayer": {"hidden": [1024], "activation": "gelu", "learning_rate": 0.002, "batch_frames": 128, "epochs": 30},
    "sparse": {"sparse": {"kind": "l1", "weight": 3e-4}, "learning_rate": 0.002, "epochs": 80},
    "denoising": {
        "hidden": [1024],
        "latent": 512,
        "activation": "gelu",
        "corruption": {"kind": "gaussian", "amount": NOISE},
        "learning_rate": 0.001,
        "batch_frames": 128,
        "epochs": 40,
    },
    "variational": {
        "hidden": [1024],
        "activation": "gelu",
        "variational": {"beta": 1.0},
        "learning_rate": 0.002,
        "batch_frames": 128,
        "epochs": 40,
    },
}

Measures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images (n, 28, 28) and their classes (n,), uint8."""

    images: NDArray[np.uint8]
    classes: NDArray[np.uint8]

    @classmethod
    def read(cls, path: Path) -> Digits:
        """The arrays ``x`` and ``y`` of an NPZ file."""
        with np.load(path) as arrays:
            return cls(arrays["x"], arrays["y"])


def make_stream(variant: str, seed: int) -> StreamFile:
    """The ready stream with a variant's model, under a name of its own."""
    document = load_stream("mnist").model_dump(exclude_unset=True)
    model = {**document["model"], **VARIANTS[variant], "seed": seed}
    return StreamFile.model_validate({**document, "name": f"mnist-{variant}-seed{seed}", "model": model})


def train(stream: StreamFile, data: Path, models: Path) -> Measures:
    """Train and publish by the pipeline of ``latentstream train``; what it took, export and baseline included."""
    before = time.process_time()
    summary = train_stream(stream, f"{data / TRAINING}::x", models, report=lambda line: print(f"  {line}", flush=True))
    return {
        "seconds": summary.seconds,
        "cpu_seconds": time.process_time() - before,
        "epochs": summary.epochs,
        "calibration_error": summary.metrics["model"]["calibration_error"],
    }


def measure(stream: StreamFile, models: Path, test: Digits) -> dict[str, Measures]:
    """What the stream's model and its baseline, ``pca``, reach on test images."""
    names = {"model": stream.name, "pca": baseline_name(stream.name)}
    return {role: _measure(Detector.load(artifact.resolve(models, name)), test) for role, name in names.items()}


def _measure(detector: Detector, test: Digits) -> Measures:
    clean = test.images / np.float32(WHITE)
    noisy = add_noise(clean, detector.manifest.network.seed)
    said = detector.infer(test.images)
    codes = said.codes.astype(np.float64)
    return {
        **_distort("", clean, said.frames / WHITE),
        **_distort("denoised_", clean, detector.reconstruct(noisy * WHITE) / WHITE),
        "noisy_mse": float(np.square(noisy - clean, dtype=np.float64).mean()),
        "activation": float(np.abs(codes).mean()),
        "silent": float((codes == 0).mean()),
        "active_units": active_units(codes),
        "probe": probe_accuracy(codes, test.classes),
        "code_bytes": detector.manifest.codes.bytes,
    }


def add_noise(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Images of pixels from 0 to 1 with Gaussian noise, clipped to that range again."""
    noise = np.random.default_rng(seed).normal(scale=NOISE, size=images.shape)
    noisy: NDArray[np.float32] = np.clip(images + noise, 0, 1).astype(np.float32)
    return noisy


def _distort(prefix: str, clean: NDArray[np.float32], decoded: NDArray[np.float32]) -> Measures:
    """Errors of pixels from 0 to 1. MSE is as decoded; cross-entropy needs that range, which PCA leaves."""
    channels = clean.shape[2]
    meter, within = (DistortionMeter(np.zeros(channels), np.ones(channels)) for _ in range(2))
    meter.add(clean, decoded)
    within.add(clean, np.clip(decoded, 0, 1))
    bce = within.read().bce
    assert bce is not None
    return {f"{prefix}mse": meter.read().mse, f"{prefix}bce": bce}
