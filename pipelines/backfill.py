"""``latentstream score``: the graph of the stream over files."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam

from ae_model.config import FrameContract
from pipelines.detectors import DEFAULT_CACHE_MIB
from pipelines.engines import make_options
from pipelines.file_frames import read_frames
from pipelines.formats import make_decoder
from pipelines.frame_batch import RawBatch
from pipelines.graph import GraphConfig, Sinks, build_graph
from pipelines.meters import METERS
from pipelines.prism import serving
from pipelines.records import OutputRecord
from pipelines.stream import RunSummary, make_graph_config, summarise, write_parquet
from pipelines.stream_file import StreamFile


def score_stream(
    stream: StreamFile,
    data: str,
    models: Path,
    out: Path,
    beam_args: tuple[str, ...],
    cache_mib: int = DEFAULT_CACHE_MIB,
) -> RunSummary:
    """Score files into Parquet folders of scores, codes and alerts, and dead letters beside them.

    Args:
        stream: whose model and frames to use.
        data: what to read; see pipelines.samples.
        models: folder of the models.
        out: folder to write; rows already there are not written again.
        beam_args: Beam's own flags.
        cache_mib: what loaded models may take.

    Raises:
        ConfigError: the data cannot be read as the stream's frames.
        ArtifactError: there is no model, or it is refused.
    """
    options = make_options(beam_args)
    graph = make_raw_config(stream, models, cache_mib)
    METERS.reset()
    start = time.monotonic()
    with serving(options), beam.Pipeline(options=options) as pipeline:
        raw = pipeline | "NameData" >> beam.Create([data]) | "ReadFiles" >> beam.ParDo(_ReadFiles(stream.contract))
        build_graph(raw, graph, make_file_sinks(graph, out))
    return summarise(stream.name, graph, time.monotonic() - start, drained=False)


def make_raw_config(stream: StreamFile, models: Path, cache_mib: int = DEFAULT_CACHE_MIB) -> GraphConfig:
    """The stream's graph for frames that are float32 already, as files give them."""
    graph = make_graph_config(stream, models, cache_mib=cache_mib)
    return replace(graph, decoder=make_decoder("raw", stream.contract))


def make_file_sinks(graph: GraphConfig, out: Path) -> Sinks:
    """Parquet for results, a file of JSON lines for what could not be used."""
    return Sinks(
        dead_letters=WriteLetters(str(out)),
        parquet=write_parquet(str(out), graph),
    )


class WriteLetters(beam.PTransform):  # type: ignore[misc]
    """Writes dead letters as JSON lines under ``dead_letters/``, in files named by their content."""

    def __init__(self, folder: str) -> None:
        """Keep the folder of all results."""
        super().__init__()
        self._folder = folder

    def expand(self, records: beam.PCollection) -> Any:
        """One file per bundle that holds any."""
        return records | beam.ParDo(_WriteLetters(self._folder))


class _WriteLetters(beam.DoFn):  # type: ignore[misc]
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def start_bundle(self) -> None:
        self._lines: list[str] = []

    def process(self, record: OutputRecord) -> None:
        self._lines.append(as_line(record))

    def finish_bundle(self) -> None:
        if not self._lines:
            return
        text = "".join(self._lines)
        folder = Path(self._folder) / "dead_letters"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
        # The same rows give the same name, so a repeated bundle replaces its own file.
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def as_line(record: OutputRecord) -> str:
    """A dead letter as one line of JSON, its bytes in base64."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    columns = {"key": record.key, "value": record.value}
    coded = {name: None if data is None else base64.b64encode(data).decode() for name, data in columns.items()}
    return json.dumps({**coded, "headers": headers}, sort_keys=True) + "\n"


class _ReadFiles(beam.DoFn):  # type: ignore[misc]
    def __init__(self, contract: FrameContract) -> None:
        self._contract = contract

    def process(self, data: str) -> Iterator[RawBatch]:
        for raw in read_frames(data, self._contract):
            METERS.add("read", len(raw))
            yield raw

    def infer_output_type(self, input_type: object) -> type:
        return RawBatch
