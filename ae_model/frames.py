"""Samples to frames, the same in training, batch and stream.

samples   0 1 2 3 4 5 6 7 8 9        length 4, hop 3
frame 0   [0 1 2 3]
frame 1         [3 4 5 6]
frame 2               [6 7 8 9]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import Missing, require

# Above this, squares and their sums over a frame can leave float32's range.
MAX_MAGNITUDE = 1e15


def cut(samples: NDArray[Any], length: int, hop: int) -> NDArray[np.float32]:
    """Cut one signal into frames; samples after the last whole frame are left out.

    Args:
        samples: (n, channels).
        length: samples in a frame.
        hop: samples from one frame's start to the next one's, 1..length.

    Returns:
        (m, length, channels) float32, a contiguous copy; frame i ends with sample i * hop + length - 1.

    Raises:
        ConfigError: length or hop is out of range.
    """
    _check(length, hop)
    if len(samples) < length:
        return np.empty((0, length, samples.shape[1]), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(samples, length, axis=0)[::hop]  # (m, channels, length)
    return np.array(views.swapaxes(1, 2), dtype=np.float32, order="C")


class FrameCutter:
    """Cuts a signal that arrives in pieces; the frames are those of the whole signal at once."""

    def __init__(self, length: int, hop: int) -> None:
        """Start with no sample carried over.

        Raises:
            ConfigError: length or hop is out of range.
        """
        _check(length, hop)
        self._length = length
        self._hop = hop
        self._carry: NDArray[np.float32] | None = None

    def push(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """The frames that these samples (n, channels) complete, (m, length, channels)."""
        signal = samples if self._carry is None else np.concatenate([self._carry, samples])
        frames = cut(signal, self._length, self._hop)
        # A copy: the carry must neither hold nor follow the caller's array.
        self._carry = np.array(signal[len(frames) * self._hop :], dtype=np.float32)
        return frames


def usable(frames: NDArray[Any], missing: Missing = "refuse") -> NDArray[np.bool_]:
    """Which frames the network can take: all samples finite and within MAX_MAGNITUDE.

    Args:
        frames: (n, length, channels).
        missing: with ``mask`` samples may be NaN, as long as one of the frame is not.

    Returns:
        (n,) True where usable.
    """
    # NaN passes through max and min, and fails both comparisons. The whole array first: it is
    # nine times faster than frame by frame, and most batches have nothing to find.
    if frames.size and frames.max() <= MAX_MAGNITUDE and frames.min() >= -MAX_MAGNITUDE:
        return np.ones(len(frames), np.bool_)
    flat = frames.reshape(len(frames), frames.shape[1] * frames.shape[2])
    # These two leave NaN out, unless there is nothing else.
    largest, smallest = (np.fmax, np.fmin) if missing == "mask" else (np.maximum, np.minimum)
    usable_frames: NDArray[np.bool_] = (largest.reduce(flat, axis=1) <= MAX_MAGNITUDE) & (
        smallest.reduce(flat, axis=1) >= -MAX_MAGNITUDE
    )
    return usable_frames


def find_faults(frames: NDArray[Any]) -> NDArray[np.bool_]:
    """Which channels of which frames hold a sample that is not finite or too large, (n, channels)."""
    # NaN fails the comparison.
    faults: NDArray[np.bool_] = ~(np.abs(frames) <= MAX_MAGNITUDE).all(axis=1)
    return faults


def as_input(scaled: NDArray[np.float32], missing: Missing) -> NDArray[np.float32]:
    """What a network sees of scaled frames: with ``mask`` 0 for what is missing, and 1 beside what is there.

    Args:
        scaled: (n, length, channels); NaN where a sample is missing.
        missing: as the contract has it.

    Returns:
        The frames themselves, or (n, length, 2 * channels): the channels, then which of their samples are there.
    """
    if missing == "refuse":
        return scaled
    present = ~np.isnan(scaled)
    return np.concatenate([np.where(present, scaled, np.float32(0)), present.astype(np.float32)], axis=-1)


def missing_share(frames: NDArray[Any]) -> NDArray[np.float32]:
    """(n,): the share of each frame's samples (n, length, channels) that are missing."""
    share: NDArray[np.float32] = np.isnan(frames).mean(axis=(1, 2), dtype=np.float32)
    return share


def _check(length: int, hop: int) -> None:
    require(length >= 1, "length", "a positive number of samples", length)
    require(1 <= hop <= length, "hop", f"1..length ({length})", hop)
