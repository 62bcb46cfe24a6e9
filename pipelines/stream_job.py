"""One run of a stream as an engine gets it: from where to where, with which options, and what tells its end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from ae_model.exceptions import ConfigError
from pipelines import flink
from pipelines.kafka import offsets
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.placement import Subtasks
from pipelines.kafka.source import ReadFrames, ReadOptions, is_draining
from pipelines.kafka.transactions import Transactions, fence
from pipelines.options import RunSettings
from pipelines.stream_file import StreamFile

# A checkpoint of Flink's waits for the calls that are under way.
FLINK_BUDGET_S = 0.4


@dataclass(frozen=True)
class StreamJob:
    """A run as an engine gets it.

    Args:
        options: Beam's.
        source: where each partition starts and stops.
        wait: waits for the end, and gives whether the job must be started anew.
    """

    options: PipelineOptions
    source: ReadFrames
    wait: Callable[[PipelineResult], bool]


def plan_job(
    stream: StreamFile,
    kafka: KafkaSettings,
    settings: RunSettings,
    options: PipelineOptions,
    transactions: Transactions | None = None,
) -> StreamJob:
    """Hold engine and topics to what the run needs; on Flink the group then begins where the job does.

    A note beside the group's offsets stays until the source has been called and a checkpoint kept its call.
    """
    if not flink.is_chosen(options):
        return StreamJob(options, plan_source(stream, kafka, settings, transactions), _wait_until_finish)
    source = plan_source(stream, kafka, settings, subtasks=flink.prepare(options, stream.name))
    place, note = (kafka, stream.group, stream.input.topic), uuid.uuid4().hex
    offsets.commit_offsets(*place, source.start, note)

    def has_begun() -> bool:
        return any(found != note for found in offsets.group_notes(*place).values())

    def is_over() -> bool:
        return is_draining() or has_read(stream, kafka, source.until)

    return StreamJob(options, source, lambda result: flink.watch(result, options, has_begun, is_over))


def _wait_until_finish(result: PipelineResult) -> bool:
    result.wait_until_finish()
    return False


def has_read(stream: StreamFile, kafka: KafkaSettings, until: Mapping[int, int] | None) -> bool:
    """Whether the group has passed the stop of each partition, so that all before it is in the outputs."""
    if until is None:
        return False
    passed = offsets.group_offsets(kafka, stream.group, stream.input.topic)
    return all(passed.get(partition, 0) >= stop for partition, stop in until.items())


def go_on(settings: RunSettings, until: Mapping[int, int] | None) -> RunSettings:
    """The settings of the same run, to be started anew: at the committed offsets, up to the stop that was found."""
    kept = tuple(arg for arg in settings.beam_args if not arg.startswith("--savepoint_path"))
    return replace(settings, start=None, until=None if until is None else json.dumps(until), beam_args=kept)


def plan_source(
    stream: StreamFile,
    kafka: KafkaSettings,
    settings: RunSettings,
    transactions: Transactions | None = None,
    subtasks: Subtasks | None = None,
) -> ReadFrames:
    """Check every topic and right, then settle where each partition starts and stops; ``subtasks`` are Flink's."""
    topic, group = stream.input.topic, stream.group
    rights = {topic: "READ", **dict.fromkeys(stream.outputs.topics, "WRITE")}
    counts = offsets.check_topics(kafka, rights, stream.given, rights)
    check_partitions(topic, counts)
    partitions = list(range(counts[topic]))
    if transactions is not None:
        # Before the offsets are asked for: a run that is still alive could commit others behind our back.
        fence(transactions, partitions)
    start = offsets.start_offsets(kafka, topic, partitions, group, settings.start)
    offsets.check_start(kafka, topic, start)
    return ReadFrames(
        kafka,
        topic,
        partitions,
        start=start,
        until=offsets.until_offsets(kafka, topic, partitions, settings.until),
        group=group,
        max_record_bytes=stream.input.max_record_bytes,
        transactions=transactions,
        options=ReadOptions(budget_s=FLINK_BUDGET_S) if subtasks else None,
        hold=subtasks is not None,
        subtasks=subtasks,
    )


def check_partitions(topic: str, counts: Mapping[str, int]) -> None:
    """Hold the outputs to as many partitions as the input, since a result goes where its record came from.

    Raises:
        ConfigError: an output has fewer.
    """
    for name, count in counts.items():
        if count < counts[topic]:
            raise ConfigError(
                f"topic {name}: expected at least {counts[topic]} partitions, as many as {topic} has. "
                f"Received: partitions={count}. Add partitions to it."
            )
