"""The graph between a source and its sinks; the same for a stream and for files.

    raw batches ──DecodeFrames──> frame batches ──InferFrames──> inferred batches ─┬─ EncodeCodes ────> codes
         │              │                             │                            ├─ EncodeDenoised ─> denoised
         │              └──────> dead letters <───────┘                            ├─ ExplainAlerts ──> alerts
         └── refused by the source ──────^                                         └─────────────────> Parquet

Labels are part of a running job's state: renaming one breaks its savepoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines import coders  # noqa: F401  registers the coders on workers
from pipelines.alerts import Alert, explain
from pipelines.dead_letters import Breaker, DeadLetter
from pipelines.detectors import DEFAULT_CACHE_MIB
from pipelines.formats import Decoder
from pipelines.frame_batch import FrameBatch, InferredBatch, RawBatch
from pipelines.inference import DEAD, INFERRED, InferFrames
from pipelines.meters import METERS
from pipelines.records import OutputRecord, Per, encode_codes, encode_denoised
from pipelines.routes import Routes, read_manifest

FRAMES = "frames"
# Where dead letters come from, each with a sink of its own.
LETTER_ORIGINS = ("Undecodable", "Uninferable", "Refused")


@dataclass(frozen=True)
class Sinks:
    """Where each output goes; None turns it off, except that dead letters always go somewhere."""

    dead_letters: beam.PTransform
    codes: beam.PTransform | None = None
    denoised: beam.PTransform | None = None
    alerts: beam.PTransform | None = None
    parquet: beam.PTransform | None = None


@dataclass(frozen=True)
class GraphConfig:
    """What the graph needs to know of the stream; plain values that pickle small.

    Args:
        stream: its name, which alerts carry.
        decoder: from value bytes to frames.
        routes: which model version scores which key.
        per: one codes record per ``batch`` or per ``frame``.
        breaker_share: stop when more than this share of recent records is unusable.
        breaker_records: how many records make the share worth trusting.
        cache_mib: what loaded models may take in a worker process.
    """

    stream: str
    decoder: Decoder
    routes: Routes
    per: Per = "batch"
    breaker_share: float = 0.5
    breaker_records: int = 1000
    cache_mib: int = DEFAULT_CACHE_MIB


def build_graph(
    raw: beam.PCollection, config: GraphConfig, sinks: Sinks, refused: beam.PCollection | None = None
) -> None:
    """Wire everything between raw batches and sinks.

    Args:
        raw: RawBatch elements.
        config: see GraphConfig.
        sinks: transforms that take OutputRecord elements; Parquet takes InferredBatch.
        refused: DeadLetter elements that the source itself made, if any.
    """
    decoded = raw | "DecodeFrames" >> beam.ParDo(_DecodeFrames(config)).with_outputs(DEAD, main=FRAMES)
    outcome = decoded[FRAMES] | "InferFrames" >> InferFrames(config.routes, config.cache_mib)
    write_outputs(outcome[INFERRED], config, sinks)
    dead = [decoded[DEAD], outcome[DEAD]] + ([refused] if refused is not None else [])
    for name, letters in zip(LETTER_ORIGINS, dead, strict=False):
        encoded = letters | f"Encode{name}" >> beam.ParDo(_EncodeDeadLetters(config.stream))
        # One sink per origin: a Flatten here would be one more stage between a record and its dead letter.
        _ = encoded | f"Write{name}" >> sinks.dead_letters


def write_outputs(inferred: beam.PCollection, config: GraphConfig, sinks: Sinks) -> None:
    """Send inferred batches to each output that is turned on."""
    if sinks.codes is not None:
        codes = inferred | "EncodeCodes" >> beam.ParDo(_EncodeBatches(encode_codes, config.per))
        _ = codes | "WriteCodes" >> sinks.codes
    if sinks.denoised is not None:
        denoised = inferred | "EncodeDenoised" >> beam.ParDo(_EncodeBatches(encode_denoised, config.per))
        _ = denoised | "WriteDenoised" >> sinks.denoised
    if sinks.alerts is not None:
        explain_batch = ExplainBatch(config.routes.models, config.stream)
        alerts = inferred | "ExplainAlerts" >> beam.ParDo(_ExplainAlerts(explain_batch))
        _ = alerts | "WriteAlerts" >> sinks.alerts
    if sinks.parquet is not None:
        _ = inferred | "WriteParquet" >> sinks.parquet


class _DecodeFrames(beam.DoFn):  # type: ignore[misc]
    def __init__(self, config: GraphConfig) -> None:
        self._config = config
        self._dead = Metrics.counter("latentstream", "dead")

    def setup(self) -> None:
        self._breaker = Breaker(self._config.breaker_share, self._config.breaker_records)

    def process(self, raw: RawBatch) -> Iterator[FrameBatch]:
        decoded = self._config.decoder.decode(raw)
        good, bad = decoded.good, decoded.bad
        if bad:
            METERS.add("dead", len(bad))
            self._dead.inc(len(bad))
            for letter in bad:
                yield beam.pvalue.TaggedOutput(DEAD, letter)
        # After the letters are out: they are the evidence the breaker points to.
        self._breaker.observe(len(raw), len(bad))
        if len(good):
            yield good

    def infer_output_type(self, input_type: object) -> type:
        return FrameBatch


class _EncodeBatches(beam.DoFn):  # type: ignore[misc]
    def __init__(self, encode: Callable[[InferredBatch, Per], list[OutputRecord]], per: Per) -> None:
        self._encode = encode
        self._per = per

    def process(self, inferred: InferredBatch) -> Iterator[OutputRecord]:
        yield from self._encode(inferred, self._per)

    def infer_output_type(self, input_type: object) -> type:
        return OutputRecord


# The alerts topic and the tables ask for the same ones; in a fused stage they get the same batch.
_EXPLAINED: WeakKeyDictionary[InferredBatch, list[Alert]] = WeakKeyDictionary()


class ExplainBatch:
    """Explains the alerts of a batch, each by the manifest of the model that raised it; a batch once."""

    def __init__(self, models: str, stream: str) -> None:
        """Keep the folder of models; manifests are read on the worker."""
        self._models = models
        self._stream = stream

    def __call__(self, inferred: InferredBatch) -> list[Alert]:
        """One alert per alerting frame, in frame order."""
        found = _EXPLAINED.get(inferred)
        if found is None:
            found = explain(inferred, partial(read_manifest, self._models), self._stream)
            _EXPLAINED[inferred] = found
        return found


class _ExplainAlerts(beam.DoFn):  # type: ignore[misc]
    def __init__(self, explain_batch: ExplainBatch) -> None:
        self._explain_batch = explain_batch

    def process(self, inferred: InferredBatch) -> Iterator[OutputRecord]:
        for alert in self._explain_batch(inferred):
            yield alert.to_record()

    def infer_output_type(self, input_type: object) -> type:
        return OutputRecord


class _EncodeDeadLetters(beam.DoFn):  # type: ignore[misc]
    def __init__(self, stream: str) -> None:
        self._stream = stream

    def process(self, letter: DeadLetter) -> Iterator[OutputRecord]:
        yield replace(letter, pipeline=self._stream).to_record()

    def infer_output_type(self, input_type: object) -> type:
        return OutputRecord
