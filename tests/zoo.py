"""One small trained model of each kind, for tests that hold for all of them; each is fitted once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small_models import THRESHOLD, batches, make_scaling

from ae_model import artifact
from ae_model.config import CorruptionConfig, FrameContract, NetworkConfig, SparseConfig, VariationalConfig
from ae_model.manifest import MANIFEST, read
from ae_model.verify import describe, files

# An odd length, so that halving it twice rounds up and cropping has something to do.
CONTRACT = FrameContract(length=7, hop=7, channels=("flow", "heat", "idle"), rate_hz=2.0)
MASKING = CorruptionConfig("masking", 0.1)
ZOO: dict[str, dict[str, Any]] = {
    "dense": {"hidden": (12,), "activation": "gelu"},
    "conv1d": {"network": "conv1d", "hidden": (8, 12), "activation": "elu"},
    "conv2d": {"network": "conv2d", "hidden": (8, 12), "activation": "tanh", "kernel": 4},
    "lstm": {"network": "recurrent", "hidden": (16,), "epochs": 12},
    "gru": {"network": "recurrent", "hidden": (16,), "cell": "gru", "epochs": 12},
    "sparse denoising conv1d": {
        "network": "conv1d",
        "hidden": (12,),
        "sparse": SparseConfig("l1", 0.001),
        "corruption": MASKING,
    },
    "sparse by mean activity": {"hidden": (12,), "sparse": SparseConfig("kl", 0.01, 0.3)},
    "contractive conv2d": {"network": "conv2d", "hidden": (12,), "contractive": 0.001},
    "variational": {"hidden": (12,), "variational": VariationalConfig(beta=0.1)},
    "denoising variational conv1d with a learned prior": {
        "network": "conv1d",
        "hidden": (12,),
        "corruption": MASKING,
        "variational": VariationalConfig(beta=0.1, free_bits=0.1, prior="learned"),
    },
    "overcomplete": {"latent": 30, "corruption": CorruptionConfig("gaussian", 0.3)},
    "salt and pepper": {
        "loss": "bce",
        "scaling": "minmax",
        "corruption": CorruptionConfig("salt_pepper", 0.1),
    },
}


def make_config(name: str, **changes: Any) -> NetworkConfig:
    """The settings of one of the zoo."""
    small = {"latent": 3, "epochs": 6, "batch_frames": 32, "learning_rate": 0.01}
    return NetworkConfig(**{**small, **ZOO[name], **changes})


def make_frames(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 7, 3): a sine of any phase and height, its cosine in another unit, and a channel that is constant."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (count, 1)) + 0.7 * np.arange(7)
    height = rng.uniform(0.5, 1.5, (count, 1))
    channels = [100 + 20 * height * np.sin(phase), 0.003 * height * np.cos(phase), np.full_like(phase, 7.0)]
    return np.stack(channels, axis=2).astype(np.float32)


def fit(config: NetworkConfig) -> Any:
    """A model of these frames."""
    from ae_model.training import fit

    frames = make_frames(320)
    return fit(CONTRACT, config, make_scaling(frames, config.scaling), batches(frames), batches(make_frames(64, 1)))


@cache
def fitted(name: str) -> Any:
    """One of the zoo, trained."""
    return fit(make_config(name))


@cache
def exported(name: str, folder: Path) -> Path:
    """Its model folder, not yet published."""
    model = fitted(name)
    counts = {"training": 320, "validation": 64, "calibration": 50}
    facts = artifact.Facts("zoo", "2026-11-21T10:00:00Z", "sines", counts, THRESHOLD, {"model": {"mse": 0.25}})
    path = folder / name.replace(" ", "-")
    artifact.export(path, model, facts, make_frames(8, seed=2))
    return path


@cache
def loaded(name: str, folder: Path) -> Any:
    """It, as it is served."""
    from ae_model.model import Detector

    return Detector.load(exported(name, folder))


def forge(name: str, original: Path, folder: Path, kind: type) -> Path:
    """A copy of an exported model with the program of another ``Graph`` in its place, and a manifest that fits."""
    model = fitted(name)
    codes = (model.code_mean, model.code_covariance, model.code_format)
    graph = kind(CONTRACT, model.scaling, model.encoder, model.decoder, *codes, model.formula, model.prior)
    shutil.copytree(original, folder)
    shutil.rmtree(folder / "variables")
    graph.save(str(folder))
    records = {path: describe(folder / path) for path in files(folder)}
    (folder / MANIFEST).write_text(replace(read(folder), files=records).to_json())
    return folder
