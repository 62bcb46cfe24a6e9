"""Where ``guarantee: exactly_once`` holds, and a refusal with its reason where it does not."""

from __future__ import annotations

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from ae_model.exceptions import ConfigError
from pipelines.graph import LETTER_ORIGINS
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import Given, group_offsets
from pipelines.kafka.transactions import Transactions
from pipelines.stream_file import StreamFile

# Their only memory is the group's offsets, which the transactions carry; and all workers are this process.
TRANSACTIONAL_ENGINES = ("FnApiRunner",)


def plan_transactions(
    stream: StreamFile, kafka: KafkaSettings, options: PipelineOptions, *, start: Given, tables: bool
) -> Transactions | None:
    """The transactions of a stream that asks for exactly_once; None for one that does not.

    Args:
        stream: which.
        kafka: its cluster.
        options: Beam's, which name the engine.
        start: as it was asked for.
        tables: whether there is a sink of Parquet tables, whose rows must be there before a commit.

    Raises:
        ConfigError: the engine or the start would break the promise.
        ConnectError: no broker.
    """
    if stream.guarantee == "at_least_once":
        return None
    _check_engine(options)
    topic, group, outputs = stream.input.topic, stream.group, stream.outputs
    if start is not None and group_offsets(kafka, group, topic):
        raise ConfigError(
            f"--start: expected none with guarantee: exactly_once, since group {group} has outputs of earlier records. "
            f"Received: --start={start}. Give the stream another name, or topics of its own."
        )
    # The dead letters' topic is among those of the outputs.
    sinks = len(outputs.topics) - 1 + len(LETTER_ORIGINS) + tables
    return Transactions(kafka, stream.name, topic, group, sinks)


def _check_engine(options: PipelineOptions) -> None:
    runner = options.view_as(StandardOptions).runner
    if runner not in TRANSACTIONAL_ENGINES:
        raise ConfigError(
            f"guarantee: expected --runner={' or '.join(TRANSACTIONAL_ENGINES)} with exactly_once, on which the "
            f"committed offsets are the only memory. Received: --runner={runner}. Set guarantee: at_least_once."
        )
    mode = options.view_as(DirectOptions).direct_running_mode
    if mode == "multi_processing":
        raise ConfigError(
            "--direct_running_mode: expected one process with guarantee: exactly_once, whose partitions would else be "
            f"fenced by each other. Received: {mode}."
        )
