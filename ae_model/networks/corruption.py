"""Denoising: what is done to a frame before it is encoded, while the frame it came from stays the target.

Source: Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ae_model.config import NetworkConfig


class Corrupt(keras.layers.Layer):  # type: ignore[misc]
    """Frames (n, length, channels) with each sample of each channel corrupted on its own.

    Where samples may be missing, frames are (n, length, 2 * channels), which of them are there beside them. What is
    missing stays so, and what is masked is missing too.

    It stands before the encoder in training alone, and is not exported. Held-out frames are corrupted too, so
    that the epoch to keep is the one that cleans best and not the one that copies best.
    """

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        """Keep what to do; the draws follow from Keras' global seed."""
        super().__init__(name="corrupt")
        assert config.corruption is not None
        self._kind, self._amount = config.corruption.kind, config.corruption.amount
        self._bounded = config.in_unit_range
        self._channels = channels
        self._seed = keras.random.SeedGenerator()

    def call(self, frames: Any) -> Any:
        """Corrupt anew at each call."""
        if frames.shape[-1] == self._channels:
            return self._corrupt(frames)
        samples, present = frames[..., : self._channels], frames[..., self._channels :]
        if self._kind == "masking":
            present = self._corrupt(present)
            return ops.concatenate([samples * present, present], axis=-1)
        return ops.concatenate([self._corrupt(samples) * present, present], axis=-1)

    def _corrupt(self, frames: Any) -> Any:
        if self._kind == "gaussian":
            noisy = frames + self._amount * keras.random.normal(ops.shape(frames), seed=self._seed)
            # A recorder whose samples lie in [0, 1] has no other ones to give when they are noisy.
            return ops.clip(noisy, 0.0, 1.0) if self._bounded else noisy
        draws = keras.random.uniform(ops.shape(frames), seed=self._seed)
        hit = draws < self._amount
        # Half of the hits are salt.
        drowned = ops.zeros_like(frames) if self._kind == "masking" else ops.cast(draws < self._amount / 2, "float32")
        return ops.where(hit, drowned, frames)
