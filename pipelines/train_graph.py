"""The batch job from shards to candidates; the same for one model and for a thousand.

::

    shards ─> ReadShards ─> frame blocks ─┬─> WriteExamples ──────────────────────────┬─> FitModel ─> candidates,
                                          └─> training only ─> statistics, per model ─┘               an Outcome each

Elements are blocks of frames, never single ones. A block is written once, whatever the number
of models that read it: its key's own, its cohort's, that of all keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from ae_model.config import FrameContract
from ae_model.scopes import slug
from pipelines.examples import write_examples
from pipelines.fit_model import FitModel
from pipelines.prism import serving
from pipelines.shards import TRAINING, FrameBlock, Shard, read_frames
from pipelines.statistics import CombineProfile
from pipelines.trial import FitRequest, WrittenBlock

# The names of the models that see the frames of each key; the key is None where one model is for all.
Readers: TypeAlias = Mapping[str | None, Sequence[str]]


@dataclass(frozen=True)
class Job:
    """What one run of the batch job makes.

    Args:
        requests: the models to fit, by name.
        readers: which of them see the frames of each key.
        contract: what a frame is.
        work: the run's folder.
        keep_going: whether a model that cannot be trained leaves the others alone.
    """

    requests: dict[str, FitRequest]
    readers: Readers
    contract: FrameContract
    work: str
    keep_going: bool = False


def run_job(shards: Sequence[Shard], job: Job, options: PipelineOptions) -> None:
    """Run the whole batch job; candidates and outcomes are in the requests' folders afterwards."""
    # Sketches of percentiles would be too much for a thousand models at once.
    combine = CombineProfile(len(job.contract.channels), percentiles=not job.keep_going)
    with serving(options), beam.Pipeline(options=options) as pipeline:
        blocks = (
            pipeline
            | "ListShards" >> beam.Create(shards)
            # Without it a cluster would read all shards on the worker that listed them.
            | "SpreadShards" >> beam.Reshuffle()
            | "ReadShards" >> beam.ParDo(ReadShards(job.contract))
        )
        profile = (
            blocks
            | "KeepTraining" >> beam.FlatMap(training_frames, job.readers)
            | "CombineProfile" >> beam.CombinePerKey(combine)
        )
        written = blocks | "WriteExamples" >> beam.ParDo(WriteExamples(job))
        grouped = {"blocks": written, "profile": profile} | "GroupByModel" >> beam.CoGroupByKey()
        _ = grouped | "FitModel" >> beam.ParDo(FitModel(job.requests, job.work, keep_going=job.keep_going))


def training_frames(block: FrameBlock, readers: Readers) -> Iterator[tuple[str, Any]]:
    """The frames that the statistics of each model may see."""
    if block.split == TRAINING and len(block.frames):
        for name in readers[block.key]:
            yield name, block.frames


class ReadShards(beam.DoFn):  # type: ignore[misc]
    """Shards to FrameBlock elements."""

    def __init__(self, contract: FrameContract) -> None:
        """Keep what a frame is."""
        self._contract = contract
        self._frames = Metrics.counter("latentstream", "frames")
        self._unusable = Metrics.counter("latentstream", "unusable")

    def process(self, shard: Shard) -> Iterator[FrameBlock]:
        """Read a shard block by block."""
        for block in read_frames(shard, self._contract):
            self._frames.inc(len(block.frames))
            self._unusable.inc(block.unusable)
            yield block


class WriteExamples(beam.DoFn):  # type: ignore[misc]
    """FrameBlock to (model, WrittenBlock) for each that reads it: one TFRecord file, the same if done again."""

    def __init__(self, job: Job) -> None:
        """Keep the run's folder, what a frame is, and who reads it."""
        self._work, self._contract, self._readers = job.work, job.contract, job.readers

    def process(self, block: FrameBlock) -> Iterator[tuple[str, WrittenBlock]]:
        """Write one block."""
        folder = Path(self._work) / "examples" / ("" if block.key is None else slug(block.key)) / block.split
        path = folder / f"{block.name}.tfrecord"
        if len(block.frames):
            write_examples(path, block.frames, self._contract)
        left_out = (block.unusable, block.faults, block.example)
        written = WrittenBlock(block.split, str(path), len(block.frames), *left_out)
        for name in self._readers[block.key]:
            yield name, written
