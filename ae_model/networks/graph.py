"""The whole detector as one TensorFlow graph: what is trained, exported and served.

    frames ─ scale ─ encoder ─ round ─ codes ─ decoder ─ unscale ─ frames
                │            │                  │
                └────────────┼──────────────────┴─ errors, channel_errors ─┬─ scores
                             └──────────────────── latent_distance ────────┘

Codes are rounded with ``codes: int8`` alone. Errors are then those of the rounded codes, as
the receiver will see them; the distance is that of the numbers before, as clipping would hide
just the frames that it is for.

All that can change a score is in here, so that it travels with the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ae_model.codes import CodeFormat
from ae_model.config import FrameContract
from ae_model.latent import Prior
from ae_model.manifest import FEATURE
from ae_model.networks import scores
from ae_model.networks.rounding import from_codes, to_codes, widen
from ae_model.networks.variational import codes_of
from ae_model.scaling import Scaling
from ae_model.score_formula import ScoreFormula

# Directions in which codes hardly moved in training must not turn rounding into distance.
_LEAST_VARIANCE = 1e-4


class Graph:
    """Scaling, encoder, decoder and scores, as functions from tensors to named tensors."""

    def __init__(
        self,
        contract: FrameContract,
        scaling: Scaling,
        encoder: Any,
        decoder: Any,
        code_mean: NDArray[np.float64],
        code_covariance: NDArray[np.float64],
        code_format: CodeFormat,
        formula: ScoreFormula,
        prior: Prior | None = None,
    ) -> None:
        """Keep the parts; the code's mean (latent,) and covariance (latent, latent) are of the training codes."""
        self._contract = contract
        self._scaling = scaling
        self._encoder = widen(encoder) if code_format.dtype == "int8" else encoder
        self._code_format = code_format
        self._decoder = decoder
        self._code_mean = code_mean
        self._whitening = _whiten(code_covariance)
        self._formula = formula
        self._prior = prior

    def infer(self, frames: Any) -> dict[str, Any]:
        """All that ``Inference`` holds, from frames (n, length, channels) in own units."""
        scaled, present = scale_present(self._scaling, self._contract, frames)
        numbers = self._encoder(as_input(scaled, present))
        codes = to_codes(numbers, self._code_format)
        reconstruction = self._decoder(from_codes(codes, self._code_format))
        squares = tf.math.squared_difference(scaled, reconstruction)
        if present is not None:
            squares = tf.where(present > 0, squares, 0.0)
        latent_distance = self._latent_distance(numbers)
        channel_errors = scores.channel_errors(self._formula, squares, present)
        errors = _mean_present(squares, present)
        score = scores.score(self._formula, channel_errors, latent_distance, present)
        return {
            "codes": codes,
            "frames": self._unscale(reconstruction),
            "errors": errors,
            "channel_errors": channel_errors,
            "latent_distance": latent_distance,
            "scores": score if present is None else tf.where(tf.math.is_nan(errors), errors, score),
        }

    def encode(self, frames: Any) -> dict[str, Any]:
        """Codes (n, latent) from frames in own units."""
        seen = as_input(*scale_present(self._scaling, self._contract, frames))
        return {"codes": to_codes(self._encoder(seen), self._code_format)}

    def decode(self, codes: Any) -> dict[str, Any]:
        """Frames in own units from codes (n, latent)."""
        return {"frames": self._unscale(self._decoder(from_codes(codes, self._code_format)))}

    def reconstruct(self, frames: Any) -> dict[str, Any]:
        """Frames in own units, there and back."""
        return self.decode(self.encode(frames)["codes"])

    def sample(self, noise: Any) -> dict[str, Any]:
        """Frames in own units that look like the training frames, from standard normal noise (n, latent)."""
        assert self._prior is not None
        return {"frames": self._unscale(self._decoder(codes_of(noise, self._prior)))}

    def infer_examples(self, examples: Any) -> dict[str, Any]:
        """The same as ``infer``, from serialized tf.Example records (n,)."""
        feature = tf.io.FixedLenFeature(self._contract.shape, tf.float32)
        return self.infer(tf.io.parse_example(examples, {FEATURE: feature})[FEATURE])

    def signatures(self) -> dict[str, Any]:
        """The concrete functions to serve, by name; all take any number of frames."""
        frames = tf.TensorSpec((None, *self._contract.shape), tf.float32, "frames")
        codes = tf.TensorSpec((None, self._code_format.latent), self._code_format.dtype, "codes")
        examples = tf.TensorSpec((None,), tf.string, "examples")
        noise = tf.TensorSpec((None, len(self._code_mean)), tf.float32, "noise")
        return {
            **({"sample": _trace(self.sample, noise)} if self._prior else {}),
            "infer": _trace(self.infer, frames),
            "encode": _trace(self.encode, frames),
            "decode": _trace(self.decode, codes),
            "reconstruct": _trace(self.reconstruct, frames),
            "serving_default": _trace(self.infer_examples, examples),
        }

    def save(self, folder: str) -> None:
        """Write the SavedModel; of Keras nothing remains in it but the weights."""
        module = tf.Module()
        module.weights = [variable.value for variable in [*self._encoder.variables, *self._decoder.variables]]
        tf.saved_model.save(module, folder, signatures=self.signatures())

    def _latent_distance(self, numbers: Any) -> Any:
        centered = tf.cast(numbers, tf.float32) - tf.constant(self._code_mean, tf.float32)
        return tf.reduce_sum(tf.square(tf.matmul(centered, tf.constant(self._whitening, tf.float32))), axis=1)

    def _unscale(self, scaled: Any) -> Any:
        return scaled * tf.constant(self._scaling.scale, tf.float32) + tf.constant(self._scaling.center, tf.float32)


