"""Variational codes, on any encoder: in training a code is drawn and pulled to a prior; what is exported is its mean.

    features ─┬─ code, the mean ─┬─ mean + deviation * noise ─ decoder
              └─ log variance ───┘        and the divergence from the prior in the loss

The loss of a frame, times its number of values, is the reconstruction loss summed over values plus
beta times the divergence: the negative evidence bound for ``bce``, and for ``mse`` that of a Gaussian
of variance 1/2 around the reconstruction (of beta/2, times a constant, with another beta).

Source: Kingma and Welling 2014, equations 3, 4 and 10; Higgins et al. 2017 for beta.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from ae_model.config import VariationalConfig
from ae_model.latent import CodeUse, Prior
from ae_model.scaling import Statistics

# Components of the learned prior: more than the kinds of frame that most sources have.
COMPONENTS = 16
# Nats; a wild frame must not push the exponential out of float32.
_LARGEST_LOG_VARIANCE = 20.0


def spread(encoder: Any) -> Any:
    """A model of frames to (mean, log variance), each (n, latent), that shares the encoder's layers."""
    # A spread of 1 to start with, as the prior's.
    log_variance = keras.layers.Dense(encoder.output_shape[-1], kernel_initializer="zeros", name="log_variance")
    features = encoder.layers[-2].output
    return keras.Model(encoder.inputs[0], [encoder.outputs[0], log_variance(features)], name="spread")


def divergence(mean: Any, log_variance: Any, prior_mean: Any, prior_log_variance: Any) -> Any:
    """Kullback-Leibler divergence of diagonal Gaussians, per dimension, in nats.

    Source: Kingma and Welling 2014, appendix B, for any two Gaussians.
    """
    difference = log_variance - prior_log_variance
    return 0.5 * (ops.exp(difference) + ops.square(mean - prior_mean) * ops.exp(-prior_log_variance) - 1 - difference)


class Draw(keras.layers.Layer):  # type: ignore[misc]
    """Codes drawn around their means; adds to the loss what their distance from the prior costs.

    The divergence from a mixture has no closed form; its bound by the best assignment of a frame's code to
    components does, and is exact for one component (Hershey and Olsen 2007, "Approximating the Kullback Leibler
    divergence between Gaussian mixture models", the variational approximation; the prior is that of
    Jiang et al. 2017). Free bits are nats of a dimension that cost nothing, on the mean over a batch
    (Kingma et al. 2016, appendix C.8).
    """

    def __init__(self, config: VariationalConfig, latent: int, values: int) -> None:
        """Make the prior's variables.

        Args:
            config: beta, free bits, prior.
            latent: dimensions of a code.
            values: of a frame; the reconstruction loss is a mean over them.
        """
        super().__init__(name="draw")
        self.latent = latent
        self._free_bits = config.free_bits
        self._price = config.beta / values
        self._seed = keras.random.SeedGenerator()
        learned = config.prior == "learned"
        count = COMPONENTS if learned else 1
        means = keras.initializers.RandomNormal(stddev=1.0) if learned else "zeros"
        self._logits = self.add_weight((count,), "zeros", trainable=learned, name="prior_logits")
        self._means = self.add_weight((count, latent), means, trainable=learned, name="prior_means")
        self._log_variances = self.add_weight((count, latent), "zeros", trainable=learned, name="prior_log_variances")

    def call(self, spread: tuple[Any, Any]) -> Any:
        """Codes (n, latent) of their means and log variances."""
        mean, log_variance = spread
        per_dimension, choice = self.measure(mean, log_variance)
        held = ops.maximum(ops.mean(per_dimension, axis=0), self._free_bits)  # (latent,)
        self.add_loss(self._price * (ops.sum(held) + ops.mean(choice)))
        return mean + ops.exp(0.5 * _bounded(log_variance)) * keras.random.normal(ops.shape(mean), seed=self._seed)

    def measure(self, mean: Any, log_variance: Any) -> tuple[Any, Any]:
        """Nats per frame and dimension (n, latent), and those of the choice of a component (n,)."""
        both = (mean[:, None], _bounded(log_variance)[:, None])
        nats = divergence(*both, self._means, self._log_variances)  # (n, components, latent)
        log_weights = _log_shares(self._logits)
        log_shares = _log_shares(log_weights - ops.sum(nats, axis=2))  # (n, components)
        shares = ops.exp(log_shares)
        return ops.sum(shares[:, :, None] * nats, axis=1), ops.sum(shares * (log_shares - log_weights), axis=1)

    def prior(self) -> Prior:
        """The prior as it is now."""
        weights = np.exp(_log_shares(self._logits).numpy().astype(float)).tolist()
        means, log_variances = (each.numpy().astype(float) for each in (self._means, self._log_variances))
        rows = (tuple(map(tuple, array.tolist())) for array in (means, np.exp(0.5 * log_variances)))
        return Prior(tuple(weights), *rows)


def find_use(model: Any, batches: Iterable[NDArray[np.float32]]) -> CodeUse:
    """How much of its code a trained model uses, on scaled frames (n, length, channels) at a time."""
    spread, draw = model.get_layer("spread"), model.get_layer("draw")
    means = Statistics.empty(draw.latent)
    nats = Statistics.empty(draw.latent)
    for frames in batches:
        mean, log_variance = spread(frames)
        means = means.merge(Statistics.of(mean.numpy()))
        nats = nats.merge(Statistics.of(draw.measure(mean, log_variance)[0].numpy()))
    return CodeUse(tuple((means.variance / draw.prior().variances).tolist()), tuple(nats.mean.tolist()))


def codes_of(noise: Any, prior: Prior) -> Any:
    """Codes (n, latent) that follow the prior, of standard normal noise (n, latent).

    The first number of a row chooses the component: its place among all normal numbers is uniform in 0..1,
    and falls into the component's share of that interval. Its place within the share is uniform again, and
    independent of the choice, and makes the number that the component needs in its stead.
    """
    means, deviations = tf.constant(prior.means, tf.float32), tf.constant(prior.deviations, tf.float32)
    if len(prior.weights) == 1:
        return means + deviations * noise
    chosen, first = _split(noise[:, 0], prior.weights)
    within = tf.concat([first[:, None], noise[:, 1:]], axis=1)  # (n, latent)
    return tf.gather(means, chosen) + tf.gather(deviations, chosen) * within


def _split(numbers: Any, weights: tuple[float, ...]) -> tuple[Any, Any]:
    places = 0.5 * (1 + tf.math.erf(numbers / math.sqrt(2)))  # (n,) in 0..1
    edges = tf.constant(np.cumsum((0.0, *weights)), tf.float32)
    chosen = tf.reduce_sum(tf.cast(places[:, None] >= edges[1:-1], tf.int32), axis=1)
    within = (places - tf.gather(edges, chosen)) / tf.gather(tf.constant(weights, tf.float32), chosen)
    # Rounding reaches the ends of the interval, which would be infinite.
    return chosen, tf.math.ndtri(tf.clip_by_value(within, 1e-6, 1 - 1e-6))


def _log_shares(logits: Any) -> Any:
    # Keras' own warns of a softmax over one component, which is what the standard prior has.
    return logits - ops.logsumexp(logits, axis=-1, keepdims=True)


def _bounded(log_variance: Any) -> Any:
    return ops.clip(log_variance, -_LARGEST_LOG_VARIANCE, _LARGEST_LOG_VARIANCE)
