"""What a code costs beside coders without a model; sizes in bytes."""

from __future__ import annotations

import lzma
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Halvings of the step: by then it is exact to a billionth of the signal's range.
_HALVINGS = 30
_INTEGERS = (np.int8, np.int16, np.int32, np.int64)


def lossless_bytes(rows: NDArray[Any]) -> int:
    """Size of (n, columns) numbers packed by LZMA, column by column or row by row, whichever is less.

    Args:
        rows: in the type in which they are kept.
    """
    return min(len(lzma.compress(rows.tobytes(order=order))) for order in ("C", "F"))


def rounded_bytes(samples: NDArray[Any], steps: NDArray[Any]) -> int:
    """Size of samples rounded to multiples of a step, as differences from row to row, packed by LZMA.

    No sample is further off than half a step.

    Args:
        samples: (n, channels) finite, rows in order of time.
        steps: (channels,) more than 0, in the channels' own units.
    """
    levels = np.rint(samples.astype(np.float64) / steps)
    differences = np.diff(levels, axis=0, prepend=0)  # (n, channels)
    largest = np.abs(differences).max(initial=0)
    kind = next((kind for kind in _INTEGERS if largest <= np.iinfo(kind).max), np.float64)
    return lossless_bytes(differences.astype(kind))


def steps_for(nrmse: float, samples: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float64]:
    """The steps, (channels,), at which rounding alone has this error; see ``distortion.Distortion``.

    Args:
        nrmse: more than 0 and less than 1.
        samples: (n, channels) finite.
        scale: (channels,) own units in which errors compare; steps are the same multiple of it in each channel.
    """
    scaled = samples.astype(np.float64) / scale
    spread = np.square(scaled - scaled.mean(axis=0)).mean()
    low, high = 0.0, 2 * float(np.abs(scaled).max(initial=1.0))
    for _ in range(_HALVINGS):
        step = (low + high) / 2
        error = np.square(np.rint(scaled / step) * step - scaled).mean()
        low, high = (step, high) if error <= nrmse**2 * spread else (low, step)
    found: NDArray[np.float64] = np.asarray(scale, np.float64) * high
    return found
