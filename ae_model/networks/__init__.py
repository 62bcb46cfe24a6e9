"""One file per family of autoencoder, each a pair of Keras models: encoder and decoder."""

from __future__ import annotations

from typing import Any

from ae_model.config import FrameContract, NetworkConfig
from ae_model.exceptions import TrainingError


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained encoder and decoder that a configuration asks for.

    Returns:
        (encoder, decoder) ``keras.Model``: scaled frames (n, length, channels) to codes
        (n, latent), and codes to scaled frames.

    Raises:
        TrainingError: the code would be no smaller than the frame.
    """
    width = contract.length * len(contract.channels)
    if config.latent >= width:
        raise TrainingError(
            f"network: expected latent below the {width} values of a frame ({contract.length} x "
            f"{len(contract.channels)}). Received: latent={config.latent}. Take a smaller code: an overcomplete one "
            "copies its input unless it is regularised, and regularisers are not offered yet."
        )
    if config.network == "linear":
        from ae_model.networks import linear

        return linear.build(contract, config)
    from ae_model.networks import dense

    return dense.build(contract, config)
