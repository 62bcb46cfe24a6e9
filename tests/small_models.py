"""One small trained model for all tests that need a real one; it is fitted once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.calibration import Threshold
from ae_model.config import CodeDtype, FrameContract, NetworkConfig
from ae_model.scaling import Scaling, Statistics, from_statistics

CONTRACT = FrameContract(length=4, hop=4, channels=("flow", "heat", "idle"), units=("l/s", "K", ""), rate_hz=2.0)
CONFIG = NetworkConfig(network="dense", latent=3, hidden=(8,), epochs=3, batch_frames=32, learning_rate=0.01)
THRESHOLD = Threshold(value=0.5, method="quantile", target=0.99, frames=50)


def make_frames(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 4, 3): two sines in units far apart, and a channel that is constant."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (count, 1)) + np.arange(4)
    flow, heat = 100 + 20 * np.sin(phase), 0.003 * np.cos(phase)
    return np.stack([flow, heat, np.full_like(flow, 7.0)], axis=2).astype(np.float32)


def batches(frames: NDArray[np.float32], size: int = 50) -> Callable[[], Any]:
    """The factory of frame batches that ``fit`` takes."""
    import tensorflow as tf

    return lambda: tf.data.Dataset.from_tensor_slices(frames).batch(size)


def make_scaling(frames: NDArray[np.float32], kind: str = "standard") -> Scaling:
    """The scaling of these frames."""
    return from_statistics(kind, **vars(Statistics.of(frames)))  # type: ignore[arg-type]


@cache
def fitted(codes: CodeDtype = "float32") -> Any:
    """The small model, trained for three epochs."""
    from ae_model.training import fit

    frames, config = make_frames(300), replace(CONFIG, codes=codes)
    return fit(CONTRACT, config, make_scaling(frames), batches(frames), batches(make_frames(60, seed=1)))


def facts(name: str = "small") -> artifact.Facts:
    """What its artifact says of it."""
    return artifact.Facts(
        name=name,
        created="2026-11-21T10:00:00Z",
        data="two sines",
        frames={"training": 300, "validation": 60, "calibration": 50},
        threshold=THRESHOLD,
        metrics={"model": {"mse": 0.25}, "baseline": {"mse": 0.5}},
        batch_frames=64,
    )


def export(folder: Path, name: str = "small", codes: CodeDtype = "float32") -> Path:
    """The small model as a folder that is not yet published."""
    artifact.export(folder, fitted(codes), facts(name), make_frames(8, seed=2))
    return folder


def publish(models_dir: Path, codes: CodeDtype = "float32") -> Path:
    """The small model as version 1 of ``small``."""
    artifact.publish(export(models_dir / "candidate", codes=codes), models_dir, "small")
    return artifact.resolve(models_dir, "small")
