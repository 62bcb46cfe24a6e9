"""The two ends that every family has: the code in the middle, and the frame that comes out."""

from __future__ import annotations

from typing import Any

import keras

from ae_model.config import NetworkConfig

# A penalty on l1 needs a unit that can be silent, one on mean activity a unit that is bounded.
_CODES = {"l1": "relu", "kl": "sigmoid"}


def code(config: NetworkConfig) -> Any:
    """The last layer of every encoder, any features (n, width) to codes (n, latent)."""
    return keras.layers.Dense(config.latent, activation=_CODES[config.sparse.kind] if config.sparse else "linear")


def output_activation(config: NetworkConfig) -> str:
    """That of the last layer of every decoder: cross-entropy is of numbers between 0 and 1."""
    return "sigmoid" if config.loss == "bce" else "linear"
