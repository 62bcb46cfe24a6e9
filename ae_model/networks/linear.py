"""The linear autoencoder, solved exactly: principal components as two dense layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract, NetworkConfig
from ae_model.exceptions import TrainingError

# The covariance is width x width float64: 512 MiB at this width, and minutes to solve.
MAX_WIDTH = 8192


class Moments:
    """Mean and covariance of scaled, flattened frames, gathered batch by batch in float64."""

    def __init__(self, width: int) -> None:
        """Start with no frame of ``width`` values.

        Raises:
            TrainingError: the frames are too wide for an exact solution.
        """
        if width > MAX_WIDTH:
            raise TrainingError(
                f"linear network: expected at most {MAX_WIDTH} values in a frame. Received: {width}. "
                "Take a shorter frame, or network=dense with hidden=()."
            )
        self.count = 0
        self.mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    def add(self, scaled: NDArray[np.float32]) -> None:
        """Count frames (n, length, channels) in.

        Source: Chan, Golub and LeVeque 1979, equation 2.1, for matrices.
        """
        if len(scaled) == 0:
            return
        flat = scaled.reshape(len(scaled), -1).astype(np.float64)
        mean = flat.mean(axis=0)
        centered = flat - mean
        shift = mean - self.mean
        total = self.count + len(flat)
        self._scatter += centered.T @ centered + np.outer(shift, shift) * (self.count * len(flat) / total)
        self.mean = self.mean + shift * (len(flat) / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(width, width), of the population."""
        return self._scatter / max(self.count, 1)


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained pair: (n, length, channels) to (n, latent), and back; scaled."""
    length, channels = contract.shape
    encoder = [keras.Input(contract.input_shape), keras.layers.Flatten(), keras.layers.Dense(config.latent)]
    decoder = [
        keras.Input((config.latent,)),
        keras.layers.Dense(length * channels),
        keras.layers.Reshape(contract.shape),
    ]
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")


def solve(encoder: Any, decoder: Any, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
    """Set the pair's weights to the components of largest variance.

    Where samples may be missing, one that is counts as its mean: the weight of the mask takes the mean away where
    a sample is there, so that nothing is left where it is not.

    Args:
        encoder: as built here; its code is (frame - mean) projected on the components.
        decoder: as built here.
        mean: (width,) of the scaled, flattened frames.
        covariance: (width, width) of the same.
    """
    latent = encoder.output_shape[-1]
    _, vectors = np.linalg.eigh(covariance)  # variances rising
    components = vectors[:, ::-1][:, :latent]  # (width, latent)
    # A component's sign is free; its largest entry is made positive so that codes repeat.
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(latent)])
    length, channels = decoder.output_shape[1:]
    if encoder.input_shape[-1] == channels:
        kernel, bias = components, -mean @ components
    else:
        parts = (components, -mean[:, np.newaxis] * components)  # of the samples, and of the mask
        kernel = np.concatenate([part.reshape(length, channels, latent) for part in parts], axis=1)
        kernel, bias = kernel.reshape(-1, latent), np.zeros(latent)
    encoder.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    decoder.set_weights([components.T.astype(np.float32), mean.astype(np.float32)])
