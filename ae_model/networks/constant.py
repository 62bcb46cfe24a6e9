"""The network that knows nothing but what is usual: every frame comes back as the centre of its scaling.

With ``scaling=robust`` that is the median of each channel, and errors are squared distances from it in
robust standard deviations: statistics as an artifact like any other, for what no network was trained on.
"""

from __future__ import annotations

from typing import Any

import keras

from ae_model.config import FrameContract, NetworkConfig


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the pair: any frame to a code of zeros (n, latent), and any code to zeros; scaled."""
    length, channels = contract.shape
    encoder = [keras.Input(contract.input_shape), keras.layers.Flatten(), _zeros(config.latent)]
    decoder = [keras.Input((config.latent,)), _zeros(length * channels), keras.layers.Reshape(contract.shape)]
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")


def _zeros(width: int) -> Any:
    return keras.layers.Dense(width, use_bias=False, kernel_initializer="zeros", trainable=False)
