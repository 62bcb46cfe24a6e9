"""What is known of a variational code once it is trained: the prior to draw from, and how much of it is used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A dimension is active when its mean code varies by more than this over the frames.
# Source: Burda, Grosse and Salakhutdinov 2016, section 5.2.
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class Prior:
    """A mixture of Gaussians over codes; the standard prior has one component of mean 0 and deviation 1.

    Args:
        weights: of the components, which sum to 1.
        means: by component, (latent,).
        deviations: likewise.
    """

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    deviations: tuple[tuple[float, ...], ...]

    @property
    def variances(self) -> NDArray[np.float64]:
        """(latent,) of the whole mixture."""
        weights, means = np.array(self.weights), np.array(self.means)
        squares = np.square(self.deviations) + np.square(means)
        variances: NDArray[np.float64] = weights @ squares - np.square(weights @ means)
        return variances


@dataclass(frozen=True)
class CodeUse:
    """How much of the code carries anything, on frames that training never saw.

    Args:
        variances: (latent,) of the mean code over frames, over that of the prior.
        divergences: (latent,) nats that each dimension tells of a frame: its divergence from the prior,
            averaged over frames.
    """

    variances: tuple[float, ...]
    divergences: tuple[float, ...]

    @property
    def active_units(self) -> int:
        """Dimensions whose mean code moves with the frame; the others only add noise."""
        return sum(variance > ACTIVE_VARIANCE for variance in self.variances)
