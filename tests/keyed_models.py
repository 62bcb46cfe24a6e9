"""Small models of every layer for one stream, and what each of them says of frames alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import small_models
from small_models import CONTRACT, make_frames

from ae_model import artifact
from ae_model.calibration import Threshold
from ae_model.config import NetworkConfig
from ae_model.model import Detector
from ae_model.scaling import Statistics, from_percentiles
from ae_model.scopes import Scope
from pipelines.routes import Candidate, Routes, find_routes
from pipelines.stream_file import StreamFile, parse_stream

COHORT = r"^(\w)-"
# Scope, and by how much the frames that trained the model are larger than the usual ones.
SCOPES = (
    (Scope("own", "a-1"), 1.0),
    (Scope("own", "b/1"), 2.0),
    (Scope("cohort", "a", COHORT), 3.0),
    (Scope("global"), 4.0),
    (Scope("statistics"), 1.0),
)
KEYS = (b"a-1", b"a-2", b"b/1", b"c", b"", b"\xff", None)
NAMES = {
    b"a-1": "small.own.a-1",
    b"a-2": "small.cohort.a",
    b"b/1": "small.own.b.2f1",
    b"c": "small",
    b"": "small",
    b"\xff": "small",
    None: "small",
}


def describe(**changes: Any) -> dict[str, Any]:
    """The stream file, as a mapping."""
    return {
        "name": "small",
        "key": "device",
        "cohort": COHORT,
        "input": {
            "topic": "plant.small.frames.v1",
            "channels": list(CONTRACT.channels),
            "units": list(CONTRACT.units),
            "rate_hz": CONTRACT.rate_hz,
            "partitions": 3,
        },
        "frame": {"length": CONTRACT.length},
        **changes,
    }


def make_stream(**changes: Any) -> StreamFile:
    """A stream with a model per device."""
    return parse_stream(describe(**changes))


@cache
def fitted(scope: Scope, size: float, latent: int = 3) -> Any:
    """Principal components of frames of this size, or their statistics."""
    from ae_model.training import fit

    frames = make_frames(300) * np.float32(size)
    batches = (small_models.batches(frames), small_models.batches(frames[:60]))
    if scope.layer != "statistics":
        return fit(CONTRACT, NetworkConfig("linear", latent), small_models.make_scaling(frames), *batches)
    percentiles = np.percentile(frames.reshape(-1, 3), np.arange(101), axis=0).T
    scaling = from_percentiles(percentiles, Statistics.of(frames))
    return fit(CONTRACT, NetworkConfig("constant", latent, scaling="robust"), scaling, *batches)


def publish(models: Path, scope: Scope, size: float, latent: int = 3) -> Path:
    """One model as its next version; its threshold says which it is."""
    name = scope.name("small")
    threshold = Threshold(0.01 + 0.01 * size, "quantile", 0.99, 50)
    facts = replace(small_models.facts(name), scope=scope, threshold=threshold, batch_frames=7)
    candidate = models / f"candidate-{name}-{len(artifact.versions(models, name))}"
    artifact.export(candidate, fitted(scope, size, latent), facts, make_frames(8, seed=2))
    artifact.publish(candidate, models, name)
    return artifact.resolve(models, name)


def publish_all(models: Path) -> Path:
    """Every layer of the stream."""
    for scope, size in SCOPES:
        publish(models, scope, size)
    return models


def routes(models: Path) -> Routes:
    """What a run would settle when it starts."""
    return find_routes(make_stream(), models)


def load_all(models: Path) -> dict[str, Detector]:
    """Each model by name, for what it says alone."""
    return {scope.name("small"): Detector.load(models / scope.name("small") / "1") for scope, _ in SCOPES}


def candidate(scope: Scope, version: int = 1) -> Candidate:
    """A model version as routes name it."""
    return Candidate(scope.layer, scope.name("small"), version)
