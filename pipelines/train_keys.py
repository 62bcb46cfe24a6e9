"""``latentstream train`` with ``key`` in the stream file: a model per key, and the layers below, in one Beam run.

The models fall into four layers (model_plans.py). One that cannot be trained is reported by name
and fails nothing else: its keys are scored by the next layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ae_model.config import check_code_size
from ae_model.exceptions import TrainingError
from ae_model.scratch import scratch_folder
from pipelines.engines import make_options
from pipelines.fit_model import Outcome, reporting
from pipelines.model_plans import ModelPlan, plan_models
from pipelines.samples import find_recordings
from pipelines.shards import SPLITS, plan_by_key
from pipelines.stream_file import StreamFile
from pipelines.train import describe_recordings, make_request, publish
from pipelines.train_graph import Job, run_job
from pipelines.trial import BASELINE, MODEL, FitRequest
from pipelines.unfinished import forget


@dataclass(frozen=True)
class ModelLine:
    """What became of one model.

    Args:
        model: its name.
        layer: own, cohort, global or statistics.
        key: the key or the cohort it is for; None where it is for all.
        keys: how many keys it was trained on.
        frames: for training, validation and calibration together.
        epochs: how many were trained.
        error: mean reconstruction error on calibration frames, which training never saw.
        pca_error: the same of PCA of the same size, in the same scale; None where there is none.
        threshold: the cut-off on the score.
        state: current, refused by the gate, or failed.
        version: as published; None where it failed.
        reason: why.
    """

    model: str
    layer: str
    key: str | None
    keys: int
    frames: int
    epochs: int
    error: float | None
    pca_error: float | None
    threshold: float | None
    state: str
    version: int | None
    reason: str


@dataclass(frozen=True)
class KeysSummary:
    """What one training of a stream with many models made.

    Args:
        stream: its name.
        key: what a key of it names.
        models: a line for each, in the order of the layers.
        seconds: wall time.
    """

    stream: str
    key: str
    models: list[ModelLine]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def train_keys(
    stream: StreamFile,
    data: str,
    models: Path | str,
    beam_args: Sequence[str] = (),
    report: Callable[[str], None] = print,
    curves: str | None = None,
) -> KeysSummary:
    """Train a model per key of the data, one per cohort, one for all and robust statistics, and publish them.

    Args:
        stream: what a frame is, what to train, and what names a cohort.
        data: recordings, each of the key that its name is; see pipelines.samples.
        models: folder of models; made if absent.
        beam_args: Beam's own flags; without ``--runner`` the job runs in this process.
        report: told of progress, a line at a time.
        curves: folder for losses as TensorBoard reads them; none by default.

    Raises:
        ConfigError: the data cannot be read as the stream's frames, or the engine is refused.
        TrainingError: not one model could be trained.
    """
    start = time.monotonic()
    check_code_size(stream.contract, stream.model)
    options = make_options(beam_args)
    recordings = find_recordings(data, stream.contract)
    plans = plan_models(stream, [recording.key for recording in recordings])
    report(f"{describe_recordings(recordings, stream.contract)}; {len(plans)} models")
    Path(models).mkdir(parents=True, exist_ok=True)
    with scratch_folder(Path(models), f".training-{stream.name}-") as work:
        requests = make_requests(make_request(stream, data, Path(models), work, curves), plans)
        readers = find_readers(plans)
        with reporting(str(work), report):
            run_job(
                plan_by_key(recordings), Job(requests, readers, stream.contract, str(work), keep_going=True), options
            )
        lines = [finish(plan, requests[plan.name]) for plan in plans]
    check_any(lines)
    summary = KeysSummary(stream.name, stream.key or "key", lines, time.monotonic() - start)
    for line in describe(summary):
        report(line)
    return summary


def make_requests(base: FitRequest, plans: Sequence[ModelPlan]) -> dict[str, FitRequest]:
    """A request for each model, all alike but for name, scope, network and folder."""
    return {
        plan.name: replace(
            base, name=plan.name, scope=plan.scope, network=plan.network, work=str(Path(base.work) / plan.name)
        )
        for plan in plans
    }


def find_readers(plans: Sequence[ModelPlan]) -> Mapping[str | None, Sequence[str]]:
    """The names of the models that see each key's frames."""
    readers: dict[str | None, list[str]] = {}
    for plan in plans:
        for key in plan.keys:
            readers.setdefault(key, []).append(plan.name)
    return readers


def finish(plan: ModelPlan, request: FitRequest) -> ModelLine:
    """Publish a model, unless it failed, and say what became of it."""
    outcome = Outcome.read(Path(request.work))
    errors = {name: metrics["calibration_error"] for name, metrics in outcome.metrics.items()}
    version = None if outcome.failure else publish(request, outcome.verdict.passed)
    forget(request.models, request.name)
    return ModelLine(
        model=plan.name,
        layer=plan.scope.layer,
        key=plan.scope.key,
        keys=len(plan.keys),
        frames=sum(outcome.frames.get(split, 0) for split in SPLITS),
        epochs=outcome.epochs,
        error=errors.get(MODEL),
        pca_error=errors.get(BASELINE),
        threshold=None if outcome.failure else outcome.threshold,
        state="failed" if outcome.failure else "current" if outcome.verdict.passed else "refused",
        version=version,
        reason=outcome.verdict.reason,
    )


def check_any(lines: Sequence[ModelLine]) -> None:
    """Raise what stood in the way of the model for all keys, where not even the statistics could be made."""
    if all(line.state == "failed" for line in lines):
        raise TrainingError(next(line.reason for line in lines if line.layer == "global"))


def describe(summary: KeysSummary) -> Iterator[str]:
    """The closing lines."""
    for line in summary.models:
        if line.state != "current":
            yield f"note: {line.model} {line.state}: {line.reason}"
    states = [line.state for line in summary.models]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("current", "refused", "failed"))
    yield f"{summary.stream}: {len(states)} models, {counts} ({summary.seconds:.0f} s)"
