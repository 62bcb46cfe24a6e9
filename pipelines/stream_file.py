"""The stream file: one YAML that says where frames come from, what they are and where results go.

    name, input, key, cohort, frame, model, score, threshold, outputs, guarantee, kafka, breaker

An unknown key is an error. Whatever can change a score is copied into the artifact
at training, so a stream file that was edited since cannot.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ae_model.config import (
    FrameContract,
    Missing,
    NetworkConfig,
    ScoreConfig,
    ThresholdConfig,
    check_code_size,
    hint,
)
from ae_model.exceptions import ConfigError
from ae_model.score_formula import ScoreFormula
from pipelines.kafka.security import KafkaSecurity
from pipelines.stream_errors import explain

if TYPE_CHECKING:
    from pipelines.kafka.client import KafkaSettings

READY_STREAMS = Path(__file__).parent / "streams"

Format = Literal["raw", "json", "tf_example", "arrow", "pcm16"]
Share = Annotated[float, Field(gt=0, le=1)]
TOPIC = "^[a-zA-Z0-9._-]{1,249}$"
Topic = Annotated[str, Field(pattern=TOPIC)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(_Strict):
    """Which topic to read, and what one record is."""

    topic: Topic
    format: Format = Field(default="raw", description="How a record's value holds its samples.")
    dtype: Literal["float32", "float64", "int16", "int32", "uint8"] = Field(
        "float32", description="Type of a sample with format raw, little-endian."
    )
    channels: Annotated[int, Field(ge=1, le=65536)] | list[str] = Field(
        description="How many, or their names in order."
    )
    units: list[str] = Field(default=[], description="One per channel, or none.")
    rate_hz: float | None = Field(default=None, gt=0, description="Samples per second of one device.")
    record: Literal["frame"] = Field(default="frame", description="What one record is.")
    partitions: int = Field(default=4, ge=1, le=10000, description="For `topics create`.")
    feature: str = Field(default="frame", min_length=1, description="JSON field, tf.Example feature or Arrow column.")
    max_record_bytes: int = Field(default=1 << 20, ge=1, description="A larger record becomes a dead letter unread.")

    @field_validator("record", mode="before")
    @classmethod
    def _refuse_samples(cls, record: object) -> object:
        if record == "samples":
            raise ValueError("'frame': one record is one frame; cutting a topic of samples into frames is to come")
        return record

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names given, or ch0, ch1, ... for a number."""
        if isinstance(self.channels, int):
            return tuple(f"ch{index}" for index in range(self.channels))
        return tuple(self.channels)


class FrameConfig(_Strict):
    """How long a frame is, and how far the next one starts behind it; in samples."""

    length: int = Field(default=1, ge=1)
    hop: int | None = Field(default=None, ge=1, description="Default: length, so that frames do not overlap.")
    missing: Missing = Field(
        default="refuse", description="What to do with a frame that has missing samples (NaN): mask keeps it."
    )


