"""Tails of score distributions: how often a score is reached, far beyond where frames were seen.

gamma    the whole distribution, by its median and its 0.9 quantile: faults among the
         calibration frames sit above both, and move neither
pareto   what lies above a start, which any distribution's far tail comes near to
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Where the gamma distribution is held to the scores.
_BODY = (0.5, 0.9)
# Beyond these shapes the mean or the end of a Pareto tail is chance at the sizes of calibration sets.
_SHAPES = (-0.5, 0.5)
# Fewer peaks than this say nothing of a shape: the tail is taken for exponential.
_LEAST_FOR_SHAPE = 20
# A gamma distribution narrower or wider than this is none; its quantiles could not be computed either.
_GAMMA_SHAPES = (0.02, 1e4)
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Tail:
    """The share of frames, or of episodes per frame, that reach a score at or above ``start``.

    Args:
        kind: gamma or pareto.
        start: lowest score it speaks of.
        share: that reaches ``start``.
        shape: of the gamma distribution; or of the Pareto tail: 0 exponential, more is heavier.
        scale: in units of the score.
    """

    kind: Literal["gamma", "pareto"]
    start: float
    share: float
    shape: float
    scale: float

    def survival(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """The share at or above each of the scores (n,)."""
        beyond = np.maximum(np.asarray(scores, np.float64) - self.start, 0.0) / self.scale
        if self.kind == "gamma":
            from scipy.special import gammaincc

            return self.share * np.asarray(gammaincc(self.shape, beyond))
        if self.shape == 0:
            return np.asarray(self.share * np.exp(-beyond))
        left: NDArray[np.float64] = self.share * np.maximum(1 + self.shape * beyond, 0.0) ** (-1 / self.shape)
        return left

    def reached_by(self, share: float) -> float:
        """The score that no more than this share reaches; ``start`` where more is asked than the tail holds."""
        left = min(share / self.share, 1.0)
        if self.kind == "gamma":
            from scipy.special import gammainccinv

            return self.start + self.scale * float(gammainccinv(self.shape, left))
        if self.shape == 0:
            return self.start - self.scale * math.log(left)
        return self.start + self.scale / self.shape * (math.pow(left, -self.shape) - 1)


def fit_gamma(scores: NDArray[Any]) -> Tail:
    """The gamma distribution with the median and the 0.9 quantile of the scores (n,), none below 0."""
    from scipy.optimize import brentq
    from scipy.special import gammaincinv

    middle, upper = (max(float(value), _TINY) for value in np.quantile(scores, _BODY))

    def misfit(log_shape: float) -> float:
        low, high = (float(gammaincinv(np.exp(log_shape), share)) for share in _BODY)
        return high / low - upper / middle

    # The ratio of the two quantiles falls as the shape grows.
    low, high = np.log(_GAMMA_SHAPES)
    inside = misfit(low) > 0 > misfit(high)
    shape = float(np.exp(brentq(misfit, low, high) if inside else (high if misfit(high) >= 0 else low)))
    return Tail("gamma", 0.0, 1.0, shape, middle / float(gammaincinv(shape, _BODY[0])))


def fit_pareto(peaks: NDArray[Any], start: float, share: float) -> Tail:
    """The generalised Pareto tail of peaks (n,), all at or above ``start``.

    Source: Hosking and Wallis 1987, "Parameter and quantile estimation for the generalized Pareto
    distribution", section 3: probability-weighted moments; their k is minus the shape here.
    """
    excess = np.sort(peaks.astype(np.float64)) - start
    count, mean = len(excess), max(float(excess.mean()), _TINY)
    if count < _LEAST_FOR_SHAPE:
        return Tail("pareto", start, share, 0.0, mean)
    # Mean of the excess times the share of peaks above it; a quarter of the mean when exponential.
    weighted = float((excess * (count - 0.65 - np.arange(count)) / count).mean())
    ratio = mean / max(mean - 2 * weighted, _TINY)
    shape = float(np.clip(2 - ratio, *_SHAPES))
    return Tail("pareto", start, share, 0.0 if abs(shape) < 1e-6 else shape, mean * (1 - shape))
