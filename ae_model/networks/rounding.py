"""Codes of whole steps, as tensors; and an encoder whose codes do not depend on the company a frame keeps.

    frames ─ encoder, 64 bits ─ numbers ─ round and clip ─ codes, int8 ─ center + step * code ─ decoder

A product of matrices adds in an order that changes with the number of rows, the machine
and the library, and with 32 bits the last digits of a sum change with it. On the border
between two steps that would turn one code into its neighbour: of 2000 frames with 32 codes
one got another code alone than among the rest. With 64 bits a border would have to be met
to thirteen digits.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ae_model.codes import LIMIT, CodeFormat


def widen(encoder: Any) -> Any:
    """The same network with weights and sums of 64 bits."""
    twin = keras.models.clone_model(encoder, clone_function=_widen_layer)
    twin.set_weights(encoder.get_weights())
    return twin


def _widen_layer(layer: Any) -> Any:
    return layer.__class__.from_config(_widen_config(layer.get_config()))


def _widen_config(config: Any) -> Any:
    """Every dtype policy in a layer's configuration, those of layers inside it too, set to 64 bits."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float64"
        return {key: _widen_config(value) for key, value in config.items()}
    return [_widen_config(value) for value in config] if isinstance(config, list) else config


def to_codes(numbers: Any, code_format: CodeFormat) -> Any:
    """The network's numbers (n, latent) as codes of the format."""
    if code_format.dtype == "float32":
        return numbers
    center, step = (tf.constant(values, numbers.dtype) for values in (code_format.center, code_format.step))
    return tf.cast(tf.clip_by_value(tf.round((numbers - center) / step), -LIMIT, LIMIT), tf.int8)


def from_codes(codes: Any, code_format: CodeFormat) -> Any:
    """Codes (n, latent) of the format as the numbers that the decoder takes, float32."""
    if code_format.dtype == "float32":
        return codes
    center, step = (tf.constant(values, tf.float32) for values in (code_format.center, code_format.step))
    return tf.cast(codes, tf.float32) * step + center
