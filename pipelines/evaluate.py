"""``latentstream evaluate``: a model and its linear baseline on recordings that training did not see.

What is measured follows from what is given:

labels of 0 and 1        scores and alerts, per entity and in the mean
labels of more classes   a linear probe of the codes; what a code costs, and what is lost
a clean reference        how much cleaner the reconstruction is than the input; the same of codes
nothing                  what a code costs, and what is lost
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ae_model import artifact
from pipelines.evaluation import alerts
from pipelines.evaluation.codes import SampleForm
from pipelines.evaluation.collection import Collection
from pipelines.evaluation.inputs import find_labels, label_frames, match, read_labels
from pipelines.evaluation.report import Report
from pipelines.evaluation.score_tables import read_scores
from pipelines.evaluation.section import BASELINE, MODEL, RANDOM
from pipelines.evaluation.subjects import observe
from pipelines.routes import Routes, find_routes
from pipelines.sample_files import PCM16_SCALE
from pipelines.samples import Recording, find_recordings
from pipelines.stream_file import InputConfig, StreamFile

if TYPE_CHECKING:
    from ae_model.model import Detector

Say = Callable[[str], None]

# As the benchmark takes it for scores that come without their data.
_WINDOW_OF_TABLES = 100


@dataclass(frozen=True)
class Question:
    """What is to be evaluated.

    Args:
        stream: whose model to use.
        data: recordings; see pipelines.samples.
        models: folder of models.
        labels: recordings of labels, named as data or ``PATH::COLUMN``; 0 and 1 per row, or numbers of classes.
        reference: recordings of the clean signal.
        out: folder for the report and its pictures; nothing is written without it.
    """

    stream: StreamFile
    data: str
    models: Path
    labels: str | None = None
    reference: str | None = None
    out: Path | None = None


def evaluate_stream(question: Question, say: Say = lambda line: None) -> Report:
    """Measure the current model and its baseline, recording by recording.

    Args:
        question: what to evaluate.
        say: told of progress, a line at a time.

    Raises:
        ConfigError: data, labels or reference cannot be read, or they do not belong together.
        ArtifactError: there is no model, or it is refused.
    """
    contract = question.stream.contract
    recordings = find_recordings(question.data, contract)
    labels = _find(question.labels, recordings, "labels", find_labels)
    reference = _find(question.reference, recordings, "reference", lambda path: find_recordings(path, contract))
    collection = Collection(sample_form(question.stream.input), question.out)
    routes = find_routes(question.stream, question.models)
    seen = False
    for number, recording in enumerate(recordings, 1):
        say(f"{number}/{len(recordings)}  {recording.key}  {recording.rows:,} rows")
        detectors = find_detectors(routes, recording.key)
        subject = observe(recording, detectors, contract, labels.get(recording.key), reference.get(recording.key))
        collection.add(subject, detectors)
        seen |= detectors[MODEL].manifest.training.data == question.data
    facts = {"data": question.data, "labels": question.labels, "reference": question.reference}
    facts["caution"] = "the model was trained on these very data, which flatters it" if seen else None
    return collection.finish(question.stream.name, {name: fact for name, fact in facts.items() if fact})


def evaluate_scores(stream: StreamFile, scores: str, labels: str, baseline: str | None = None) -> Report:
    """Compare score tables of one recording with labels.

    Args:
        stream: whose frames they are.
        scores: folder that ``score`` or ``run`` wrote, or one Parquet file of its rows.
        labels: as of Question.
        baseline: scores of another model on the same data.

    Raises:
        ConfigError: a table or the labels cannot be read, or they do not belong together.
    """
    (recording,) = find_labels(labels)
    truth = label_frames(read_labels(recording), stream.contract)
    tables = {MODEL: scores, **({BASELINE: baseline} if baseline else {})}
    roles = {
        role: alerts.measure(read_scores(path, len(truth), stream.contract), truth, _WINDOW_OF_TABLES, stream.contract)
        for role, path in tables.items()
    }
    roles[RANDOM] = alerts.measure_random(truth, _WINDOW_OF_TABLES)
    return Report(stream.name, {"scores": scores, "labels": labels}, [alerts.make_section({recording.key: roles})])


def find_detectors(routes: Routes, key: str) -> dict[str, Detector]:
    """The model that a run would ask about records of a key, and its baseline where there is one.

    Raises:
        ArtifactError: there is no model, or it is refused.
    """
    from ae_model.scopes import baseline_name
    from pipelines.detectors import DETECTORS
    from pipelines.key_inference import load_first

    found = {MODEL: load_first(routes, routes.find(key.encode()), DETECTORS)}
    baseline = baseline_name(found[MODEL].manifest.name)
    if artifact.versions(Path(routes.models), baseline):
        found[BASELINE] = DETECTORS.get(str(artifact.resolve(Path(routes.models), baseline)))
    return found


def sample_form(records: InputConfig) -> SampleForm:
    """One sample as the stream's records hold it."""
    if records.format == "pcm16":
        return SampleForm("int16", PCM16_SCALE)
    return SampleForm(records.dtype if records.format == "raw" else "float32")


def _find(
    path: str | None, recordings: list[Recording], what: str, find: Callable[[str], list[Recording]]
) -> dict[str, Recording]:
    return match(recordings, find(path), what) if path else {}
