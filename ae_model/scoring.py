"""What a detector says of frames, and the numpy form of the scores inside its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.exceptions import FrameError


@dataclass(frozen=True, eq=False)
class Inference:
    """All that a detector says of n frames.

    Args:
        codes: (n, latent) float32, or int8 in whole steps.
        frames: (n, length, channels) float32, reconstructed, in the frames' own units.
        errors: (n,) float32, mean squared difference of the scaled frames where their samples are not missing.
        channel_errors: (n, channels) float32, per channel what the score is made of: the scored
            samples alone, each channel in its own scale; see ae_model/score_formula.py.
        latent_distance: (n,) float32, squared Mahalanobis distance from the training codes.
        scores: (n,) float32, what the threshold is compared with.
    """

    codes: NDArray[Any]
    frames: NDArray[np.float32]
    errors: NDArray[np.float32]
    channel_errors: NDArray[np.float32]
    latent_distance: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.scores)


def reconstruction_errors(frames: NDArray[Any], reconstruction: NDArray[Any]) -> NDArray[np.float32]:
    """Mean squared difference per frame, over the samples that are there.

    Args:
        frames: (n, length, channels), scaled; NaN where a sample is missing.
        reconstruction: same shape and scale.

    Returns:
        (n,) float32, in squared scaled units; 0 for a perfect copy, NaN where all is missing.

    Raises:
        FrameError: the shapes differ.
    """
    squares, present = _squared_difference(frames, reconstruction), ~np.isnan(frames)
    count = np.count_nonzero(present, axis=(1, 2))
    with np.errstate(invalid="ignore"):
        errors: NDArray[np.float32] = squares.sum(axis=(1, 2), dtype=np.float32) / count.astype(np.float32)
    return errors


def channel_errors(frames: NDArray[Any], reconstruction: NDArray[Any]) -> NDArray[np.float32]:
    """Mean squared difference per frame and channel, over the samples that are there.

    Args:
        frames: (n, length, channels), scaled; NaN where a sample is missing.
        reconstruction: same shape and scale.

    Returns:
        (n, channels) float32, in squared scaled units; 0 where a channel is missing altogether.

    Raises:
        FrameError: the shapes differ.
    """
    squares, present = _squared_difference(frames, reconstruction), ~np.isnan(frames)
    count = np.maximum(np.count_nonzero(present, axis=1), 1)
    errors: NDArray[np.float32] = squares.sum(axis=1, dtype=np.float32) / count.astype(np.float32)
    return errors


def attribution(errors: NDArray[Any], channels: Sequence[str], count: int = 3) -> list[tuple[str, float]]:
    """The channels that a frame's error comes from, largest share first.

    Args:
        errors: (channels,) channel errors of one frame.
        channels: their names.
        count: how many to return at most.

    Returns:
        (name, share) with shares in 0..1 of the whole frame's error. Channels whose error is not
        finite share the whole between them, as no number can be set against theirs.
    """
    weights = np.asarray(errors, np.float64)
    if not np.isfinite(weights).all():
        weights = (~np.isfinite(weights)).astype(np.float64)
    shares = weights / (weights.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")[:count]
    return [(channels[i], float(shares[i])) for i in order]


def severity(score: float, threshold: float, levels: Mapping[str, float]) -> str | None:
    """The highest level whose multiple of the threshold the score reaches.

    Returns:
        None below all of them. A score that is not a number gets the highest level: the network
        broke on that frame, which must not pass for calm.
    """
    reached = [(multiple, name) for name, multiple in levels.items() if not score < threshold * multiple]
    return max(reached)[1] if reached else None


def _squared_difference(frames: NDArray[Any], reconstruction: NDArray[Any]) -> NDArray[np.float32]:
    if frames.shape != reconstruction.shape:
        raise FrameError(
            "frame.size", f"reconstruction: expected shape {frames.shape}. Received: shape={reconstruction.shape}."
        )
    squares = np.square(frames.astype(np.float32) - reconstruction.astype(np.float32))
    # A missing sample counts for nothing; a reconstruction that is no number must not pass for one.
    kept: NDArray[np.float32] = np.where(np.isnan(frames), np.float32(0), squares)
    return kept
