"""What is in latent codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.latent import ACTIVE_VARIANCE

_MAX_STEPS = 1000


def active_units(codes: NDArray[Any]) -> int:
    """How many dimensions of a variational code say anything of the frame.

    Args:
        codes: (n, latent) means of the posterior, where the prior is of variance 1.

    Source: Burda et al. 2016, "Importance Weighted Autoencoders", section 5.2.
    """
    return int(np.count_nonzero(codes.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE))


def probe_accuracy(codes: NDArray[Any], classes: NDArray[Any]) -> float:
    """Share of classes that a logistic regression reads from codes it has not seen.

    It learns from every other frame and is judged on the rest.

    Args:
        codes: (n, latent).
        classes: (n,) the class of each frame.

    Returns:
        NaN where either half has fewer than two classes.

    Raises:
        ConfigError: the lengths differ.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require(len(codes) == len(classes), "classes", f"one for each of {len(codes)} codes", len(classes))
    if min(len(np.unique(classes[half::2])) for half in (0, 1)) < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_STEPS))
    probe.fit(codes[::2], classes[::2])
    return float(probe.score(codes[1::2], classes[1::2]))


def largest_class(classes: NDArray[Any]) -> float:
    """Share of the most frequent class: what a guess without any code gets right; NaN for none."""
    _, counts = np.unique(classes, return_counts=True)
    return float(counts.max() / counts.sum()) if len(counts) else float("nan")
