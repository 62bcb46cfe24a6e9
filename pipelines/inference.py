"""Runs the model on whole frame batches, inside the fused stage that reads them.

::

    FrameBatch ── StackFrames ──> batch ── InferFrames.process_batch ──> batch ── UnstackFrames ─┬─> InferredBatch
                                                                                                 └─> dead letters

A batch on which the model fails is halved until the frames it cannot take stand alone.
"""

# No postponed annotations here: Beam reads the types of a batch from the signatures.
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from ae_model.codes import count_clipped
from ae_model.exceptions import RecordError
from pipelines.coders import Frame, InferredFrame
from pipelines.dead_letters import DeadLetter
from pipelines.detectors import DEFAULT_CACHE_MIB, DETECTORS
from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome
from pipelines.key_inference import infer_by_key
from pipelines.meters import METERS
from pipelines.model_calls import infer_surely
from pipelines.routes import Routes

DEAD = "dead_letters"
INFERRED = "inferred"


class InferFrames(beam.PTransform):  # type: ignore[misc]
    """FrameBatch elements in; ``inferred`` batches and ``dead_letters`` out.

    Args:
        routes: which model version scores which key; their folders are readable by every worker.
        cache_mib: what loaded models may take in a worker process.
    """

    def __init__(self, routes: Routes, cache_mib: int = DEFAULT_CACHE_MIB) -> None:
        """Keep the routes; nothing is loaded before a worker needs it."""
        super().__init__()
        self._routes = routes
        self._cache_mib = cache_mib

    def expand(self, frame_batches: beam.PCollection) -> Any:
        """Wire the three steps; all of them fuse with the source."""
        return (
            frame_batches
            | "StackFrames" >> beam.ParDo(_StackFrames())
            | "InferFrames" >> beam.ParDo(_InferFrames(self._routes, self._cache_mib))
            | "UnstackFrames" >> beam.ParDo(_UnstackFrames()).with_outputs(DEAD, main=INFERRED)
        )


class _StackFrames(beam.DoFn):  # type: ignore[misc]
    @beam.DoFn.yields_batches  # type: ignore[untyped-decorator]
    def process(self, frame_batch: FrameBatch) -> Iterator[FrameBatch]:
        yield frame_batch

    def infer_output_type(self, input_type: Any) -> type:
        return Frame


class _InferFrames(beam.DoFn):  # type: ignore[misc]
    def __init__(self, routes: Routes, cache_mib: int) -> None:
        self._routes = routes
        self._cache_mib = cache_mib

    def setup(self) -> None:
        DETECTORS.set_limit(self._cache_mib << 20)
        DETECTORS.tell(_count)
        only = self._routes.only
        # Held here too: with one model, nothing is asked of the cache per batch.
        self._detector = None if only is None else DETECTORS.get(self._routes.path(only))
        if only is not None:
            METERS.set("model_version", only.version)

    def process_batch(self, batch: FrameBatch) -> Iterator[Outcome]:
        if self._detector is None:
            with METERS.time_batch():
                outcomes = infer_by_key(self._routes, batch)
            yield from outcomes
            return
        step = self._detector.manifest.batch_frames
        for start in range(0, len(batch), step):
            with METERS.time_batch():
                outcomes = infer_surely(self._detector, batch.slice(start, start + step))
            yield from outcomes

    def infer_output_type(self, input_type: Any) -> type:
        return InferredFrame


def _count(name: str, amount: int) -> None:
    METERS.add(name, amount)
    Metrics.counter("latentstream", name).inc(amount)


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
            for layer, count in batch.inferred.count_layers().items():
                METERS.add(f"layer_{layer}", count)
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
