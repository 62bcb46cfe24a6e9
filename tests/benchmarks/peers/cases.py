"""What is compared: each leg with its environment, its model, its topic, and what it is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.bench import PARTITIONS, RUN_LENGTH

OURS = "project"
# Frames of 1 KiB: so many samples of so many channels.
SHAPES = {"dense": (1, 256), "conv": (32, 8)}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"network": "dense", "hidden": [128], "latent": 16, "epochs": 1},
    "conv": {"network": "conv1d", "hidden": [16, 32], "latent": 16, "epochs": 1},
}
# Frames that fill every partition alike: each gets a run of them in turn.
_TURN = RUN_LENGTH * PARTITIONS
# By topic: how many frames, and how many in a hundred of them are no frames. A leg should take some ten seconds.
TOPICS = {"long": (390 * _TURN, 0), "poisoned": (390 * _TURN, 1), "middle": (78 * _TURN, 0), "short": (4 * _TURN, 0)}
QUICK_TOPICS = {name: (max(_TURN, frames // 5 // _TURN * _TURN), poison) for name, (frames, poison) in TOPICS.items()}


@dataclass(frozen=True)
class Case:
    """One leg.

    Args:
        name: in the tables.
        script: in ``legs/``.
        environment: name of a lock in ``environments/``, or the project's own.
        topic: of TOPICS.
        model: of MODELS.
        base: the case whose speed is 1.
        outputs: of our stream file.
        parquet: whether our run writes tables.
    """

    name: str
    script: str
    environment: str = OURS
    topic: str = "long"
    model: str = "dense"
    base: str = "bare"
    outputs: Mapping[str, Any] = field(default_factory=dict)
    parquet: bool = False


CASES = (
    Case("bare", "bare"),
    Case("latentstream", "latentstream_run"),
    Case("confluent-kafka loop", "confluent_loop", "confluent"),
    Case("kafka-python loop", "kafka_python_loop", topic="middle"),
    Case("Beam RunInference", "beam_run_inference", "beam", topic="middle"),
    Case("Bytewax, batched", "bytewax_batches", "bytewax", topic="middle"),
    Case("Quix Streams, by message", "quix_messages", "quix", topic="short"),
    Case("latentstream, Parquet too", "latentstream_run", parquet=True),
    Case("latentstream, record per frame", "latentstream_run", topic="middle", outputs={"per": "frame"}),
    Case("latentstream, 1 % poison", "latentstream_run", topic="poisoned"),
    Case("bare conv1d", "bare", topic="middle", model="conv", base="bare conv1d"),
    Case("latentstream conv1d", "latentstream_run", topic="middle", model="conv", base="bare conv1d"),
)
QUICK = ("bare", "latentstream")


@dataclass(frozen=True)
class Goal:
    """A ratio of two cases that must be reached.

    Args:
        case: whose speed is divided.
        other: by whose.
        must: the least.
        aim: the value to aim at.
    """

    case: str
    other: str
    must: float
    aim: float


GOALS = (
    Goal("latentstream", "bare", 0.55, 0.70),
    Goal("latentstream conv1d", "bare conv1d", 0.88, 0.95),
    Goal("latentstream, record per frame", "bare", 0.30, 0.50),
    Goal("latentstream", "Beam RunInference", 4, 5),
    Goal("latentstream", "Bytewax, batched", 4, 6),
    Goal("latentstream", "kafka-python loop", 7, 10),
    Goal("latentstream", "confluent-kafka loop", 1.2, 1.8),
    Goal("latentstream, Parquet too", "latentstream", 0.85, 0.92),
    Goal("latentstream, 1 % poison", "latentstream", 0.90, 0.97),
)
