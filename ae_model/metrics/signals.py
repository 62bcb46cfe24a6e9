"""How clean a signal is, beside the clean original."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require


def si_sdr(estimate: NDArray[Any], reference: NDArray[Any]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB: how much of the estimate is the reference.

    Args:
        estimate: (n,) samples; its mean and its loudness do not count.
        reference: (n,) the clean signal.

    Returns:
        Infinite for a scaled copy; NaN where the reference is silent or the estimate constant.

    Raises:
        ConfigError: the lengths differ.

    Source: Le Roux et al. 2019, "SDR: half-baked or well done?", equation 5, with both means removed.
    """
    _check(estimate, reference)
    found = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    wanted = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    if not found.any() or not wanted.any():
        return float("nan")
    target = (found @ wanted) / (wanted @ wanted) * wanted
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((target @ target) / np.square(found - target).sum()))


def stoi(estimate: NDArray[Any], reference: NDArray[Any], rate_hz: float) -> float:
    """Short-time objective intelligibility of speech, about 0 to 1, by pystoi.

    Args:
        estimate: (n,) samples.
        reference: (n,) the clean speech.
        rate_hz: samples per second; both are resampled to 10 kHz.

    Returns:
        NaN where less than 0.4 s of the reference is speech, which the measure needs.

    Raises:
        ConfigError: the lengths differ.

    Source: Taal et al. 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency
    Weighted Noisy Speech".
    """
    from pystoi import stoi as measure

    _check(estimate, reference)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(measure(reference, estimate, round(rate_hz)))
        except RuntimeWarning:
            return float("nan")


def _check(estimate: NDArray[Any], reference: NDArray[Any]) -> None:
    require(
        estimate.shape == reference.shape and estimate.ndim == 1,
        "estimate",
        f"one signal as long as the reference {reference.shape}",
        estimate.shape,
    )
