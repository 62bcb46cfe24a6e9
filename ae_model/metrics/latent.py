"""What is in latent codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.latent import ACTIVE_VARIANCE

_MAX_STEPS = 1000
_FOLDS = 5


def active_units(codes: NDArray[Any]) -> int:
    """How many dimensions of a variational code say anything of the frame.

    Args:
        codes: (n, latent) means of the posterior, where the prior is of variance 1.

    Source: Burda et al. 2016, "Importance Weighted Autoencoders", section 5.2.
    """
    return int(np.count_nonzero(codes.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE))


def probe_accuracy(codes: NDArray[Any], classes: NDArray[Any]) -> float:
    """Share of classes that a logistic regression reads from codes it has not seen.

    Five times over it learns from four fifths of the codes and is judged on the rest. Classes of
    fewer than five frames are left out.

    Args:
        codes: (n, latent).
        classes: (n,) the class of each frame.

    Returns:
        NaN where fewer than two classes are left.

    Raises:
        ConfigError: the lengths differ.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require(len(codes) == len(classes), "classes", f"one for each of {len(codes)} codes", len(classes))
    names, counts = np.unique(classes, return_counts=True)
    frequent = np.isin(classes, names[counts >= _FOLDS])
    if np.count_nonzero(counts >= _FOLDS) < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_STEPS))
    parts = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    return float(cross_val_score(probe, codes[frequent], classes[frequent], cv=parts).mean())


def largest_class(classes: NDArray[Any]) -> float:
    """Share of the most frequent class: what a guess without any code gets right; NaN for none."""
    _, counts = np.unique(classes, return_counts=True)
    return float(counts.max() / counts.sum()) if len(counts) else float("nan")
