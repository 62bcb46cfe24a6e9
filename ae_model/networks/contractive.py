"""Contractive codes: a penalty on how much a small change of the frame changes its code, in training alone."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Contract(keras.layers.Layer):  # type: ignore[misc]
    """An encoder that adds to the loss the squared Frobenius norm of its Jacobian, averaged over frames.

    Source: Rifai et al. 2011, "Contractive auto-encoders", equation 7. They sum over the weights of one sigmoid
    layer. For any encoder the norm is estimated: for a random vector v of signs the expectation of |v J|^2
    is that norm (Hutchinson 1990), and v J is one pass backwards through the encoder, whatever is in it and
    however long the code. It has no bias, so the mean over the steps is that of the norm itself.
    """

    def __init__(self, encoder: Any, weight: float) -> None:
        """Keep the encoder, whose frames do not see each other, and the weight of the penalty."""
        super().__init__(name="contract")
        self.encoder = encoder
        self._weight = weight
        self._seed = keras.random.SeedGenerator()

    def call(self, frames: Any) -> Any:
        """Codes (n, latent) of frames (n, length, channels)."""
        with tf.GradientTape() as tape:
            tape.watch(frames)
            codes = self.encoder(frames)
            signs = tf.sign(keras.random.uniform(tf.shape(codes), -1.0, 1.0, seed=self._seed))
            projected = tf.reduce_sum(signs * codes)
        rows = tape.gradient(projected, frames)  # (n, length, channels): signs times each frame's Jacobian
        self.add_loss(self._weight * tf.reduce_mean(tf.reduce_sum(tf.square(rows), axis=[1, 2])))
        return codes
