"""The dense autoencoder: widths that narrow to the code, and mirror back.

    hidden=()       frame ─ code ─ frame                  the vanilla autoencoder, one layer each way
    hidden=(128,)   frame ─ 128 ─ code ─ 128 ─ frame

Hidden layers are ReLU and the code is linear. The output is linear, or a sigmoid with ``loss="bce"``.
"""

from __future__ import annotations

from typing import Any

import keras

from ae_model.config import FrameContract, NetworkConfig


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained pair: (n, length, channels) to (n, latent), and back; scaled."""
    return _encoder(contract, config), _decoder(contract, config)


def _encoder(contract: FrameContract, config: NetworkConfig) -> Any:
    layers = [keras.Input(contract.shape), keras.layers.Flatten()]
    layers += [keras.layers.Dense(width, activation="relu") for width in config.hidden]
    return keras.Sequential([*layers, keras.layers.Dense(config.latent)], name="encoder")


def _decoder(contract: FrameContract, config: NetworkConfig) -> Any:
    length, channels = contract.shape
    output = "sigmoid" if config.loss == "bce" else "linear"
    layers = [keras.Input((config.latent,))]
    layers += [keras.layers.Dense(width, activation="relu") for width in reversed(config.hidden)]
    layers += [keras.layers.Dense(length * channels, activation=output), keras.layers.Reshape(contract.shape)]
    return keras.Sequential(layers, name="decoder")
