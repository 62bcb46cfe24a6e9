"""The threshold, fitted on scores of frames that training never saw.

    scores in time    . . | | . . . . . . | . . | | | . . . .      | at or above the threshold
    episodes              └─1─┘           └─────2─────┘            nearer than GAP_MINUTES are one

``target`` counts the frames that reach the threshold, ``false_alarms_per_day`` the episodes, which
are what a person sees. Both are a share of the frames in the end: the share that may reach it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract, ThresholdConfig, ThresholdMethod, require
from ae_model.exceptions import TrainingError
from ae_model.metrics.alerts import GAP_MINUTES, SECONDS_PER_DAY, episodes
from ae_model.tails import Tail, fit_gamma, fit_pareto

# How many times the threshold a score must reach to be called so.
LEVELS = {"warning": 1.0, "major": 2.0, "critical": 5.0}
# Peaks are the frames above this quantile, or above a lower one that leaves enough of them.
_PEAKS_QUANTILE = 0.98
_ENOUGH_PEAKS = 50
# Resampled calibrations behind the interval, and the share of them that it holds.
_RESAMPLES = 100
_INTERVAL = (0.05, 0.95)
_SEED = 7
# More rows than this need no resampling to know their quantiles, and would take minutes.
_MOST_RESAMPLED = 200_000


@dataclass(frozen=True)
class Threshold:
    """The cut-off on the score; a score at or above ``value`` alerts.

    Args:
        value: in the score's own units, more than 0.
        method: how it was fitted.
        target: the share of frames that must stay below, if that was asked for.
        frames: how many calibration frames it rests on.
        false_alarms_per_day: the episodes a day that were asked for instead.
        excluded: how many of the highest calibration frames were left out as possible faults.
        reached: how many calibration frames reach it, those left out among them.
        interval: where nine in ten values would lie, were the same source recorded again.
        tail: what was fitted, for gamma and pot.
        levels: severity names with their multiples of ``value``.
    """

    value: float
    method: ThresholdMethod
    target: float | None
    frames: int
    false_alarms_per_day: float | None = None
    excluded: int = 0
    reached: int = 0
    interval: tuple[float, float] | None = None
    tail: Tail | None = None
    levels: dict[str, float] = field(default_factory=lambda: dict(LEVELS))

    @property
    def asked(self) -> str:
        """What it was fitted to, in words."""
        wish = f"false alarms a day {self.false_alarms_per_day:g}" if self.target is None else f"{self.target:g}"
        return f"{self.method}, {wish}"


def fit_threshold(scores: NDArray[Any], config: ThresholdConfig, contract: FrameContract) -> Threshold:
    """Fit the cut-off that ``config`` asks for.

    A ``quantile`` is one of the scores and never lies between two: with too few frames for the
    target it is the highest.

    Args:
        scores: (n,), finite, in order of time.
        config: the method and its target.
        contract: how many frames make a day.

    Raises:
        TrainingError: there are no scores, or some are not finite.
        ConfigError: alarms are to be counted by the day, and the contract has no rate.
    """
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if len(scores) == 0 or bad:
        raise TrainingError(
            f"calibration scores: expected at least one, all finite. Received: {bad} not finite of {len(scores)}. "
            "Give more data, or lower the learning rate."
        )
    budget = _Budget.of(config, contract)
    kept = _leave_out(np.asarray(scores, np.float64), config.contamination)
    value, tail = _fit(kept, config.method, budget)
    return Threshold(
        value=value,
        method=config.method,
        target=None if budget.counts_episodes else config.quantile,
        frames=len(scores),
        false_alarms_per_day=config.false_alarms_per_day,
        excluded=len(scores) - len(kept),
        # In float32, as the stream compares.
        reached=int(np.count_nonzero(np.float32(scores) >= np.float32(value))),
        interval=_resample(kept, config.method, budget),
        tail=tail,
    )


@dataclass(frozen=True)
class _Budget:
    """The share of frames that may reach the threshold, or of episodes per frame with a gap between them."""

    share: float
    gap_rows: float | None = None

    @classmethod
    def of(cls, config: ThresholdConfig, contract: FrameContract) -> _Budget:
        if config.false_alarms_per_day is None:
            return cls(1 - config.quantile)
        rate_hz = contract.rate_hz
        require(rate_hz is not None, "false_alarms_per_day", "input.rate_hz beside it, to know a day", rate_hz)
        frames_per_s = float(rate_hz or math.nan) / contract.hop
        return cls(config.false_alarms_per_day / (frames_per_s * SECONDS_PER_DAY), GAP_MINUTES * 60 * frames_per_s)

    @property
    def counts_episodes(self) -> bool:
        return self.gap_rows is not None

    def peaks(self, scores: NDArray[np.float64], start: float) -> NDArray[np.float64]:
        """The scores at or above ``start``; of an episode the highest alone."""
        alerts = scores >= start
        if self.gap_rows is None:
            return scores[alerts]
        return np.array([scores[first:stop].max() for first, stop in episodes(alerts, self.gap_rows)])


def _leave_out(scores: NDArray[np.float64], contamination: float) -> NDArray[np.float64]:
    count = math.ceil(contamination * len(scores))
    if not count or count >= len(scores):
        return scores
    kept = np.ones(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = False
    return scores[kept]


def _fit(scores: NDArray[np.float64], method: ThresholdMethod, budget: _Budget) -> tuple[float, Tail | None]:
    if method == "quantile":
        value, tail = _empirical(scores, budget), None
    else:
        value, tail = _by_gamma(scores, budget) if method == "gamma" else _by_peaks(scores, budget)
    # A perfect copy scores 0 and must not alert, even when all calibration frames were perfect.
    return max(value, float(np.finfo(np.float32).tiny)), tail


def _empirical(scores: NDArray[np.float64], budget: _Budget) -> float:
    if not budget.counts_episodes:
        return float(np.quantile(scores, 1 - budget.share, method="higher"))
    value = float(scores.max())
    for candidate in _falling(scores):
        if len(budget.peaks(scores, candidate)) > budget.share * len(scores):
            break
        value = float(candidate)
    return value


def _falling(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    descending = -np.sort(-scores)
    ranks = np.unique(np.geomspace(1, len(scores), 400).astype(int)) - 1
    candidates: NDArray[np.float64] = descending[ranks]
    return candidates


def _peaks_start(scores: NDArray[np.float64]) -> float:
    quantile = min(_PEAKS_QUANTILE, max(1 - _ENOUGH_PEAKS / len(scores), 0.5))
    return float(np.quantile(scores, quantile, method="higher"))


def _by_peaks(scores: NDArray[np.float64], budget: _Budget) -> tuple[float, Tail]:
    start = _peaks_start(scores)
    peaks = budget.peaks(scores, start)
    tail = fit_pareto(peaks, start, len(peaks) / len(scores))
    # Below the start there is no tail, and frames enough.
    return (tail.reached_by(budget.share) if budget.share < tail.share else _empirical(scores, budget)), tail


def _by_gamma(scores: NDArray[np.float64], budget: _Budget) -> tuple[float, Tail]:
    start = _peaks_start(scores)
    # Frames alert in runs: how many episodes there are for each frame above a high score.
    per_frame = len(budget.peaks(scores, start)) / np.count_nonzero(scores >= start)
    tail = fit_gamma(scores)
    return tail.reached_by(min(budget.share / per_frame, 1.0)), tail


def _resample(scores: NDArray[np.float64], method: ThresholdMethod, budget: _Budget) -> tuple[float, float] | None:
    """The interval by a circular block bootstrap, whose blocks keep neighbours together; None for very many scores.

    Source: Politis and Romano 1992, "A circular block-resampling procedure for stationary data".
    """
    n = len(scores)
    if n > _MOST_RESAMPLED:
        return None
    block = math.ceil(math.sqrt(n))
    random = np.random.default_rng(_SEED)
    values = []
    for _ in range(_RESAMPLES):
        starts = random.integers(0, n, math.ceil(n / block))
        rows = (starts[:, None] + np.arange(block)).ravel()[:n] % n
        values.append(_fit(scores[rows], method, budget)[0])
    low, high = np.quantile(values, _INTERVAL)
    return float(low), float(high)