class OutputsConfig(_Strict):
    """Where results go; null turns codes, denoised or alerts off."""

    codes: Topic | None = Field(default=None, description="Default: the input's name with `codes` for `frames`.")
    denoised: Topic | None = Field(default=None, description="Default: the input's name with `denoised` for `frames`.")
    alerts: Topic | None = Field(default=None, description="Default: the input's name with `alerts` for `frames`.")
    dead_letters: Topic = Field(default="", description="Default: the input's name with `.dlq` behind it.")
    parquet: str | None = Field(default=None, description="Folder of the Parquet tables; none unless given.")
    per: Literal["batch", "frame"] = Field(
        default="batch", description="One record with codes per frame batch, or per frame."
    )

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics in use."""
        return tuple(name for name in (self.codes, self.denoised, self.alerts, self.dead_letters) if name)


class KafkaConfig(_Strict):
    """Which brokers, and how to prove who we are."""

    bootstrap: str = Field(default="localhost:9092", pattern=r"^\S+:\d{1,5}$", description="host:port,...")
    security: KafkaSecurity | None = None


class BreakerConfig(_Strict):
    """Stop when more than this share of the last so many records is unusable."""

    share: Share = 0.5
    records: int = Field(default=1000, ge=1)


class StreamFile(_Strict):
    """One stream, checked; see the module's docstring."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Also the model's name.")
    input: InputConfig
    key: str | None = Field(
        default=None, min_length=1, description="What a record's key names, such as machine; asks for a model per key."
    )
    cohort: str | None = Field(
        default=None, min_length=1, description="Pattern, searched for in a key, whose first group names its cohort."
    )
    frame: FrameConfig = FrameConfig()
    model: NetworkConfig = NetworkConfig()
    score: ScoreConfig = ScoreConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    outputs: OutputsConfig = OutputsConfig()
    guarantee: Literal["at_least_once", "exactly_once"] = Field(
        default="at_least_once", description="exactly_once: a transaction per input partition and bundle."
    )
    kafka: KafkaConfig = KafkaConfig()
    breaker: BreakerConfig = BreakerConfig()
    _given: str = ""

    @model_validator(mode="before")
    @classmethod
    def _name_outputs(cls, data: Any) -> Any:
        """Derive the topics that are not given; a null stays null."""
        given = data.get("outputs", {}) if isinstance(data, dict) else None
        topic = data["input"].get("topic") if given is not None and isinstance(data.get("input"), dict) else None
        if not isinstance(topic, str) or not re.fullmatch(TOPIC, topic) or not isinstance(given, dict):
            return data
        return {**data, "outputs": {**default_outputs(topic), **given}}

    @model_validator(mode="after")
    def _check_together(self) -> StreamFile:
        topics = (self.input.topic, *self.outputs.topics)
        if len(set(topics)) != len(topics):
            raise ValueError(f"outputs: expected topics that differ from the input and each other. Received: {topics}.")
        if self.input.format == "pcm16" and len(self.input.channel_names) > 8:
            raise ValueError(f"input.channels: expected 1..8 with format=pcm16. Received: {self.input.channels!r}.")
        # A stream that says nothing of a model may be one whose frames are only moved.
        if "model" in self.model_fields_set:
            check_code_size(self.contract, self.model)
        self._check_missing()
        ScoreFormula.plain(self.contract, self.score.newest)
        if self.threshold.false_alarms_per_day is not None and self.input.rate_hz is None:
            raise ValueError("threshold.false_alarms_per_day: expected input.rate_hz with it. Received: rate_hz=None.")
        self._check_cohort()
        return self

    def _check_missing(self) -> None:
        kind = f"{self.input.format} of {self.input.dtype}" if self.input.format == "raw" else self.input.format
        if self.frame.missing == "mask" and ("int" in kind or kind == "pcm16"):
            raise ValueError(
                f"frame.missing: expected refuse with {kind}, which has no word for a missing sample. "
                "Received: missing='mask'."
            )

    def _check_cohort(self) -> None:
        if self.cohort is None:
            return
        if self.key is None:
            raise ValueError(f"cohort: expected key beside it, which a cohort is of. Received: cohort={self.cohort!r}.")
        try:
            groups = re.compile(self.cohort).groups
        except re.error as exc:
            raise ValueError(f"cohort: expected a pattern. Received: cohort={self.cohort!r} ({exc}).") from exc
        if groups == 0:
            raise ValueError(
                f"cohort: expected a pattern with a group, such as '^(hall-[0-9]+)-'. Received: cohort={self.cohort!r}."
            )

    @property
    def contract(self) -> FrameContract:
        """What one frame is, as the artifact keeps it."""
        hop = self.frame.length if self.frame.hop is None else self.frame.hop
        units = tuple(self.input.units)
        shape = (self.frame.length, hop, self.input.channel_names)
        return FrameContract(*shape, units, self.input.rate_hz, self.frame.missing)

    @property
    def group(self) -> str:
        """The consumer group, which shows the lag."""
        return f"latentstream.{self.name}"

    @property
    def given(self) -> str:
        """What a person gives to a command for this stream: a ready stream's name, or the path of a file."""
        return self._given or self.name

    def kafka_settings(self, bootstrap: str | None = None) -> KafkaSettings:
        """What a Kafka client needs; ``bootstrap`` wins over the file."""
        # Imported here: reading a stream file needs no Kafka client.
        from pipelines.kafka.client import KafkaSettings

        return KafkaSettings(bootstrap=bootstrap or self.kafka.bootstrap, security=self.kafka.security)


def default_outputs(topic: str) -> dict[str, str]:
    """Names of the output topics of an input topic: ``a.b.frames.v1`` gives ``a.b.codes.v1``."""
    match = re.fullmatch(r"(.+)\.frames(\.v\d+)", topic)
    site, version = match.groups() if match else (topic, "")
    names = {kind: f"{site}.{kind}{version}" for kind in ("codes", "denoised", "alerts")}
    return {**names, "dead_letters": f"{topic}.dlq"}


def ready_streams() -> list[str]:
    """Names of the streams that come with the package."""
    return sorted(path.stem for path in READY_STREAMS.glob("*.yaml"))


def load_stream(name_or_path: str) -> StreamFile:
    """Read a ready stream by name, or a YAML file by path.

    Raises:
        ConfigError: there is no such stream, or its file breaks a rule; every fault is named.
    """
    path = _find(name_or_path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise ConfigError(f"stream file {path}: expected readable YAML. Received: {reason}") from exc
    stream = parse_stream(data, str(path))
    stream._given = name_or_path
    return stream


def parse_stream(data: Any, where: str = "stream") -> StreamFile:
    """Check a stream file's content; ``where`` names it in messages.

    Raises:
        ConfigError: it breaks a rule.
    """
    try:
        return StreamFile.model_validate(data)
    except ValidationError as exc:
        raise ConfigError(explain(exc.errors(), StreamFile, where)) from exc
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    ready = READY_STREAMS / f"{name_or_path}.yaml"
    if "/" in name_or_path or not ready.is_file():
        raise ConfigError(
            f"stream: expected a YAML file or one of {', '.join(ready_streams())}. "
            f"Received: {name_or_path}.{hint(name_or_path, set(ready_streams()))}"
        )
    return ready


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)
