"""The graph's last steps: from squared errors and the code's distance to the score; see ae_model/score_formula.py."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ae_model.score_formula import ScoreFormula, Surprise


def channel_errors(formula: ScoreFormula, squares: Any) -> Any:
    """(n, channels): each channel's mean over the scored samples of squares (n, length, channels)."""
    scored = squares[:, -formula.newest :]  # (n, newest, channels)
    relative = scored / tf.constant([scale**2 for scale in formula.scales], tf.float32)
    if formula.limit is not None:
        relative = tf.minimum(relative, formula.limit)
    return tf.reduce_mean(relative, axis=1)


def score(formula: ScoreFormula, errors: Any, latent_distance: Any) -> Any:
    """(n,): the score, from channel errors (n, channels) and latent distance (n,)."""
    residual = tf.reduce_mean(errors, axis=1)
    if formula.residual is None or formula.latent is None:
        return residual
    return _surprise(formula.residual, residual) + _surprise(formula.latent, latent_distance)


def _surprise(surprise: Surprise, values: Any) -> Any:
    beyond = tf.nn.relu(values[:, tf.newaxis] - tf.constant(surprise.knots, tf.float32))  # (n, pieces)
    rise = tf.minimum(beyond, tf.constant(surprise.widths, tf.float32)) * tf.constant(surprise.slopes, tf.float32)
    return tf.reduce_sum(rise, axis=1)
