"""From errors to the score: fitted on calibration frames, kept in the manifest, computed in the graph.

    samples of a frame      0  1  2  3  4  5  6  7        newest = 3
    scored                                 5  6  7        squares over the channel's own, at most LIMIT
                                           └──┼──┘
    channel_errors          their mean per channel
    residual                the mean over the channels

The score is the residual; with ``latent: combined`` it is how surprising the residual is plus how
surprising the code's distance is, both as -ln of a tail probability (Fisher's method without its
constant): a fault that leaves the frame easy to reconstruct still moves the code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract, ScoreConfig, require
from ae_model.exceptions import TrainingError

# One sample speaks at most for 20 of its channel's usual errors, or it would drown all others.
LIMIT = 400.0
# In scaled units: a channel that was reconstructed almost perfectly must not turn rounding into errors.
_LEAST_SCALE = 0.01
# Tail probabilities at which the curve of surprise bends; beyond the last one it is a straight line.
_BENDS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
# Scores in the last bend's tail below which its slope would be chance.
_LEAST_TAIL = 10


@dataclass(frozen=True)
class Surprise:
    """-ln of the share of calibration frames that reach a value, as a broken line that always rises.

    Args:
        knots: where its pieces begin, rising; the last one has no end.
        slopes: of each piece, all positive.
    """

    knots: tuple[float, ...]
    slopes: tuple[float, ...]

    @property
    def widths(self) -> tuple[float, ...]:
        """How far each piece reaches."""
        return (*np.diff(self.knots).tolist(), float("inf"))

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(n,) of the values (n,); 0 at the first knot and below."""
        beyond = np.maximum(values.astype(np.float32)[:, None] - np.array(self.knots, np.float32), 0)  # (n, pieces)
        rise = np.minimum(beyond, np.array(self.widths, np.float32)) * np.array(self.slopes, np.float32)
        total: NDArray[np.float32] = rise.sum(axis=1, dtype=np.float32)
        return total


@dataclass(frozen=True)
class ScoreFormula:
    """How errors become the score of a frame.

    Args:
        newest: how many of the frame's newest samples are scored.
        scales: (channels,) root mean square of each channel's errors on calibration frames, in
            scaled units; all 1 where errors are not standardised.
        limit: largest square of one sample over its channel's scale; None for no limit.
        residual: of the residual, or None where the score is the residual itself.
        latent: of the latent distance, likewise.
    """

    newest: int
    scales: tuple[float, ...]
    limit: float | None = None
    residual: Surprise | None = None
    latent: Surprise | None = None

    @classmethod
    def plain(cls, contract: FrameContract, newest: int | None = None) -> ScoreFormula:
        """The one whose score is the mean squared difference of the scored samples."""
        length, channels = contract.shape
        samples = length if newest is None else newest
        require(samples <= length, "newest", f"1..length ({length})", samples)
        return cls(samples, (1.0,) * channels)

    @property
    def unit(self) -> str:
        """Of the score, in words."""
        if self.latent is not None:
            return "-ln of a probability"
        return "squared scaled units" if self.limit is None else "over the channels' usual errors"

    def score(self, residual: NDArray[Any], latent_distance: NDArray[Any]) -> NDArray[np.float32]:
        """The numpy form of what the graph does last: (n,) and (n,) to scores (n,)."""
        if self.residual is None or self.latent is None:
            return residual.astype(np.float32)
        return self.residual.apply(residual) + self.latent.apply(latent_distance)


def find_observed(frames: NDArray[Any], formula: ScoreFormula) -> NDArray[np.bool_]:
    """(n, channels): whether any scored sample of a channel is there, of frames (n, length, channels)."""
    observed: NDArray[np.bool_] = ~np.isnan(frames[:, -formula.newest :]).all(axis=1)
    return observed


class UsualErrors:
    """What is usual of each channel, gathered from calibration frames block by block."""

    def __init__(self, channels: int) -> None:
        """Start with no frame."""
        self._sums = np.zeros(channels)
        self._counts = np.zeros(channels, np.int64)
        self._frames = 0
        self._finite = True

    def add(
        self, channel_errors: NDArray[Any], latent_distance: NDArray[Any], observed: NDArray[np.bool_] | None = None
    ) -> None:
        """Count frames in.

        Args:
            channel_errors: (n, channels), as ``ScoreFormula.plain`` has them.
            latent_distance: (n,) of the same frames.
            observed: (n, channels) of the same, as ``find_observed`` has it; by default all are.
        """
        seen = np.ones(channel_errors.shape, np.bool_) if observed is None else observed
        self._sums += np.where(seen, channel_errors, 0.0).sum(axis=0, dtype=np.float64)
        self._counts += seen.sum(axis=0)
        self._frames += len(channel_errors)
        self._finite &= bool(np.isfinite(channel_errors).all() and np.isfinite(latent_distance).all())

    def fit(self, config: ScoreConfig, contract: FrameContract) -> ScoreFormula:
        """The formula whose score is the residual.

        Raises:
            TrainingError: there are no frames, or one has no finite errors.
        """
        if not self._frames or not self._finite:
            raise TrainingError(
                f"calibration errors: expected those of at least one frame, all finite. Received: frames="
                f"{self._frames}, finite={self._finite}. Give more data, or lower the learning rate."
            )
        plain = ScoreFormula.plain(contract, config.newest)
        if config.errors == "plain":
            return plain
        # A channel that calibration never sees is known by its mean and spread alone: its error is 1.
        squares = np.where(self._counts > 0, self._sums / np.maximum(self._counts, 1), 1.0)
        return ScoreFormula(plain.newest, tuple(np.sqrt(squares + _LEAST_SCALE**2).tolist()), LIMIT)


def combine(formula: ScoreFormula, residual: NDArray[Any], latent_distance: NDArray[Any]) -> ScoreFormula:
    """The formula that adds how surprising residual (n,) and latent distance (n,) of calibration frames are."""
    return replace(formula, residual=fit_surprise(residual), latent=fit_surprise(latent_distance))


def fit_surprise(values: NDArray[Any]) -> Surprise:
    """The broken line through the tail probabilities of calibration values (n,).

    Beyond the last bend the tail is taken for exponential: surprise grows with the value, so the
    stranger of two frames that are both beyond all experience still scores higher.
    """
    tails = [tail for tail in _BENDS if tail * len(values) >= _LEAST_TAIL] or [1.0]
    knots = np.quantile(values.astype(np.float64), 1 - np.array(tails))
    beyond = np.maximum(values - knots[-1], 0)
    # The mean excess is the maximum likelihood of an exponential tail.
    mean_excess = beyond.sum(dtype=np.float64) / max(np.count_nonzero(beyond), 1)
    keep = np.append(np.diff(knots) > 0, True)  # knots that coincide are one
    heights = -np.log(tails)[keep]
    steepest = 1 / max(mean_excess, float(np.finfo(np.float32).tiny) * 1e6)
    slopes = np.append(np.diff(heights) / np.diff(knots[keep]), steepest)
    return Surprise(tuple(knots[keep].tolist()), tuple(slopes.tolist()))
