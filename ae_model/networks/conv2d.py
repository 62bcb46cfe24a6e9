"""The convolutional autoencoder over images: a frame is an image of length x channels with one feature.

    28 x 28, hidden=(16, 32):

    28x28x1 ─ 14x14x16 ─ 7x7x32 ─ code ─ 7x7x32 ─ 14x14x16 ─ 28x28x1

An odd side is rounded up on the way in, and the line too many is cropped on the way back.
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
    layers = [keras.Input(contract.input_shape), *_as_image(contract)]
    for filters in config.hidden:
        layers.append(
            keras.layers.Conv2D(filters, config.kernel, strides=2, padding="same", activation=config.activation)
        )  # (half, half, filters)
    layers.append(keras.layers.Flatten())  # (smallest * smallest * filters)
    return keras.Sequential([*layers, code(config)], name="encoder")


def _as_image(contract: FrameContract) -> list[Any]:
    length, channels = contract.shape
    if contract.missing == "refuse":
        return [keras.layers.Reshape((length, channels, 1))]  # (length, channels, 1)
    # Which samples are there lies beside the image, and becomes its second feature.
    return [keras.layers.Reshape((length, 2, channels)), keras.layers.Permute((1, 3, 2))]  # (length, channels, 2)


def _decoder(contract: FrameContract, config: NetworkConfig) -> Any:
    (*heights, lowest), (*breadths, narrowest) = (halvings(side, len(config.hidden)) for side in contract.shape)
    layers = [
        keras.Input((config.latent,)),
        keras.layers.Dense(lowest * narrowest * config.hidden[-1], activation=config.activation),
        keras.layers.Reshape((lowest, narrowest, config.hidden[-1])),
    ]
    widths = (1, *config.hidden[:-1])
    for depth in reversed(range(len(widths))):
        activation = config.activation if depth else output_activation(config)
        layers.append(
            keras.layers.Conv2DTranspose(widths[depth], config.kernel, strides=2, padding="same", activation=activation)
        )  # (twice, twice, width)
        layers.append(keras.layers.Cropping2D(((0, heights[depth] % 2), (0, breadths[depth] % 2))))
    layers.append(keras.layers.Reshape(contract.shape))  # (length, channels)
    return keras.Sequential(layers, name="decoder")
