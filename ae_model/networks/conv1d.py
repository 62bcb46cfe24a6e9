"""The convolutional autoencoder over time: each layer halves the length, the channels are its features.

    length 50, 3 channels, hidden=(16, 32):

    50x3 ─ 25x16 ─ 13x32 ─ code ─ 13x32 ─ 25x16 ─ 50x3

An odd length is rounded up on the way in, and the sample too many is cropped on the way back.
"""

from __future__ import annotations

from typing import Any

import keras

from ae_model.config import FrameContract, NetworkConfig
from ae_model.naming import halvings
from ae_model.networks.ends import code, output_activation


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained pair: (n, length, channels) to (n, latent), and back; scaled."""
    return _encoder(contract, config), _decoder(contract, config)


def _encoder(contract: FrameContract, config: NetworkConfig) -> Any:
    layers = [keras.Input(contract.input_shape)]  # (length, channels)
    for filters in config.hidden:
        layers.append(
            keras.layers.Conv1D(filters, config.kernel, strides=2, padding="same", activation=config.activation)
        )  # (half the length, filters)
    layers.append(keras.layers.Flatten())  # (shortest * filters)
    return keras.Sequential([*layers, code(config)], name="encoder")


def _decoder(contract: FrameContract, config: NetworkConfig) -> Any:
    *lengths, shortest = halvings(contract.length, len(config.hidden))
    layers = [
        keras.Input((config.latent,)),
        keras.layers.Dense(shortest * config.hidden[-1], activation=config.activation),
        keras.layers.Reshape((shortest, config.hidden[-1])),
    ]
    widths = (len(contract.channels), *config.hidden[:-1])
    for depth in reversed(range(len(widths))):
        activation = config.activation if depth else output_activation(config)
        layers.append(
            keras.layers.Conv1DTranspose(widths[depth], config.kernel, strides=2, padding="same", activation=activation)
        )  # (twice the length, width)
        if lengths[depth] % 2:
            layers.append(keras.layers.Cropping1D((0, 1)))  # (length at this depth, width)
    return keras.Sequential(layers, name="decoder")
