"""Autoencoders: one file per family, each a pair of Keras models, and what may be composed with any of them.

    linear, dense, conv1d, conv2d, recurrent           encoder and decoder
    constant                                           what is usual, with nothing encoded
    corruption, sparse, contractive, variational       what is done to them in training, by ``assemble``
    graph                                              what is exported

The last layer of each encoder makes the code; what comes before it are features.
"""

from __future__ import annotations

from typing import Any

from ae_model.config import FrameContract, NetworkConfig, check_code_size
from ae_model.networks import constant, conv1d, conv2d, dense, linear, recurrent

_FAMILIES = {
    "constant": constant.build,
    "linear": linear.build,
    "dense": dense.build,
    "conv1d": conv1d.build,
    "conv2d": conv2d.build,
    "recurrent": recurrent.build,
}


def build(contract: FrameContract, config: NetworkConfig) -> tuple[Any, Any]:
    """Build the untrained encoder and decoder that a configuration asks for.

    Returns:
        (encoder, decoder) ``keras.Sequential``: scaled frames (n, length, channels) to codes
        (n, latent), and codes to scaled frames.

    Raises:
        ConfigError: the code could hold a copy of the frame.
    """
    check_code_size(contract, config)
    return _FAMILIES[config.network](contract, config)
