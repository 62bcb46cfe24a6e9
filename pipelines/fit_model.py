"""Fits one model from its examples: the network asked for, its linear baseline, the threshold and the verdict.

Both are exported as candidates into the request's own folder. Nothing is published from
a worker, where a bundle may run twice.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from ae_model.exceptions import LatentstreamError
from ae_model.naming import name_network
from ae_model.scopes import baseline_name
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
    make_scaling,
    paths_by_split,
)
from pipelines.unfinished import forgetting_refused

OUTCOME = "outcome.json"

# Progress of a run in this process, by the run's folder; a worker elsewhere logs instead.
_REPORTS: dict[str, Report] = {}
# Seeds belong to the process, and so does its memory: however many threads a worker has, one fits.
_FITTING = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What became of a request; JSON in its folder.

    Args:
        frames: by split, and ``unusable``.
        threshold: of the model.
        metrics: by ``model`` and ``baseline``: mean reconstruction errors on frames that training never saw.
        verdict: whether the model may become current.
        epochs: how many were trained.
        channels: what the training frames hold, per channel.
        notes: what a person should know.
        failure: why there is no model; the rest is empty then.
    """

    frames: dict[str, int]
    threshold: float
    metrics: dict[str, dict[str, float]]
    verdict: Verdict
    epochs: int
    channels: list[dict[str, Any]]
    notes: list[str]
    failure: str | None = None

    @classmethod
    def failed(cls, reason: str, frames: dict[str, int]) -> Outcome:
        """That of a request which cannot be met."""
        return cls(frames, 0.0, {}, Verdict(False, reason), 0, [], [], reason)

    def write(self, work: Path) -> None:
        """To the request's folder."""
        work.mkdir(parents=True, exist_ok=True)
        (work / OUTCOME).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, work: Path) -> Outcome:
        """What ``write`` left there; a request that got no frame at all has failed."""
        if not (work / OUTCOME).is_file():
            return cls.failed("training frames: expected at least one. Received: 0.", {})
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
    """(name, its blocks and its profile) to candidates and an Outcome in the request's folder.

    Args:
        requests: by name; an element for each.
        run: the run's folder, which names who is told of progress.
        keep_going: whether a model that cannot be trained leaves an Outcome that says so, and the others go on.
    """

    def __init__(self, requests: Mapping[str, FitRequest], run: str, *, keep_going: bool = False) -> None:
        """Keep the requests; TensorFlow is imported by the worker that fits."""
        self._requests = dict(requests)
        self._run = run
        self._keep_going = keep_going

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[str]:
        """Fit one model; the same element again replaces what it left."""
        from ae_model.keras_hooks import forgetting

        name, grouped = element
        request = self._requests[name]
        # Blocks come in any order; sorted, the same data give the same weights. By name first, so that the
        # frames of several keys are mixed block by block.
        blocks = sorted(grouped["blocks"], key=lambda block: (Path(block.path).name, block.path))
        with _FITTING, forgetting():
            self._fit(request, blocks, list(grouped["profile"])).write(Path(request.work))
        yield name

    def _fit(self, request: FitRequest, blocks: Sequence[WrittenBlock], profiles: Sequence[Profile]) -> Outcome:
        report = _REPORTS.get(self._run, logging.getLogger(__name__).info)
        if not self._keep_going:
            with forgetting_refused(request.models, request.name):
                return fit_model(request, blocks, profiles, report)
        try:
            with forgetting_refused(request.models, request.name):
                outcome = fit_model(request, blocks, profiles, lambda line: None)
        except LatentstreamError as exc:
            report(f"{request.name}: no model: {exc}")
            return Outcome.failed(str(exc), findings.count_frames(blocks))
        report(f"{request.name}: {findings.describe_metrics(outcome.metrics)}, {outcome.epochs} epochs")
        return outcome


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
    paths = paths_by_split(blocks)
    trial = Trial(request, paths, make_scaling(request, profile, paths[TRAINING]), report)
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
