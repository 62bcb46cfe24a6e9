"""The far end: codes and the model that wrote them are enough to get frames back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ae_model.model import Detector


def decode(codes: NDArray[Any], detector: Detector) -> NDArray[np.float32]:
    """Turn codes back into frames, the same that the sender's ``reconstruct`` gives.

    Args:
        codes: (n, latent) of the detector's own model version.
        detector: that version, loaded.

    Returns:
        (n, length, channels) float32 in own units.

    Raises:
        RecordError: they are not codes of this model.
    """
    frames = [detector.decode(part) for part in _parts(codes, detector.manifest.batch_frames)]
    return np.concatenate(frames)


def _parts(codes: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """At least one part, so that no codes decode to no frames of the right shape."""
    return [codes[start : start + size] for start in range(0, max(len(codes), 1), size)]
