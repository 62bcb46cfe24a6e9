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

    It stands before the encoder in training alone, and is not exported. Held-out frames are corrupted too, so
    that the epoch to keep is the one that cleans best and not the one that copies best.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Keep what to do; the draws follow from Keras' global seed."""
        super().__init__(name="corrupt")
        assert config.corruption is not None
        self._kind, self._amount = config.corruption.kind, config.corruption.amount
        self._bounded = config.in_unit_range
        self._seed = keras.random.SeedGenerator()

    def call(self, frames: Any) -> Any:
        """Corrupt anew at each call."""
        if self._kind == "gaussian":
            noisy = frames + self._amount * keras.random.normal(ops.shape(frames), seed=self._seed)
            # A recorder whose samples lie in [0, 1] has no other ones to give when they are noisy.
            return ops.clip(noisy, 0.0, 1.0) if self._bounded else noisy
        draws = keras.random.uniform(ops.shape(frames), seed=self._seed)
        hit = draws < self._amount
        # Half of the hits are salt.
        drowned = ops.zeros_like(frames) if self._kind == "masking" else ops.cast(draws < self._amount / 2, "float32")
        return ops.where(hit, drowned, frames)
