"""What Keras trains: an encoder and a decoder, with what a configuration puts between and around them.

    frames ─ hide, corrupt ─ encoder ─┬─ draw, or penalise ─ decoder ─ frames
                                      └─ contract

Every part adds its own loss. What is exported is the encoder and the decoder alone, in which nothing is random.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from ae_model.config import NetworkConfig
from ae_model.networks.contractive import Contract
from ae_model.networks.corruption import Corrupt
from ae_model.networks.hiding import Hide
from ae_model.networks.sparse import penalise
from ae_model.networks.variational import Draw, spread


def assemble(encoder: Any, decoder: Any, config: NetworkConfig) -> Any:
    """The model to train, of scaled frames (n, length, channels) to their reconstructions.

    Args:
        encoder: as ``build`` made it; trained in place.
        decoder: likewise.
        config: what to compose.

    Returns:
        A ``keras.Model``; without any of these parts it is the encoder and then the decoder.
    """
    shape = decoder.output_shape[1:]  # (length, channels)
    frames = keras.Input(encoder.input_shape[1:])
    seen = Hide()(frames) if frames.shape[-1] > shape[-1] else frames
    seen = Corrupt(config, shape[-1])(seen) if config.corruption else seen
    if config.variational:
        codes = Draw(config.variational, config.latent, math.prod(shape))(spread(encoder)(seen))
    else:
        codes = Contract(encoder, config.contractive)(seen) if config.contractive else encoder(seen)
        codes = penalise(config.sparse)(codes) if config.sparse else codes
    return keras.Model(frames, decoder(codes))
