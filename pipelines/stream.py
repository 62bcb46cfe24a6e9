"""``latentstream run``: from a Kafka topic through the model to the outputs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import apache_beam as beam

from ae_model.exceptions import ConnectError
from ae_model.scopes import LAYERS
from pipelines import panel
from pipelines.dead_letters import DeadLetter
from pipelines.detectors import DEFAULT_CACHE_MIB, DETECTORS
from pipelines.engines import make_options
from pipelines.formats import make_decoder
from pipelines.graph import ExplainBatch, GraphConfig, Sinks, build_graph
from pipelines.guarantees import plan_transactions
from pipelines.kafka.client import KafkaSettings, check_client
from pipelines.kafka.refused import RefusedRecords
from pipelines.kafka.sink import WriteRecords, close_sinks
from pipelines.kafka.source import clear_drain, close_sources, is_draining, request_drain
from pipelines.kafka.transactions import Transactions, closing_transactions, settle
from pipelines.meters import METERS
from pipelines.options import RunSettings
from pipelines.parquet import WriteParquet
from pipelines.prism import serving
from pipelines.routes import find_routes
from pipelines.stream_file import StreamFile
from pipelines.stream_job import StreamJob, go_on, plan_job


@dataclass(frozen=True)
class RunSummary:
    """What one run did; ``read == ok + dead`` or something was lost.

    Args:
        stream: its name.
        model: name of the artifact, or of the first for any key where each key has its own.
        version: its version.
        read: records read, those that the source refused included.
        ok: frames inferred.
        dead: dead letters.
        alerts: alerts sent.
        clipped: frames whose code of int8 lies at its limit, and may have lain beyond.
        seconds: wall time.
        drained: whether a signal ended the run before its input did.
        layers: frames by the layer that scored them, where each key has a model of its own.
        models: how many were loaded and how many evicted, likewise.
    """

    stream: str
    model: str
    version: int
    read: int
    ok: int
    dead: int
    alerts: int
    clipped: int
    seconds: float
    drained: bool
    layers: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)

    @property
    def balance(self) -> int:
        """Records that are neither in the outputs nor in the dead letters; 0 or there is a fault."""
        return self.read - self.ok - self.dead

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        document = {**asdict(self), "balance": self.balance}
        return {name: value for name, value in document.items() if value != {}}


def run_stream(stream: StreamFile, settings: RunSettings) -> RunSummary:
    """Run a stream until its input ends, or a signal asks it to stop.

    Everything that can be refused is refused before the first record is read: the
    engine, the model, the broker, the topics.

    Raises:
        ConfigError: the engine cannot run this.
        ArtifactError: there is no model, it is damaged, or it was trained for other frames.
        ConnectError: the broker is absent, or a topic or a right is missing.
        SourceGoneError: the records to start from were deleted.
    """
    options = make_options(settings.beam_args, settings.runner, bounded=settings.until is not None)
    check_client()
    graph = make_graph_config(stream, settings.models, settings.version, settings.model_cache_mib)
    kafka = stream.kafka_settings(settings.bootstrap)
    tables = bool(settings.parquet or stream.outputs.parquet)
    transactions = plan_transactions(stream, kafka, options, start=settings.start, tables=tables)
    with closing_transactions():
        job = plan_job(stream, kafka, settings, options, transactions)
        METERS.reset()
        clear_drain()
        start = time.monotonic()
        sinks = make_sinks(stream, graph, kafka, settings, transactions)
        with serving(options), drain_on_signals(), _shown(stream.name, settings):
            while _run_pipeline(job, graph, sinks):
                settings = go_on(settings, job.source.until)
                options = make_options(settings.beam_args, settings.runner, bounded=settings.until is not None)
                job = plan_job(stream, kafka, settings, options)
        if transactions is not None:
            settle(transactions, job.source.partitions)
    return summarise(stream.name, graph, time.monotonic() - start, drained=is_draining())


def _run_pipeline(job: StreamJob, graph: GraphConfig, sinks: Sinks) -> bool:
    pipeline = beam.Pipeline(options=job.options)
    read = pipeline | "ReadFrames" >> job.source
    refused = read.refused | "BuryRefused" >> beam.ParDo(_BuryRefused())
    build_graph(read.records, graph, sinks, refused)
    try:
        anew = job.wait(pipeline.run())
    except BaseException:
        # What ended the run is told, not that its last offsets could not be committed either.
        with suppress(ConnectError):
            close_clients()
        raise
    close_clients()
    return anew


def close_clients() -> None:
    """Close all Kafka clients of this process, and commit what waits.

    Raises:
        ConnectError: the last offsets could not be committed.
    """
    close_sinks()
    close_sources()


class _BuryRefused(beam.DoFn):  # type: ignore[misc]
    """One dead letter by reference for each offset that the source would not read."""

    def process(self, refused: RefusedRecords) -> Iterator[DeadLetter]:
        METERS.add("dead", len(refused))
        for offset in range(refused.first_offset, refused.last_offset + 1):
            yield bury_by_reference(refused, offset)

    def infer_output_type(self, input_type: object) -> type:
        return DeadLetter


def bury_by_reference(refused: RefusedRecords, offset: int) -> DeadLetter:
    """A dead letter that says where the record is and does not carry it."""
    return DeadLetter(
        topic=refused.topic,
        partition=refused.partition,
        offset=offset,
        timestamp=refused.timestamp,
        key=None,
        value=None,
        headers=[],
        code=refused.code,
        message=refused.message,
        stage="read",
        by_reference=True,
    )


def make_graph_config(
    stream: StreamFile, models: Path, version: int | None = None, cache_mib: int = DEFAULT_CACHE_MIB
) -> GraphConfig:
    """Find and verify the models of a stream, and load those for any key, which also proves what they compute.

    Raises:
        ArtifactError: one for any key is absent, refused or of other frames.
    """
    DETECTORS.forget_refused()
    DETECTORS.set_limit(cache_mib << 20)
    routes = find_routes(stream, models, version)
    for candidate in routes.rest:
        DETECTORS.get(routes.path(candidate))
    return GraphConfig(
        stream=stream.name,
        decoder=make_decoder(
            stream.input.format, stream.contract, dtype=stream.input.dtype, feature=stream.input.feature
        ),
        routes=routes,
        per=stream.outputs.per,
        breaker_share=stream.breaker.share,
        breaker_records=stream.breaker.records,
        cache_mib=cache_mib,
    )


def make_sinks(
    stream: StreamFile,
    graph: GraphConfig,
    kafka: KafkaSettings,
    settings: RunSettings,
    transactions: Transactions | None = None,
) -> Sinks:
    """One sink per output that the stream file turns on."""
    outputs, folder = stream.outputs, settings.parquet or stream.outputs.parquet
    write = partial(WriteRecords, kafka, transactions=transactions)
    return Sinks(
        dead_letters=write(outputs.dead_letters),
        codes=write(outputs.codes, together=True) if outputs.codes else None,
        denoised=write(outputs.denoised, together=True) if outputs.denoised else None,
        alerts=write(outputs.alerts) if outputs.alerts else None,
        parquet=write_parquet(folder, graph, transactions) if folder else None,
    )


def write_parquet(folder: str, graph: GraphConfig, transactions: Transactions | None = None) -> WriteParquet:
    """The sink for tables, whose files are named by the stream where each key has a model of its own."""
    model = graph.stream if graph.routes.keyed else None
    return WriteParquet(folder, ExplainBatch(graph.routes.models, graph.stream), model, transactions=transactions)


@contextmanager
def drain_on_signals() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C drain the source; a second one stops at once, as KeyboardInterrupt with its number."""
    stopped: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if is_draining():
            stopped.append(number)
            raise KeyboardInterrupt(number)
        request_drain()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except BaseException as exc:
        if stopped:
            # Whatever broke on the way out: this is why.
            raise KeyboardInterrupt(stopped[0]) from exc
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(title: str, settings: RunSettings) -> AbstractContextManager[None]:
    return panel.show(title) if settings.panel else nullcontext()


def summarise(stream: str, graph: GraphConfig, seconds: float, *, drained: bool) -> RunSummary:
    """What the meters say of the run that just ended."""
    totals, _, _ = METERS.snapshot()
    first, keyed = graph.routes.rest[0], graph.routes.keyed
    counts = {name: totals.get(name, 0) for name in ("read", "ok", "dead", "alerts", "clipped")}
    about: dict[str, Any] = {**counts, "seconds": seconds, "drained": drained}
    if keyed:
        about["layers"] = {layer: totals.get(f"layer_{layer}", 0) for layer in LAYERS}
        about["models"] = {name: totals.get(f"model_{name}", 0) for name in ("loads", "evictions")}
    return RunSummary(stream, first.model, first.version, **about)
