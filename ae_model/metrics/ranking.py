"""How well a score ranks labelled rows above the others, whatever the threshold."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.metrics.volume import volumes

# A volume of a random score has no closed form; its mean over this many draws varies by about 0.001.
_DRAWS = 5


@dataclass(frozen=True)
class Ranking:
    """Areas and volumes, 0 to 1, higher is better; NaN where all rows are labelled alike.

    Args:
        vus_pr: volume under the precision-recall surface.
        auc_pr: area under the precision-recall curve, as average precision.
        vus_roc: volume under the ROC surface.
        auc_roc: area under the ROC curve.
    """

    vus_pr: float
    auc_pr: float
    vus_roc: float
    auc_roc: float


def rank_rows(scores: NDArray[Any], labels: NDArray[Any], window: int) -> Ranking:
    """Measure a score by its order alone; a score that is NaN ranks highest, as it alerts.

    Args:
        scores: (n,) higher is stranger.
        labels: (n,) non-zero within an event.
        window: of the volumes, in rows; ``volume.find_window`` chooses one as published results do.

    Raises:
        ConfigError: the lengths differ, or the window is negative.
    """
    require(len(scores) == len(labels), "scores", f"as many rows as labels ({len(labels)})", len(scores))
    truth = np.asarray(labels) != 0
    ranks = _rank(scores)
    vus_roc, vus_pr = volumes(ranks, truth, window)
    auc_roc, auc_pr = _areas(ranks, truth)
    return Ranking(vus_pr, auc_pr, vus_roc, auc_roc)


def rank_at_random(labels: NDArray[Any], window: int) -> Ranking:
    """What a score without any knowledge reaches on these labels.

    The areas are their expectations, 1/2 and the share of labelled rows; the volumes are means
    over seeded draws.

    Args:
        labels: (n,) non-zero within an event.
        window: as for ``rank_rows``.

    Raises:
        ConfigError: the window is negative.
    """
    truth = np.asarray(labels) != 0
    rng = np.random.default_rng(0)
    vus_roc, vus_pr = np.mean([volumes(rng.permutation(len(truth)), truth, window) for _ in range(_DRAWS)], axis=0)
    known = truth.any() and not truth.all()
    auc_roc, auc_pr = (0.5, float(truth.mean())) if known else (float("nan"), float("nan"))
    return Ranking(float(vus_pr), auc_pr, float(vus_roc), auc_roc)


def mean_ranking(rankings: list[Ranking]) -> Ranking:
    """The mean over entities, each with the same weight; entities whose numbers are NaN are left out."""
    rows = np.array([astuple(ranking) for ranking in rankings]).reshape(-1, 4)
    known = rows[~np.isnan(rows).any(axis=1)]
    return Ranking(*(known.mean(axis=0).tolist() if len(known) else [float("nan")] * 4))


def _rank(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers in the order of the scores, equal where they are; NaN stands with infinity."""
    values = np.asarray(scores, np.float64)
    _, ranks = np.unique(np.where(np.isnan(values), np.inf, values), return_inverse=True)
    return ranks


def _areas(ranks: NDArray[np.int64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if truth.all() or not truth.any():
        return float("nan"), float("nan")
    return float(roc_auc_score(truth, ranks)), float(average_precision_score(truth, ranks))
