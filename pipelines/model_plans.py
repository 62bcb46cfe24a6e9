"""Which models a stream with a model per key is trained into, and which keys each of them sees.

    key          own          cohort             global     statistics
    pump-1       pump-1  ┐
    pump-2       pump-2  ├─   hall-1        ┐
    pump-3       -       ┘                  ├─   all        all
    fan-1        fan-1        -             ┘

A key with too little data for a model of its own is scored by the next layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ae_model.config import NetworkConfig
from ae_model.scopes import Scope, find_cohort
from pipelines.stream_file import StreamFile


@dataclass(frozen=True)
class ModelPlan:
    """One model to train.

    Args:
        name: under which it is published.
        scope: for which keys it answers.
        network: what to train.
        keys: whose frames it sees, in order.
    """

    name: str
    scope: Scope
    network: NetworkConfig
    keys: tuple[str, ...]


def plan_models(stream: StreamFile, keys: Iterable[str]) -> list[ModelPlan]:
    """The models of a stream with ``key``: one per key, one per cohort, one for all keys, and robust statistics."""
    every = tuple(sorted(set(keys)))
    cohorts: dict[str, list[str]] = {}
    for key in every:
        cohort = find_cohort(stream.cohort, key)
        if cohort is not None:
            cohorts.setdefault(cohort, []).append(key)
    scopes: list[tuple[Scope, tuple[str, ...]]] = [(Scope("own", key), (key,)) for key in every]
    scopes += [(Scope("cohort", name, stream.cohort), tuple(members)) for name, members in sorted(cohorts.items())]
    plans = [
        ModelPlan(scope.name(stream.name), scope, stream.model, members)
        for scope, members in [*scopes, (Scope("global"), every)]
    ]
    statistics = Scope("statistics")
    return [*plans, ModelPlan(statistics.name(stream.name), statistics, statistics_of(stream.model), every)]


def statistics_of(network: NetworkConfig) -> NetworkConfig:
    """The robust statistics that stand in for a network: codes of the same form, so that all behind it is the same."""
    plain = NetworkConfig("constant", network.latent, scaling="robust", codes=network.codes)
    return replace(plain, batch_frames=network.batch_frames, seed=network.seed)