def _whiten(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(latent, latent) that turns codes of this covariance into ones of variance 1 that do not vary together."""
    variances, directions = np.linalg.eigh(covariance)
    floor = _LEAST_VARIANCE * max(float(variances[-1]), 0.0)
    whitening: NDArray[np.float64] = directions / np.sqrt(np.maximum(variances, floor) if floor > 0 else 1.0)
    return whitening


def scale(scaling: Scaling, frames: Any) -> Any:
    """``Scaling.apply`` on tensors (n, length, channels)."""
    scaled = (frames - tf.constant(scaling.center, tf.float32)) / tf.constant(scaling.scale, tf.float32)
    return tf.clip_by_value(scaled, -scaling.limit, scaling.limit) if np.isfinite(scaling.limit) else scaled


def scale_present(scaling: Scaling, contract: FrameContract, frames: Any) -> tuple[Any, Any]:
    """Scaled frames and which of their samples are there, both (n, length, channels).

    With ``missing="mask"`` a missing sample is 0, and the second is 1.0 where a sample is not; otherwise all are
    taken for there, and the second is None.
    """
    if contract.missing == "refuse":
        return scale(scaling, frames), None
    present = tf.math.logical_not(tf.math.is_nan(frames))
    return tf.where(present, scale(scaling, frames), 0.0), tf.cast(present, tf.float32)


def as_input(scaled: Any, present: Any) -> Any:
    """``frames.as_input`` on tensors: what a network sees."""
    return scaled if present is None else tf.concat([scaled, present], axis=-1)


def _mean_present(squares: Any, present: Any) -> Any:
    if present is None:
        return tf.reduce_mean(squares, axis=[1, 2])
    # A frame of which nothing is there has no error: not 0, which would pass for calm, but NaN, which alerts.
    return tf.reduce_sum(squares, axis=[1, 2]) / tf.reduce_sum(present, axis=[1, 2])


def _trace(function: Callable[[Any], dict[str, Any]], spec: Any) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(spec)
