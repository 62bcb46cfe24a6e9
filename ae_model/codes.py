"""What a latent code is once it has left the model.

float32   the network's own numbers, 4 bytes each
int8      whole steps from a center, 1 byte each, per dimension:

code      -127 ...... -100 .............. 0 .............. 100 ...... 127
training               smallest         center         largest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import CodeDtype, require
from ae_model.exceptions import RecordError
from ae_model.scaling import Statistics

# Codes beyond it are clipped; -128 is left out, so that both sides are alike.
LIMIT = 127
# Steps from the center to the outermost training code. Half of the range is left for a source that moves on: of the
# test frames of server-telemetry's sample 0.2 % were clipped, with 100 steps 29 %; errors rose by 0.02 and 2.4 %.
_REACH = 64
# A lone wild training frame must not make the steps coarse for all others; beyond this, codes are clipped.
_DEVIATIONS = 12.0
# A dimension that hardly moved in training must not turn rounding into codes.
_LEAST_STEP = 1e-6


@dataclass(frozen=True)
class CodeFormat:
    """One code: ``latent`` numbers of ``dtype``, little-endian on the wire.

    Args:
        latent: how many numbers.
        dtype: ``float32``, or ``int8`` for whole steps.
        center: with int8, the network's number that is step 0; one per dimension.
        step: with int8, how far the network's numbers are apart from step to step; likewise.
    """

    latent: int
    dtype: CodeDtype = "float32"
    center: tuple[float, ...] = ()
    step: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that the format is one that can be decoded."""
        require(self.latent >= 1, "latent", "at least 1", self.latent)
        require(self.dtype in ("float32", "int8"), "dtype", "float32 or int8", self.dtype)
        steps = self.latent if self.dtype == "int8" else 0
        require(len(self.center) == steps, "center", f"{steps} numbers with dtype={self.dtype}", self.center)
        require(
            len(self.step) == steps and all(step > 0 for step in self.step), "step", f"{steps} sizes above 0", self.step
        )

    @property
    def bytes(self) -> int:
        """Size of one code."""
        return self.latent * np.dtype(self.dtype).itemsize

    def check(self, codes: NDArray[Any]) -> NDArray[Any]:
        """The codes (n, latent) in this format's dtype, without a copy where they are so already.

        Whole numbers may come as floats, as Parquet keeps them.

        Raises:
            RecordError: they are not codes of this format.
        """
        if codes.ndim != 2 or codes.shape[1] != self.latent or not self._holds(codes):
            raise RecordError(
                "schema.incompatible",
                f"codes: expected (n, {self.latent}) of {self.dtype}. Received: shape={codes.shape}, "
                f"dtype={codes.dtype}. Decode with the model version that wrote them.",
            )
        return codes.astype(self.dtype, copy=False)

    def _holds(self, codes: NDArray[Any]) -> bool:
        if self.dtype == "float32":
            return codes.dtype.kind == "f"
        if codes.dtype != np.int8 and codes.dtype.kind != "f":
            return False
        # NaN fails the comparison.
        return bool(((codes == np.rint(codes)) & (codes >= -LIMIT) & (codes <= LIMIT)).all())


def make_format(dtype: CodeDtype, codes: Statistics) -> CodeFormat:
    """The format of a model's codes.

    Args:
        dtype: of one number.
        codes: statistics of the network's numbers for the training frames, a channel per dimension.
    """
    latent = len(codes.mean)
    if dtype == "float32":
        return CodeFormat(latent)
    spread = _DEVIATIONS * np.sqrt(codes.variance)
    lowest, highest = np.maximum(codes.minimum, codes.mean - spread), np.minimum(codes.maximum, codes.mean + spread)
    step = (highest - lowest) / (2 * _REACH)
    step = np.maximum(step, _LEAST_STEP * step.max()) if step.max() > 0 else np.ones_like(step)
    return CodeFormat(latent, dtype, tuple(((lowest + highest) / 2).tolist()), tuple(step.tolist()))


def count_clipped(codes: NDArray[Any]) -> int:
    """How many of n codes (n, latent) lie at the limit in any dimension, and may have lain beyond; 0 with float32."""
    return int((np.abs(codes) >= LIMIT).any(axis=1).sum()) if codes.dtype == np.int8 else 0
