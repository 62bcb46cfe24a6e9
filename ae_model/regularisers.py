"""What may be composed with any network but the linear one; settings that travel inside the artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ae_model.rules import require


@dataclass(frozen=True)
class SparseConfig:
    """A penalty on the activity of the code, added to the loss: few of its units shall answer to one frame.

    ``l1`` makes the code ReLU and adds ``weight`` times its sum; ``kl`` makes it a sigmoid and adds ``weight``
    times the divergence of each unit's mean activity from ``target``.
    """

    kind: Literal["l1", "kl"]
    weight: float
    target: float = 0.05

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the ranges; l1 has no target."""
        require(self.weight > 0, "sparse.weight", "more than 0", self.weight)
        require(0 < self.target < 1, "sparse.target", "a mean activity between 0 and 1", self.target)
        unused = self.kind == "kl" or self.target == SparseConfig.target
        require(unused, "sparse.target", "none with kind=l1, which pulls to 0", self.target)


@dataclass(frozen=True)
class CorruptionConfig:
    """What is done to a frame before it is encoded, in training only; the target stays clean.

    ``amount`` is the standard deviation of ``gaussian`` noise in scaled units, or the share of samples that
    ``masking`` sets to 0 and ``salt_pepper`` to 0 or 1.
    """

    kind: Literal["gaussian", "masking", "salt_pepper"]
    amount: float

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the range, which is the same for all kinds."""
        require(0 < self.amount < 1, "corruption.amount", "between 0 and 1", self.amount)


@dataclass(frozen=True)
class VariationalConfig:
    """A code with a spread, pulled to a prior from which new frames can be drawn.

    ``beta`` weighs the pull; ``free_bits`` is how many nats a dimension may hold without being pulled. The
    ``learned`` prior is a mixture of Gaussians that is trained with the rest.
    """

    beta: float = 1.0
    free_bits: float = 0.0
    prior: Literal["standard", "learned"] = "standard"

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.beta > 0, "variational.beta", "more than 0", self.beta)
        require(self.free_bits >= 0, "variational.free_bits", "0 nats or more", self.free_bits)
