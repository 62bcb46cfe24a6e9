"""What a model is: value objects that travel inside the artifact as JSON."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from ae_model.exceptions import ConfigError

Network = Literal["linear", "dense"]
Loss = Literal["mse", "bce", "huber"]
Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine", "plateau"]
CodeDtype = Literal["float32", "int8"]
ScalingKind = Literal["standard", "minmax", "minmax_shared", "none"]
ErrorScale = Literal["standardised", "plain"]
LatentUse = Literal["ignored", "combined"]
ThresholdMethod = Literal["quantile", "gamma", "pot"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class FrameContract:
    """What one frame is; a frame that breaks it never reaches the network.

    ``length`` and ``hop`` are in samples. A frame is float32 (length, channels).
    """

    length: int = 1
    hop: int = 1
    channels: tuple[str, ...] = ("ch0",)
    units: tuple[str, ...] = ()
    rate_hz: float | None = None

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


@dataclass(frozen=True)
class NetworkConfig:
    """Which autoencoder to train, and how; everything here can change a score."""

    network: Network = "dense"
    latent: int = 8
    hidden: tuple[int, ...] = ()
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
            self.loss != "bce" or self.scaling != "standard",
            "loss",
            "mse with scaling=standard, or another scaling with bce, whose data must lie in [0, 1]",
            self.loss,
        )
        require(
            self.network != "linear" or (self.loss == "mse" and not self.hidden),
            "network",
            "loss=mse and no hidden layers with network=linear, which is solved exactly",
            self.network,
        )
        self._check_descent()

    def _check_descent(self) -> None:
        """What the loss, the optimiser or an exact solution has no use for is refused, not ignored."""
        huber, delta = self.loss == "huber", self.huber_delta
        rule = "more than 0, in scaled units, with loss=huber" if huber else "nothing unless loss=huber"
        require(huber == (delta is not None) and (delta is None or delta > 0), "huber_delta", rule, delta)
        require(0.0 <= self.momentum < 1.0, "momentum", "0 up to 1", self.momentum)
        require(not self.momentum or self.optimizer == "sgd", "momentum", "0 unless optimizer=sgd", self.momentum)
        require(
            self.network != "linear" or not (self.momentum or self.schedule != "constant"),
            "network",
            "no momentum and schedule=constant with network=linear, which is solved exactly",
            self.network,
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


def require(rule: bool, name: str, expected: str, received: object) -> None:
    """Raise ConfigError in the house form unless the rule holds."""
    if not rule:
        raise ConfigError(f"{name}: expected {expected}. Received: {name}={received!r}.")


def from_mapping(cls: type[_T], mapping: dict[str, Any]) -> _T:
    """Build a config object from JSON, turning lists into tuples and mappings into the objects they stand for.

    Raises:
        ConfigError: a key is unknown; the message names the nearest known one.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{cls.__name__}: expected one of {sorted(known)}. Received: {key}.{hint(key, known)}")
    hints = get_type_hints(cls)
    return cls(**{key: _from_json(hints[key], value) for key, value in mapping.items()})


def _from_json(annotation: Any, value: Any) -> Any:
    if isinstance(value, dict):
        holders = [kind for kind in (annotation, *get_args(annotation)) if is_dataclass(kind)]
        return from_mapping(holders[0], value) if holders else value  # type: ignore[arg-type]
    return tuple(value) if isinstance(value, list) else value


def hint(key: str, known: set[str]) -> str:
    """A ``did you mean`` sentence for a misspelt key, or nothing."""
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
