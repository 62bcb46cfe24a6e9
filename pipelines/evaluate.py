"""``latentstream evaluate``: alerts beside labels, for a model and its linear baseline.

A frame counts as labelled when any row that it adds is: the ``hop`` rows up to its last
sample. Rows of a score table and labels meet by offset, which for files is the row of the
frame's last sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from ae_model.frames import FrameCutter, usable
from ae_model.metrics.alerts import event_recall, events, false_episodes_per_day
from pipelines.samples import find_recordings, iter_blocks, read_blocks
from pipelines.stream_file import StreamFile

if TYPE_CHECKING:
    from ae_model.model import Detector

_LABEL = FrameContract(channels=("label",))
_COLUMNS = ["topic", "partition", "offset", "score", "threshold", "alert"]


@dataclass(frozen=True)
class Evaluation:
    """How one model's alerts meet the labels.

    Args:
        frames: labelled frames.
        missing: of these, how many have no score: dead letters, or a table that ends early.
        events: runs of labelled frames.
        alerts: frames that alert.
        threshold: the cut-off on the score.
        event_recall: share of events with at least one alert; None without events.
        false_episodes_per_day: of alerts that touch no event; None without a rate.
    """

    frames: int
    missing: int
    events: int
    alerts: int
    threshold: float
    event_recall: float | None
    false_episodes_per_day: float | None


@dataclass(frozen=True, eq=False)
class Scores:
    """Scored frames of one source.

    Args:
        offsets: (n,) int64, rising; the row of each frame's last sample.
        scores: (n,) float64.
        alerts: (n,) True where the frame alerts.
        threshold: the cut-off.
    """

    offsets: NDArray[np.int64]
    scores: NDArray[np.float64]
    alerts: NDArray[np.bool_]
    threshold: float


def evaluate_scores(
    stream: StreamFile, scores: str, labels: str, baseline: str | None = None
) -> dict[str, dict[str, Any]]:
    """Compare score tables with labels.

    Args:
        stream: whose frames they are.
        scores: folder that ``score`` or ``run`` wrote, or one Parquet file of its rows.
        labels: ``file.npz::array`` of 0 and 1 per row, or a table with a column ``label``.
        baseline: scores of another model on the same data.

    Returns:
        An Evaluation as JSON, under ``model`` and, if asked for, ``baseline``.

    Raises:
        ConfigError: a table or the labels cannot be read, or they do not belong together.
    """
    truth = read_labels(labels)
    tables = {"model": scores, **({"baseline": baseline} if baseline else {})}
    return {name: asdict(compare(read_scores(path), truth, stream.contract)) for name, path in tables.items()}


def evaluate_stream(stream: StreamFile, data: str, labels: str, models: Path) -> dict[str, dict[str, Any]]:
    """Score recordings with the current model and its baseline, and compare both with labels.

    Args:
        stream: whose model to use.
        data: one recording; see pipelines.samples.
        labels: as for evaluate_scores.
        models: folder of models.

    Raises:
        ConfigError: the data or the labels cannot be read, or they do not belong together.
        ArtifactError: there is no model, or it is refused.
    """
    from pipelines.inference import load_detector
    from pipelines.trial import baseline_name

    truth = read_labels(labels)
    names = {"model": stream.name}
    if artifact.versions(models, baseline_name(stream.name)):
        names["baseline"] = baseline_name(stream.name)
    detectors = {role: load_detector(str(artifact.resolve(models, name))) for role, name in names.items()}
    return {
        role: asdict(compare(score_recording(detector, data, stream.contract), truth, stream.contract))
        for role, detector in detectors.items()
    }


def compare(scores: Scores, labels: NDArray[np.bool_], contract: FrameContract) -> Evaluation:
    """Join scores and labels by offset, and count.

    Raises:
        ConfigError: an offset lies outside the labels, or between two frames.
    """
    truth = label_frames(labels, contract)  # (frames,)
    rows = frame_numbers(scores.offsets, len(truth), len(labels), contract)
    alerts = np.zeros(len(truth), bool)
    alerts[rows] = scores.alerts
    rate = contract.rate_hz / contract.hop if contract.rate_hz else None
    recall = event_recall(alerts, truth)
    return Evaluation(
        frames=len(truth),
        missing=len(truth) - len(rows),
        events=len(events(truth)),
        alerts=int(alerts.sum()),
        threshold=scores.threshold,
        event_recall=None if math.isnan(recall) else recall,
        false_episodes_per_day=false_episodes_per_day(alerts, truth, rate) if rate else None,
    )


def label_frames(labels: NDArray[np.bool_], contract: FrameContract) -> NDArray[np.bool_]:
    """Which frames of a recording are labelled, (frames,)."""
    count = max(0, (len(labels) - contract.length) // contract.hop + 1)
    stops = np.arange(count) * contract.hop + contract.length
    starts = np.concatenate([[0], stops[:-1]]) if count else stops
    before = np.concatenate([[0], np.cumsum(labels)])
    labelled: NDArray[np.bool_] = before[stops] > before[starts]
    return labelled


def frame_numbers(offsets: NDArray[np.int64], frames: int, rows: int, contract: FrameContract) -> NDArray[np.int64]:
    """The number of each frame within its recording, from the row of its last sample.

    Raises:
        ConfigError: an offset is no such row, or lies outside the labels.
    """
    numbers, rest = np.divmod(offsets - (contract.length - 1), contract.hop)
    wrong = np.flatnonzero((rest != 0) | (numbers < 0) | (numbers >= frames))
    if len(wrong):
        raise ConfigError(
            f"scores: expected offsets of frames within the {rows} labelled rows, length {contract.length}, "
            f"hop {contract.hop}. Received: offset={offsets[wrong[0]]}. Give the labels of the data that were scored."
        )
    unique: NDArray[np.int64] = numbers
    return unique


def read_labels(labels: str) -> NDArray[np.bool_]:
    """(rows,) True where a row is labelled.

    Raises:
        ConfigError: they cannot be read, or hold other numbers than 0 and 1.
    """
    values = np.concatenate([np.empty((0, 1)), *(block.samples for block in iter_blocks(labels, _LABEL))])[:, 0]
    if not np.isin(values, (0, 1)).all():
        wrong = values[~np.isin(values, (0, 1))][0]
        raise ConfigError(f"labels {labels}: expected 0 or 1 per row. Received: {wrong:g}.")
    truth: NDArray[np.bool_] = values == 1
    return truth


def read_scores(path: str) -> Scores:
    """The rows of a score table, in order of their offsets.

    Raises:
        ConfigError: there are none, they cannot be read, or they come from several sources.
    """
    from pipelines.parquet_files import read_table

    try:
        file = Path(path)
        table = pa.parquet.read_table(file, columns=_COLUMNS) if file.is_file() else read_table(file, "scores")
    except (OSError, pa.ArrowException) as exc:
        raise ConfigError(f"scores {path}: expected a readable score table. Received: {exc}.") from exc
    _check_one_source(table, path)
    table = table.sort_by("offset")
    return Scores(
        offsets=table["offset"].to_numpy(),
        scores=table["score"].to_numpy().astype(np.float64),
        alerts=table["alert"].to_numpy(),
        threshold=float(table["threshold"][0].as_py()),
    )


def _check_one_source(table: pa.Table, path: str) -> None:
    sources = {(topic, partition) for topic, partition in zip(*_lists(table, "topic", "partition"), strict=True)}
    if len(sources) != 1:
        raise ConfigError(
            f"scores {path}: expected rows of one recording. Received: {len(sources)} recordings. "
            "Score each into a folder of its own."
        )


def _lists(table: pa.Table, *names: str) -> Iterator[list[Any]]:
    return (table[name].to_pylist() for name in names)


def score_recording(detector: Detector, data: str, contract: FrameContract) -> Scores:
    """Scores of one recording's usable frames, straight from the model.

    Raises:
        ConfigError: the data cannot be read, or hold several recordings.
    """
    recordings = find_recordings(data, contract)
    if len(recordings) != 1:
        raise ConfigError(f"data {data}: expected one recording. Received: {len(recordings)} recordings.")
    cutter = FrameCutter(contract.length, contract.hop)
    offsets, scores, first = [], [], 0
    for block in read_blocks(recordings[0], 0, recordings[0].rows):
        frames = cutter.push(block.samples)
        good = usable(frames)
        numbers = first + np.flatnonzero(good)
        offsets.append(numbers * contract.hop + contract.length - 1)
        scores.append(detector.infer(frames[good]).scores)
        first += len(frames)
    threshold = detector.manifest.threshold.value
    found = np.concatenate([np.empty(0), *scores])
    return Scores(np.concatenate([np.empty(0, np.int64), *offsets]), found, ~(found < threshold), threshold)
