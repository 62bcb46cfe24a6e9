"""Fits one model from its examples: the network asked for, its linear baseline, the threshold and the verdict.

Both are exported as candidates into the run's own folder. Nothing is published from
a worker, where a bundle may run twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from ae_model.naming import name_network
from pipelines import findings
from pipelines.gate import Verdict, judge
from pipelines.shards import CALIBRATION, TRAINING
from pipelines.statistics import Profile
from pipelines.suspects import check_signals, name_culprits
from pipelines.trial import (
    BASELINE,
    MODEL,
    FitRequest,
    Report,
    Trial,
    WrittenBlock,
    baseline_name,
    make_scaling,
    paths_by_split,
)
from pipelines.unfinished import forgetting_refused

OUTCOME = "outcome.json"

# Progress of a run in this process, by the run's folder; a worker elsewhere logs instead.
_REPORTS: dict[str, Report] = {}


@dataclass(frozen=True)
class Outcome:
    """What became of a request; JSON in the run's folder.

    Args:
        frames: by split, and ``unusable``.
        threshold: of the model.
        metrics: by ``model`` and ``baseline``: mean reconstruction errors on frames that training never saw.
        verdict: whether the model may become current.
        epochs: how many were trained.
        channels: what the training frames hold, per channel.
        notes: what a person should know.
    """

    frames: dict[str, int]
    threshold: float
    metrics: dict[str, dict[str, float]]
    verdict: Verdict
    epochs: int
    channels: list[dict[str, Any]]
    notes: list[str]

    def write(self, work: Path) -> None:
        """To the run's folder."""
        (work / OUTCOME).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, work: Path) -> Outcome:
        """What ``write`` left there."""
        mapping = json.loads((work / OUTCOME).read_text(encoding="utf-8"))
        return cls(**{**mapping, "verdict": Verdict(**mapping["verdict"])})


@contextmanager
def reporting(work: str, report: Report) -> Iterator[None]:
    """Let a fit in this process tell ``report`` how it goes."""
    _REPORTS[work] = report
    try:
        yield
    finally:
        del _REPORTS[work]


class FitModel(beam.DoFn):  # type: ignore[misc]
    """(name, its blocks and its profile) to candidates and an Outcome in the run's folder."""

    def __init__(self, request: FitRequest) -> None:
        """Keep the request; TensorFlow is imported by the worker that fits."""
        self._request = request

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[str]:
        """Fit one model; the same element again replaces what it left."""
        name, grouped = element
        report = _REPORTS.get(self._request.work, logging.getLogger(__name__).info)
        # Blocks come in any order; sorted as they were read, the same data give the same weights.
        blocks = sorted(grouped["blocks"], key=lambda block: Path(block.path).name)
        with forgetting_refused(self._request.models, name):
            fit_model(self._request, blocks, list(grouped["profile"]), report).write(Path(self._request.work))
        yield name


def fit_model(
    request: FitRequest, blocks: Sequence[WrittenBlock], profiles: Sequence[Profile], report: Report
) -> Outcome:
    """Fit, calibrate, judge and export a model with its baseline.

    Args:
        request: what to train.
        blocks: the files of examples, in order.
        profiles: of the training frames: one, or none where there are no such frames.
        report: told of progress, a line at a time.

    Raises:
        TrainingError: there are too few usable frames, or the loss diverged.
    """
    frames = findings.count_frames(blocks)
    report(findings.describe_frames(frames))
    report(f"network: {name_network(request.contract, request.network)}")
    findings.check_counts(frames, request.network, name_culprits(blocks, request.contract))
    (profile,) = profiles
    check_signals(profile.statistics, request.contract, request.data)
    trial = Trial(request, paths_by_split(blocks), make_scaling(request, profile), report)
    model, baseline = trial.run(request.network), trial.run_baseline()
    metrics = {MODEL: model.metrics, **({BASELINE: baseline.metrics} if baseline else {})}
    report(findings.describe_metrics(metrics))
    if model.fitted.code_use:
        report(findings.describe_code(model.fitted.code_use))
    trial.export(MODEL, request.name, model, frames, metrics)
    if baseline:
        trial.export(BASELINE, baseline_name(request.name), baseline, frames, {MODEL: baseline.metrics})
    return Outcome(
        frames=frames,
        threshold=model.threshold.value,
        metrics=metrics,
        verdict=judge(model.fitted, Path(request.models), request.name, trial.frames(CALIBRATION)),
        epochs=len(model.fitted.history["loss"]),
        channels=findings.describe_channels(profile, request.contract, frames[TRAINING]),
        notes=findings.note(blocks, profile, request, model.threshold),
    )
