"""Which model version scores a record: the first that there is, of its key, its cohort, all keys, or statistics.

Settled when a run starts, as plain values that travel to the workers: a version that is promoted
while it runs is for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ae_model import artifact, manifest
from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.manifest import Manifest
from ae_model.scopes import Layer, find_cohort, is_baseline
from pipelines.frame_batch import Scorer
from pipelines.stream_file import StreamFile

_LOG = logging.getLogger(__name__)
# Manifests of so many models are kept, to explain alerts; each is some 50 KiB.
_KEPT_MANIFESTS = 1024


class Candidate(NamedTuple):
    """One model version of a stream."""

    layer: Layer
    model: str
    version: int


@dataclass(frozen=True)
class Routes:
    """All model versions of a run.

    Args:
        models: folder of models.
        rest: for any record, in the order in which they are asked: the global one, the statistics.
        keyed: whether the stream asks for a model per key.
        own: by key.
        cohorts: by cohort.
        cohort: pattern whose first group names a key's cohort.
    """

    models: str
    rest: tuple[Candidate, ...]
    keyed: bool = False
    own: Mapping[str, Candidate] = field(default_factory=dict)
    cohorts: Mapping[str, Candidate] = field(default_factory=dict)
    cohort: str | None = None

    @property
    def only(self) -> Candidate | None:
        """The model of a stream that has one."""
        return None if self.keyed else self.rest[0]

    def find(self, key: bytes | None) -> tuple[Candidate, ...]:
        """The candidates for a record's key, in the order in which they are asked; at least one."""
        return (*self._of_key(key), *self.rest) if key is not None and self.keyed else self.rest

    def path(self, candidate: Candidate) -> str:
        """The folder of a model version."""
        return str(Path(self.models) / candidate.model / str(candidate.version))

    def _of_key(self, key: bytes) -> Iterator[Candidate]:
        try:
            text = key.decode()
        except UnicodeDecodeError:
            # Keys of models are text, so no model is for this one.
            return
        if text in self.own:
            yield self.own[text]
        cohort = find_cohort(self.cohort, text)
        if cohort is not None and cohort in self.cohorts:
            yield self.cohorts[cohort]


def find_routes(stream: StreamFile, models: Path, version: int | None = None) -> Routes:
    """Find the models of a stream.

    One model alone is verified when it is loaded. Of many, each is verified here but for what it
    computes, which takes 7 ms and not 120. Of many, one that is damaged or takes other frames is
    left out and named in the log; its keys are scored by the next layer.

    Raises:
        ConfigError: a version was given, where there are many models.
        ArtifactError: there is none that answers for any key, or the only one is refused.
    """
    if stream.key is not None and version is not None:
        raise ConfigError(
            f"--model-version: expected none with a model per {stream.key}. Received: model_version={version}. "
            "Promote the versions to serve."
        )
    if stream.key is None:
        path = artifact.resolve(models, stream.name, version)
        check_contract(path, manifest.read(path), stream)
        return Routes(str(models), (Candidate("global", stream.name, int(path.name)),))
    found = {candidate: read for candidate, read in _verified(stream, models)}
    rest = tuple(candidate for layer in ("global", "statistics") for candidate in found if candidate.layer == layer)
    if not rest:
        raise ArtifactError(
            f"models {models}: expected {stream.name} or {stream.name}.statistics, for records of any key. "
            f"Received: none that can be used. Run `latentstream train {stream.given}`."
        )
    usable = {c: read for c, read in found.items() if _writes_like(rest[0], found, c)}
    return Routes(
        models=str(models),
        rest=tuple(candidate for candidate in rest if candidate in usable),
        keyed=True,
        own={read.scope.key or "": c for c, read in usable.items() if c.layer == "own"},
        cohorts={read.scope.key or "": c for c, read in usable.items() if c.layer == "cohort"},
        cohort=stream.cohort,
    )


def check_contract(path: Path, found: Manifest, stream: StreamFile) -> None:
    """Refuse a model of other frames.

    Raises:
        ArtifactError: it was trained for another contract than the stream's.
    """
    if found.contract != stream.contract:
        raise ArtifactError(
            f"model {path}: expected frames as in stream {stream.name}, {stream.contract}. "
            f"Received: {found.contract}. Train the stream again."
        )


@lru_cache(maxsize=_KEPT_MANIFESTS)
def read_manifest(models: str, scorer: Scorer) -> Manifest:
    """The manifest of what scored a frame, which was verified before it did."""
    return manifest.read(Path(models) / scorer.model / str(scorer.version))


def _verified(stream: StreamFile, models: Path) -> Iterator[tuple[Candidate, Manifest]]:
    for folder in [Path(models) / stream.name, *sorted(Path(models).glob(f"{stream.name}.*"))]:
        if is_baseline(folder.name) or not (folder / artifact.CURRENT).is_file():
            continue
        try:
            path = artifact.resolve(models, folder.name)
            found = artifact.verify(path)
            check_contract(path, found, stream)
        except ArtifactError as exc:
            _LOG.error("left out, so that the next layer scores: %s", exc)
        else:
            if found.scope.name(stream.name) == folder.name and not _other_cohorts(found, stream):
                yield Candidate(found.scope.layer, folder.name, found.version), found


def _other_cohorts(found: Manifest, stream: StreamFile) -> bool:
    """Whether it is a cohort's model by another pattern, under which the name may mean other keys."""
    return found.scope.layer == "cohort" and found.scope.cohort != stream.cohort


def _writes_like(first: Candidate, found: Mapping[Candidate, Manifest], other: Candidate) -> bool:
    """Whether both write codes of one form, as the frames of a batch must have."""
    expected, received = ((c.dtype, c.latent) for c in (found[first].codes, found[other].codes))
    if expected != received:
        _LOG.error(
            "left out, so that the next layer scores: model %s version %d: expected codes as %s has, %s. "
            "Received: %s. Train the stream again, or promote another version.",
            *(other.model, other.version, first.model, expected, received),
        )
    return expected == received
