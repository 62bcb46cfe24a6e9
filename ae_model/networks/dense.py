"""The dense autoencoder: widths that narrow to the code, and mirror back.

    hidden=()       frame ─ code ─ frame                  the vanilla autoencoder, one layer each way
    hidden=(128,)   frame ─ 128 ─ code ─ 128 ─ frame      the multilayer one

The order of samples in a frame means nothing to it.
"""

from __future__ import annotations

from typing import Any

import keras

from ae_model.config import FrameContract, NetworkConfig
from ae_model.networks.ends import code, output_activation


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained pair: (n, length, channels) to (n, latent), and back; scaled."""
    return _encoder(contract, config), _decoder(contract, config)


def _encoder(contract: FrameContract, config: NetworkConfig) -> Any:
    layers = [keras.Input(contract.input_shape), keras.layers.Flatten()]  # (length * channels)
    layers += [keras.layers.Dense(width, activation=config.activation) for width in config.hidden]
    return keras.Sequential([*layers, code(config)], name="encoder")


def _decoder(contract: FrameContract, config: NetworkConfig) -> Any:
    length, channels = contract.shape
    layers = [keras.Input((config.latent,))]
    layers += [keras.layers.Dense(width, activation=config.activation) for width in reversed(config.hidden)]
    layers += [
        keras.layers.Dense(length * channels, activation=output_activation(config)),
        keras.layers.Reshape(contract.shape),  # (length, channels)
    ]
    return keras.Sequential(layers, name="decoder")
