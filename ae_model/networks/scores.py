"""The graph's last steps: from squared errors and the code's distance to the score; see ae_model/score_formula.py."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ae_model.score_formula import ScoreFormula, Surprise


def channel_errors(formula: ScoreFormula, squares: Any, present: Any = None) -> Any:
    """(n, channels): each channel's mean over the scored samples of squares (n, length, channels).

    ``present`` (n, length, channels) is 1 where a sample is there; a channel of which none is has no error.
    """
    scored = squares[:, -formula.newest :]  # (n, newest, channels)
    relative = scored / tf.constant([scale**2 for scale in formula.scales], tf.float32)
    if formula.limit is not None:
        relative = tf.minimum(relative, formula.limit)
    if present is None:
        return tf.reduce_mean(relative, axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(relative, axis=1), tf.reduce_sum(present[:, -formula.newest :], axis=1))


def score(formula: ScoreFormula, errors: Any, latent_distance: Any, present: Any = None) -> Any:
    """(n,): the score, from channel errors (n, channels) and latent distance (n,); ``present`` as above."""
    if present is None:
        residual = tf.reduce_mean(errors, axis=1)
    else:
        observed = tf.reduce_max(present[:, -formula.newest :], axis=1)  # (n, channels)
        residual = tf.math.divide_no_nan(tf.reduce_sum(errors, axis=1), tf.reduce_sum(observed, axis=1))
    if formula.residual is None or formula.latent is None:
        return residual
    return _surprise(formula.residual, residual) + _surprise(formula.latent, latent_distance)


def _surprise(surprise: Surprise, values: Any) -> Any:
    beyond = tf.nn.relu(values[:, tf.newaxis] - tf.constant(surprise.knots, tf.float32))  # (n, pieces)
    rise = tf.minimum(beyond, tf.constant(surprise.widths, tf.float32)) * tf.constant(surprise.slopes, tf.float32)
    return tf.reduce_sum(rise, axis=1)
