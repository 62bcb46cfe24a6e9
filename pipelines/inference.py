"""Runs the model on whole frame batches, inside the fused stage that reads them.

::

    FrameBatch ── StackFrames ──> batch ── InferFrames.process_batch ──> batch ── UnstackFrames ─┬─> InferredBatch
                                                                                                 └─> dead letters

A batch on which the model fails is halved until the frames it cannot take stand alone.
"""

# No postponed annotations here: Beam reads the types of a batch from the signatures.
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from ae_model.codes import count_clipped
from ae_model.exceptions import RecordError
from ae_model.model import Detector
from pipelines.coders import Frame, InferredFrame
from pipelines.dead_letters import DeadLetter
from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome, Scorer
from pipelines.meters import METERS

DEAD = "dead_letters"
INFERRED = "inferred"

_DETECTORS: dict[str, Detector] = {}
_LOADING = threading.Lock()


def load_detector(path: str) -> Detector:
    """The artifact at ``path``, loaded and verified once per process.

    A strong reference, on purpose: runners throw DoFn instances away and make new
    ones, and a model that went with them would be loaded many times over.

    Raises:
        ArtifactError: the folder is absent, damaged or refused.
    """
    place = str(Path(path).resolve())
    with _LOADING:
        if place not in _DETECTORS:
            _DETECTORS[place] = Detector.load(Path(place))
        return _DETECTORS[place]


class InferFrames(beam.PTransform):  # type: ignore[misc]
    """FrameBatch elements in; ``inferred`` batches and ``dead_letters`` out.

    Args:
        model_path: folder of one version of an artifact, readable by every worker.
    """

    def __init__(self, model_path: str) -> None:
        """Keep the path; nothing is loaded before a worker needs it."""
        super().__init__()
        self._model_path = model_path

    def expand(self, frame_batches: beam.PCollection) -> Any:
        """Wire the three steps; all of them fuse with the source."""
        return (
            frame_batches
            | "StackFrames" >> beam.ParDo(_StackFrames())
            | "InferFrames" >> beam.ParDo(_InferFrames(self._model_path))
            | "UnstackFrames" >> beam.ParDo(_UnstackFrames()).with_outputs(DEAD, main=INFERRED)
        )


class _StackFrames(beam.DoFn):  # type: ignore[misc]
    @beam.DoFn.yields_batches  # type: ignore[untyped-decorator]
    def process(self, frame_batch: FrameBatch) -> Iterator[FrameBatch]:
        yield frame_batch

    def infer_output_type(self, input_type: Any) -> type:
        return Frame


class _InferFrames(beam.DoFn):  # type: ignore[misc]
    def __init__(self, model_path: str) -> None:
        self._model_path = model_path

    def setup(self) -> None:
        self._detector = load_detector(self._model_path)
        METERS.set("model_version", self._detector.manifest.version)

    def process_batch(self, batch: FrameBatch) -> Iterator[Outcome]:
        step = self._detector.manifest.batch_frames
        for start in range(0, len(batch), step):
            with METERS.time_batch():
                outcomes = infer_surely(self._detector, batch.slice(start, start + step))
            yield from outcomes

    def infer_output_type(self, input_type: Any) -> type:
        return InferredFrame


class _UnstackFrames(beam.DoFn):  # type: ignore[misc]
    def __init__(self) -> None:
        self._ok = Metrics.counter("latentstream", "ok")
        self._dead = Metrics.counter("latentstream", "dead")
        self._alerts = Metrics.counter("latentstream", "alerts")
        self._clipped = Metrics.counter("latentstream", "clipped")

    @beam.DoFn.yields_elements  # type: ignore[untyped-decorator]
    def process_batch(self, batch: Outcome) -> Iterator[InferredBatch]:
        # Counted here: a batched step's own counters are booked to the step before it.
        if batch.inferred is not None:
            METERS.add("ok", len(batch))
            METERS.set("batch_frames", len(batch))
            self._ok.inc(len(batch))
            alerts = int(batch.inferred.alerting.sum())
            METERS.add("alerts", alerts)
            self._alerts.inc(alerts)
            clipped = count_clipped(batch.inferred.codes)
            METERS.add("clipped", clipped)
            self._clipped.inc(clipped)
            yield batch.inferred
        else:
            METERS.add("dead", len(batch))
            self._dead.inc(len(batch))
            for letter in bury(batch):
                yield beam.pvalue.TaggedOutput(DEAD, letter)

    def infer_output_type(self, input_type: Any) -> type:
        return InferredBatch


def bury(outcome: Outcome) -> list[DeadLetter]:
    """A dead letter for each frame that the model could not take."""
    if outcome.failed is None:
        return []
    error = RecordError("model.error", outcome.reason)
    return [DeadLetter.of(outcome.failed.records, row, error, "infer") for row in range(len(outcome))]


def infer_surely(detector: Detector, batch: FrameBatch) -> list[Outcome]:
    """Infer a batch; where the model fails, halve it until the failing frames stand alone.

    Returns:
        Outcomes in frame order; together they hold every frame of the batch once.
    """
    try:
        return [Outcome(inferred=infer_batch(detector, batch))]
    except Exception as exc:  # TensorFlow raises classes that share no root.
        if len(batch) == 1:
            return [Outcome(failed=batch, reason=f"{type(exc).__name__}: {exc}")]
    middle = len(batch) // 2
    return infer_surely(detector, batch.slice(0, middle)) + infer_surely(detector, batch.slice(middle, len(batch)))


def infer_batch(detector: Detector, batch: FrameBatch) -> InferredBatch:
    """One call of the model on a whole frame batch."""
    inference = detector.infer(batch.frames)
    manifest = detector.manifest
    return InferredBatch(
        batch=batch,
        codes=inference.codes,  # (n, latent)
        denoised=inference.frames,  # (n, length, channels)
        errors=inference.errors,  # (n,)
        channel_errors=inference.channel_errors,  # (n, channels)
        latent_distance=inference.latent_distance,  # (n,)
        scores=inference.scores,  # (n,)
        scorers=(Scorer(manifest.name, manifest.version, manifest.scope.layer, manifest.threshold.value),),
        scored_by=np.zeros(len(batch), np.int32),
    )
