"""The pictures that travel in an artifact: how it was trained, and what its threshold rests on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model.calibration import Threshold
from pipelines.pictures import plot_error_histogram, plot_history, plot_images, plot_samples

if TYPE_CHECKING:
    from ae_model.training import Fitted

# As many as the picture shows of images; of other frames it shows fewer.
_SAMPLES = 128
_IMAGES = 10


def draw(
    name: str, fitted: Fitted, threshold: Threshold, scores: NDArray[Any], frames: NDArray[np.float32]
) -> dict[str, bytes]:
    """PNG files by name.

    Args:
        name: of the model.
        fitted: the trained pair.
        threshold: fitted on the scores.
        scores: (n,) of the calibration frames.
        frames: (n, length, channels) some of them, in own units.
    """
    with tempfile.TemporaryDirectory() as folder:
        plot_error_histogram(
            scores,
            threshold.value,
            Path(folder) / "threshold.png",
            tail=_density(threshold, scores),
            title=f"{name}: calibration scores, {threshold.asked}",
            unit=fitted.formula.unit,
            interval=threshold.interval,
        )
        if len(fitted.history["loss"]) > 1:
            plot_history(fitted.history, Path(folder) / "training.png", f"{name}: training")
        # Channels that are scaled as one are the columns of an image.
        if fitted.config.scaling == "minmax_shared" and min(fitted.contract.shape) > 1:
            scaled = [fitted.scaling.apply(each) for each in (frames[:_IMAGES], fitted.infer(frames[:_IMAGES]).frames)]
            rows = dict(zip(("original", "reconstruction"), scaled, strict=True))
            plot_images(
                rows, Path(folder) / "images.png", f"{name}: calibration images and what is left after the code"
            )
        if fitted.prior:
            noise = np.random.default_rng(0).standard_normal((_SAMPLES, fitted.config.latent)).astype(np.float32)
            plot_samples(fitted.sample(noise), Path(folder) / "samples.png", f"{name}: samples of seed 0")
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _density(threshold: Threshold, scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The fitted tail from its start to twice the threshold, as a density of frames per unit of score."""
    tail = threshold.tail
    if tail is None:
        return None
    lowest = max(tail.start, float(np.quantile(scores, 0.01)), 1e-9)
    edges = np.geomspace(lowest, 2 * max(threshold.value, lowest), 200)
    shares = tail.survival(edges)
    # A tail of episodes holds fewer than there are frames beyond its start.
    frames_per_episode = float(np.mean(scores >= tail.start)) / tail.share
    return (edges[:-1] + edges[1:]) / 2, -np.diff(shares) / np.diff(edges) * frames_per_episode
