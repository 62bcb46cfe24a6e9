"""Sparse codes: a penalty on the activity of the code, in training alone."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ae_model.config import SparseConfig

# Keeps the logarithms finite where a unit is silent, or on, throughout a batch.
_LEAST_MEAN = 1e-6


def penalise(config: SparseConfig) -> Any:
    """The layer that hands codes (n, latent) on as they are, and adds to the loss what their activity costs.

    With ``l1`` that is the sum over units of a frame's activity, averaged over frames, as Keras has it.
    """
    if config.kind == "l1":
        return keras.layers.ActivityRegularization(l1=config.weight)
    return MeanActivity(config.weight, config.target)


class MeanActivity(keras.layers.Layer):  # type: ignore[misc]
    """Adds the divergence of each unit's mean activity from a target, summed over units.

    Source: Ng 2011, "Sparse autoencoder", CS294A lecture notes, section 3; the mean is over a batch.
    """

    def __init__(self, weight: float, target: float) -> None:
        """Keep the weight and the target, a mean between 0 and 1."""
        super().__init__()
        self._weight = weight
        self._target = target

    def call(self, codes: Any) -> Any:
        """Codes (n, latent) between 0 and 1, unchanged."""
        mean = ops.clip(ops.mean(codes, axis=0), _LEAST_MEAN, 1 - _LEAST_MEAN)  # (latent,)
        on = self._target * ops.log(self._target / mean)
        off = (1 - self._target) * ops.log((1 - self._target) / (1 - mean))
        self.add_loss(self._weight * ops.sum(on + off))
        return codes
