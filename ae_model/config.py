"""What a model is: value objects that travel inside the artifact as JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ae_model.exceptions import ConfigError
from ae_model.regularisers import CorruptionConfig, SparseConfig, VariationalConfig
from ae_model.rules import from_mapping, hint, require

__all__ = [
    "CorruptionConfig",
    "FrameContract",
    "NetworkConfig",
    "ScoreConfig",
    "SparseConfig",
    "ThresholdConfig",
    "VariationalConfig",
    "check_code_size",
    "from_mapping",
    "hint",
    "require",
]

Network = Literal["constant", "linear", "dense", "conv1d", "conv2d", "recurrent"]
Activation = Literal["relu", "elu", "gelu", "tanh"]
Cell = Literal["lstm", "gru"]
Loss = Literal["mse", "bce", "huber"]
Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine", "plateau"]
CodeDtype = Literal["float32", "int8"]
ScalingKind = Literal["standard", "robust", "minmax", "minmax_shared", "none"]
ErrorScale = Literal["standardised", "plain"]
LatentUse = Literal["ignored", "combined"]
Missing = Literal["refuse", "mask"]
ThresholdMethod = Literal["quantile", "gamma", "pot"]


@dataclass(frozen=True)
class FrameContract:
    """What one frame is; a frame that breaks it never reaches the network.

    ``length`` and ``hop`` are in samples. A frame is float32 (length, channels). With ``missing="mask"``
    some of its samples may be NaN, though never all.
    """

    length: int = 1
    hop: int = 1
    channels: tuple[str, ...] = ("ch0",)
    units: tuple[str, ...] = ()
    rate_hz: float | None = None
    missing: Missing = "refuse"

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the intervals and names."""
        require(self.length >= 1, "length", "a positive number of samples", self.length)
        require(1 <= self.hop <= self.length, "hop", f"1..length ({self.length})", self.hop)
        require(len(self.channels) >= 1, "channels", "at least one name", self.channels)
        require(len(set(self.channels)) == len(self.channels), "channels", "names that differ", self.channels)
        require(
            not self.units or len(self.units) == len(self.channels),
            "units",
            f"one per channel ({len(self.channels)})",
            self.units,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(length, channels) of one frame."""
        return (self.length, len(self.channels))

    @property
    def input_shape(self) -> tuple[int, int]:
        """(length, inputs) of what a network sees of it: the channels, and with a mask which samples are there."""
        length, channels = self.shape
        return (length, 2 * channels if self.missing == "mask" else channels)


@dataclass(frozen=True)
class NetworkConfig:
    """Which autoencoder to train, and how; everything here can change a score.

    ``hidden`` are widths (dense), filters (conv) or units (recurrent), from the frame to the code.
    """

    network: Network = "dense"
    latent: int = 8
    hidden: tuple[int, ...] = ()
    activation: Activation = "relu"
    kernel: int = 3
    cell: Cell = "lstm"
    sparse: SparseConfig | None = None
    corruption: CorruptionConfig | None = None
    contractive: float = 0.0
    variational: VariationalConfig | None = None
    loss: Loss = "mse"
    huber_delta: float | None = None
    optimizer: Optimizer = "adam"
    momentum: float = 0.0
    learning_rate: float = 0.001
    schedule: Schedule = "constant"
    epochs: int = 30
    batch_frames: int = 256
    patience: int = 5
    seed: int = 7
    scaling: ScalingKind = "standard"
    codes: CodeDtype = "float32"

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check ranges and the pairs of settings that exclude each other."""
        require(self.latent >= 1, "latent", "at least 1", self.latent)
        require(all(width >= 1 for width in self.hidden), "hidden", "positive widths", self.hidden)
        require(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(self.batch_frames >= 1, "batch_frames", "at least 1", self.batch_frames)
        require(self.patience >= 1, "patience", "at least 1", self.patience)
        require(
            self.loss != "bce" or not self.centred,
            "loss",
            f"mse with scaling={self.scaling}, or another scaling with bce, whose data must lie in [0, 1]",
            self.loss,
        )
        require(
            not self.solved or self.loss == "mse",
            "loss",
            f"mse with network={self.network}, which is solved exactly",
            self.loss,
        )
        require(
            self.network != "constant" or self.centred,
            "scaling",
            "standard or robust with network=constant, which gives back their centre",
            self.scaling,
        )
        self._check_layers()
        self._check_regularisers()
        self._check_descent()

    @property
    def regularised(self) -> bool:
        """Whether something but its size keeps the code from copying the frame."""
        return bool(self.sparse or self.corruption or self.contractive or self.variational)

    @property
    def solved(self) -> bool:
        """Whether the weights are computed and not descended to."""
        return self.network in ("constant", "linear")

    @property
    def centred(self) -> bool:
        """Whether scaled samples lie around 0, and wild ones are clipped."""
        return self.scaling in ("standard", "robust")

    @property
    def in_unit_range(self) -> bool:
        """Whether scaled samples have to lie in [0, 1]."""
        return self.loss == "bce" or (self.corruption is not None and self.corruption.kind == "salt_pepper")

    def _check_layers(self) -> None:
        require(self.kernel >= 2, "kernel", "at least 2, as a layer takes every second sample", self.kernel)
        layered = len(self.hidden) > 0
        require(
            layered or self.solved or self.network == "dense",
            "hidden",
            f"a layer with network={self.network}",
            self.hidden,
        )
        for field in fields(self):
            if field.name in _USED_BY:
                used = self.network in _USED_BY[field.name] and (field.name != "activation" or layered)
                rule = f"its default {field.default!r}: network={self.network}, hidden={self.hidden} does not use it"
                value = getattr(self, field.name)
                require(used or value == field.default, field.name, rule, value)

    def _check_regularisers(self) -> None:
        require(self.contractive >= 0, "contractive", "0 or more", self.contractive)
        require(
            self.variational is None or not (self.sparse or self.contractive),
            "variational",
            "neither sparse nor contractive beside it: the pull to the prior is what holds that code",
            self.variational,
        )
        require(
            self.corruption is None or self.corruption.kind != "salt_pepper" or not self.centred,
            "scaling",
            f"another than {self.scaling} with corruption=salt_pepper, which sets samples to 0 or 1",
            self.scaling,
        )

    def _check_descent(self) -> None:
        """What the loss, the optimiser or an exact solution has no use for is refused, not ignored."""
        huber, delta = self.loss == "huber", self.huber_delta
        rule = "more than 0, in scaled units, with loss=huber" if huber else "nothing unless loss=huber"
        require(huber == (delta is not None) and (delta is None or delta > 0), "huber_delta", rule, delta)
        require(0.0 <= self.momentum < 1.0, "momentum", "0 up to 1", self.momentum)
        require(not self.momentum or self.optimizer == "sgd", "momentum", "0 unless optimizer=sgd", self.momentum)
        require(
            not self.solved or not (self.momentum or self.schedule != "constant"),
            "network",
            f"no momentum and schedule=constant with network={self.network}, which is solved exactly",
            self.network,
        )


# Where a key means something; with any other network it must be left alone, as it would be ignored.
_CONVOLUTIONS: tuple[Network, ...] = ("conv1d", "conv2d")
_DESCENDED: tuple[Network, ...] = ("dense", *_CONVOLUTIONS, "recurrent")
_USED_BY = {
    "hidden": _DESCENDED,
    "activation": ("dense", *_CONVOLUTIONS),
    "kernel": _CONVOLUTIONS,
    "cell": ("recurrent",),
    "sparse": _DESCENDED,
    "corruption": _DESCENDED,
    "contractive": _DESCENDED,
    "variational": _DESCENDED,
}


def check_code_size(contract: FrameContract, network: NetworkConfig) -> None:
    """Refuse a code in which a frame fits whole, unless a regulariser keeps it from being copied.

    Raises:
        ConfigError: the code is no smaller than the frame, and nothing else holds it.
    """
    width = contract.length * len(contract.channels)
    if network.latent >= width and not network.regularised and network.network != "constant":
        raise ConfigError(
            f"latent: expected less than the {width} values of a frame ({contract.length} x "
            f"{len(contract.channels)}). Received: latent={network.latent}. Take a smaller code, or one of sparse, "
            "corruption, contractive and variational with it: else it learns to copy."
        )


@dataclass(frozen=True)
class ScoreConfig:
    """How errors become the score, which alone is compared with the threshold.

    Args:
        errors: ``standardised`` sets each channel's errors against what it has on calibration
            frames, so that a quiet channel speaks as loud as a noisy one; ``plain`` does not.
        newest: how many of a frame's newest samples are scored; None for all. 1 scores the newest
            sample in the light of those before it, more is a causal mean over so many.
        latent: ``combined`` adds the distance of the code from the training codes, each of the two
            as a tail probability; ``ignored`` leaves it out.
    """

    errors: ErrorScale = "standardised"
    newest: int | None = None
    latent: LatentUse = "ignored"

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check that some sample is scored."""
        require(self.newest is None or self.newest >= 1, "newest", "at least 1 sample", self.newest)


@dataclass(frozen=True)
class ThresholdConfig:
    """How the cut-off on the score is fitted, on calibration frames alone.

    Args:
        method: ``quantile`` of the scores; ``gamma``, the quantile of a gamma distribution fitted to
            their lower nine tenths; ``pot``, peaks over threshold: a generalised Pareto tail fitted
            to the highest, which reaches beyond the frames there are.
        target: share of calibration frames that must stay below; 0.999 unless
            ``false_alarms_per_day`` is given instead.
        false_alarms_per_day: how many episodes of alerts a person bears, per device; needs a rate.
        contamination: share of calibration frames that may be faults themselves; so many of the
            highest are left out.
    """

    method: ThresholdMethod = "quantile"
    target: float | None = None
    false_alarms_per_day: float | None = None
    contamination: float = 0.0

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the ranges, and that there is one target."""
        target, alarms = self.target, self.false_alarms_per_day
        require(target is None or 0.0 < target < 1.0, "target", "a quantile between 0 and 1", target)
        require(alarms is None or alarms > 0.0, "false_alarms_per_day", "more than 0", alarms)
        require(target is None or alarms is None, "target", "none beside false_alarms_per_day", target)
        require(0.0 <= self.contamination < 0.5, "contamination", "0 up to 0.5", self.contamination)

    @property
    def quantile(self) -> float:
        """The target as a share of frames, where alarms are not counted by the day."""
        return 0.999 if self.target is None else self.target
