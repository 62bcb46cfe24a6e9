"""What a latent code is once it has left the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.exceptions import RecordError


@dataclass(frozen=True)
class CodeFormat:
    """One code: ``latent`` numbers of ``dtype``, little-endian on the wire."""

    latent: int
    dtype: Literal["float32"] = "float32"

    def __post_init__(self) -> None:
        """Check that the format is one that can be decoded."""
        require(self.latent >= 1, "latent", "at least 1", self.latent)
        require(self.dtype == "float32", "dtype", "float32", self.dtype)

    def check(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """The codes (n, latent) as float32, without a copy where they are so already.

        Raises:
            RecordError: they are not codes of this format.
        """
        if codes.ndim != 2 or codes.shape[1] != self.latent or codes.dtype.kind != "f":
            raise RecordError(
                "schema.incompatible",
                f"codes: expected (n, {self.latent}) of {self.dtype}. Received: shape={codes.shape}, "
                f"dtype={codes.dtype}. Decode with the model version that wrote them.",
            )
        return codes.astype(self.dtype, copy=False)
