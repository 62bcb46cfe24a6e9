"""``latentstream train``: recordings to a published model, as one Beam pipeline.

The pipeline (train_graph.py) leaves candidates in a folder of its own beside the models; this
process publishes them when all has gone well, and removes the folder in any case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ae_model import artifact
from ae_model.config import FrameContract, check_code_size
from ae_model.naming import name_network
from ae_model.scopes import baseline_name
from ae_model.scratch import scratch_folder
from pipelines.engines import make_options
from pipelines.findings import check_counts
from pipelines.fit_model import Outcome, reporting
from pipelines.samples import Recording, find_recordings
from pipelines.shards import SPLITS, Shard, plan_shards
from pipelines.stream_file import StreamFile
from pipelines.train_graph import Job, run_job
from pipelines.trial import BASELINE, MODEL, FitRequest
from pipelines.unfinished import forget


@dataclass(frozen=True)
class TrainSummary:
    """What one training made.

    Args:
        model: its name.
        network: what it is, in words.
        version: as published.
        promoted: whether it is the current version now.
        reason: why, or why not.
        path: its folder.
        frames: by split, and ``unusable``.
        threshold: the cut-off on the score.
        metrics: by ``model`` and ``baseline``, on frames that training never saw.
        epochs: how many were trained.
        seconds: wall time.
        notes: what a person should know.
        channels: what the training frames hold, per channel.
    """

    model: str
    network: str
    version: int
    promoted: bool
    reason: str
    path: str
    frames: dict[str, int]
    threshold: float
    metrics: dict[str, dict[str, float]]
    epochs: int
    seconds: float
    notes: list[str]
    channels: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def train_stream(
    stream: StreamFile,
    data: str,
    models: Path | str,
    beam_args: Sequence[str] = (),
    report: Callable[[str], None] = print,
    curves: str | None = None,
) -> TrainSummary:
    """Train a stream's model and its linear baseline, and publish both.

    The same call again after a kill goes on where the training was, to the same model.

    Args:
        stream: what a frame is, and what to train.
        data: recordings; see pipelines.samples.
        models: folder of models; made if absent.
        beam_args: Beam's own flags; without ``--runner`` the job runs in this process.
        report: told of progress, a line at a time.
        curves: folder for losses as TensorBoard reads them; none by default.

    Raises:
        ConfigError: the data cannot be read as the stream's frames, or the engine is refused.
        TrainingError: the data cannot train the model. Nothing is published then.
    """
    start = time.monotonic()
    check_code_size(stream.contract, stream.model)
    options = make_options(beam_args)
    recordings = find_recordings(data, stream.contract)
    shards = plan_shards(recordings)
    report(describe_recordings(recordings, stream.contract))
    check_counts(plan_counts(shards, stream.contract), stream.model)
    Path(models).mkdir(parents=True, exist_ok=True)
    # A hidden name, so that nobody takes it for a model.
    with scratch_folder(Path(models), f".training-{stream.name}-") as work:
        request = make_request(stream, data, Path(models), work, curves)
        with reporting(request.work, report):
            run_job(shards, Job({request.name: request}, {None: [request.name]}, stream.contract, str(work)), options)
        outcome = Outcome.read(work)
        version = publish(request, outcome.verdict.passed)
    forget(models, stream.name)
    summary = summarise(request, outcome, version, time.monotonic() - start)
    for line in describe(summary):
        report(line)
    return summary


def plan_counts(shards: Sequence[Shard], contract: FrameContract) -> dict[str, int]:
    """How many frames each split will have if all are usable."""
    counts = dict.fromkeys(SPLITS, 0)
    for shard in shards:
        for part in shard.parts:
            counts[shard.split] += part.count_frames(contract)
    return counts


def describe_recordings(recordings: Sequence[Recording], contract: FrameContract) -> str:
    """One line: how much there is, and how much of it is too short for one frame."""
    if all(recording.samples.item_rows for recording in recordings):
        items = sum(recording.rows for recording in recordings) // contract.length
        return f"data: {items} items of {contract.length} x {len(contract.channels)} in {len(recordings)} recordings"
    short = sum(recording.rows < contract.length for recording in recordings)
    rows = sum(recording.rows for recording in recordings)
    tail = f"; {short} shorter than one frame" if short else ""
    return f"data: {rows} samples of {len(contract.channels)} channels in {len(recordings)} recordings{tail}"


def make_request(stream: StreamFile, data: str, models: Path, work: Path, curves: str | None = None) -> FitRequest:
    """What the worker has to know."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    parts = (stream.name, stream.contract, stream.model, stream.score, stream.threshold)
    return FitRequest(*parts, data=data, created=created, models=str(models), work=str(work), curves=curves)


def publish(request: FitRequest, promoted: bool) -> int:
    """Publish the baseline, if there is one, and the model; the version of the latter."""
    models, work = Path(request.models), Path(request.work)
    if (work / BASELINE).is_dir():
        artifact.publish(work / BASELINE, models, baseline_name(request.name), promoted=promoted)
    return artifact.publish(work / MODEL, models, request.name, promoted=promoted)


def summarise(request: FitRequest, outcome: Outcome, version: int, seconds: float) -> TrainSummary:
    """What was made, for people and programs."""
    return TrainSummary(
        model=request.name,
        network=name_network(request.contract, request.network),
        version=version,
        promoted=outcome.verdict.passed,
        reason=outcome.verdict.reason,
        path=str(Path(request.models) / request.name / str(version)),
        frames=outcome.frames,
        threshold=outcome.threshold,
        metrics=outcome.metrics,
        epochs=outcome.epochs,
        seconds=seconds,
        notes=outcome.notes,
        channels=outcome.channels,
    )


def describe(summary: TrainSummary) -> Iterator[str]:
    """The closing lines."""
    for text in summary.notes:
        yield f"note: {text}"
    state = "current now" if summary.promoted else "published, but not current"
    yield f"{summary.model} version {summary.version} is {state}: {summary.reason} ({summary.seconds:.0f} s)"
