"""``guarantee: exactly_once`` on a real broker: a reader of committed records sees each id once, or not yet."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stream_rig as rig
from apache_beam.options.pipeline_options import PipelineOptions
from kafka import TopicPartition

from ae_model.exceptions import ConfigError, SinkError
from pipelines.audit import audit_stream
from pipelines.commands.failures import find_cause
from pipelines.guarantees import plan_transactions
from pipelines.kafka import transactions
from pipelines.kafka.client import KafkaSettings, make_consumer
from pipelines.kafka.offsets import group_offsets
from pipelines.kafka.transactions import Bundle, PartitionTransaction, Transactions, within
from pipelines.parquet_files import read_table
from pipelines.records import read_codes
from pipelines.stream import run_stream
from pipelines.stream_file import StreamFile


@pytest.fixture
def stream(broker: str, topic_name: Callable[..., str]) -> StreamFile:
    # A name of its own: the group's offsets are the stream's memory.
    topic = topic_name("once")
    return rig.make_stream(topic, broker, guarantee="exactly_once")


def coded(broker: str, stream: StreamFile, isolation: str) -> Counter[tuple[int, int]]:
    """How often each id is among the codes, for a reader of this isolation."""
    topic, ids = stream.outputs.codes or "", Counter[tuple[int, int]]()
    consumer = make_consumer(KafkaSettings(broker), isolation_level=isolation)
    partitions = [TopicPartition(topic, number) for number in range(3)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    idle = 0
    while idle < 3:
        polled = consumer.poll(timeout_ms=500)
        idle = 0 if polled else idle + 1
        for record in (record for records in polled.values() for record in records):
            rows = read_codes(record.value, record.headers, key=record.key, timestamp_ms=record.timestamp)
            ids.update((rows.partition, offset) for offset in rows.offsets.tolist())
    consumer.close()
    return ids


def test_records_and_offsets_are_committed_together_and_a_second_run_goes_on(
    broker: str, models: Path, stream: StreamFile
) -> None:
    rig.send_values(broker, stream.input.topic, [*rig.good_values(60), b"bad", rig.strange_frame().tobytes()])
    first = run_stream(stream, rig.settings(broker, models))
    between = group_offsets(KafkaSettings(broker), stream.group, stream.input.topic)
    rig.send_values(broker, stream.input.topic, rig.good_values(30, seed=8))
    second = run_stream(stream, rig.settings(broker, models))

    audit = audit_stream(stream, KafkaSettings(broker))
    assert (first.read, first.balance, second.read, second.balance) == (62, 0, 30, 0)
    assert between == {0: 21, 1: 21, 2: 20}
    assert (audit.records, audit.coded, audit.dead, audit.replayed, audit.ok) == (92, 91, 1, 0, True)
    assert any(alert["offset"] == 20 for alert in rig.read_alerts(broker, stream.outputs.alerts or ""))


def test_what_was_sent_before_a_commit_that_failed_is_seen_by_nobody_and_written_once_more(
    broker: str, models: Path, stream: StreamFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.send_values(broker, stream.input.topic, rig.good_values(90))

    def fail(self: PartitionTransaction, next_offset: int) -> None:
        self._producer.flush()
        raise SinkError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(PartitionTransaction, "commit", fail)
        with pytest.raises(Exception, match="the power went") as caught:
            run_stream(stream, rig.settings(broker, models))
    seen = coded(broker, stream, "read_committed")
    lying = coded(broker, stream, "read_uncommitted")
    run_stream(stream, rig.settings(broker, models))

    ids = [(partition, offset) for partition in range(3) for offset in range(30)]
    assert isinstance(find_cause(caught.value), SinkError)
    assert (seen, sorted(lying)) == (Counter(), ids)
    assert coded(broker, stream, "read_committed") == Counter(ids)
    assert sorted(coded(broker, stream, "read_uncommitted").values()) == [2] * 90


def test_rows_of_the_tables_are_there_before_their_offsets_are_committed(
    broker: str, models: Path, stream: StreamFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig.send_values(broker, stream.input.topic, rig.good_values(30))
    commit, seen = PartitionTransaction.commit, list[tuple[int, int]]()

    def look(self: PartitionTransaction, next_offset: int) -> None:
        rows = read_table(tmp_path, "scores").column("partition").to_pylist().count(self._partition)
        seen.append((rows, next_offset))
        commit(self, next_offset)

    monkeypatch.setattr(PartitionTransaction, "commit", look)
    run_stream(stream, rig.settings(broker, models, parquet=str(tmp_path)))

    assert len(seen) >= 3
    assert [rows for rows, _ in seen] == [next_offset for _, next_offset in seen]


def test_a_start_of_ones_own_is_refused_once_there_are_outputs(broker: str, models: Path, stream: StreamFile) -> None:
    rig.send_values(broker, stream.input.topic, rig.good_values(3))
    run_stream(stream, rig.settings(broker, models, start="earliest"))

    with pytest.raises(ConfigError, match=r"--start: expected none with guarantee: exactly_once.*=earliest"):
        run_stream(stream, rig.settings(broker, models, start="earliest"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--runner=FlinkRunner",),
            "guarantee: expected --runner=FnApiRunner with exactly_once, on which the committed offsets are the only "
            "memory. Received: --runner=FlinkRunner. Set guarantee: at_least_once.",
        ),
        (
            ("--direct_running_mode=multi_processing",),
            "--direct_running_mode: expected one process with guarantee: exactly_once, whose partitions would else be "
            "fenced by each other. Received: multi_processing.",
        ),
    ],
)
def test_engine_on_which_it_does_not_hold_is_refused_with_the_reason(flags: tuple[str, ...], message: str) -> None:
    stream = rig.parse_stream(rig.describe("press.frames.v1", guarantee="exactly_once"))
    options = PipelineOptions([*flags, *(() if "--runner" in flags[0] else ("--runner=FnApiRunner",))])

    with pytest.raises(ConfigError) as caught:
        plan_transactions(stream, KafkaSettings("127.0.0.1:1"), options, start=None, tables=False)

    assert str(caught.value) == message


def test_sinks_in_another_bundle_are_refused_before_anything_is_read() -> None:
    two = Transactions(KafkaSettings(), "small", "t", "g", writers=2)
    bundle = Bundle()
    bundle.join()

    with pytest.raises(ConfigError, match=r"keeps the source and its 2 sinks in one bundle.*Received: sinks=1\."):
        bundle.enter(two)


def test_an_unfinished_bundle_is_given_up_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    committed: list[tuple[int, int]] = []

    class Recorded:
        def __init__(self, partition: int) -> None:
            self.partition = partition

        def commit(self, next_offset: int) -> None:
            committed.append((self.partition, next_offset))

    monkeypatch.setattr(transactions, "transaction", lambda _, partition: Recorded(partition))
    one = Transactions(KafkaSettings(), "small", "t", "g", writers=1)
    bundle = Bundle()
    for partition in (0, 1):
        bundle.join()
        bundle.enter(one)
        bundle.read(one, partition, 7)
    bundle.leave(one)

    assert committed == [(1, 7)]


def test_call_that_never_comes_back_is_waited_for_no_longer_than_told() -> None:
    never, started = threading.Event(), time.monotonic()
    calls = [lambda: None, *[lambda: never.wait() and None] * 20]

    assert within(0.2, calls) is False
    # All together, not one after the other.
    assert time.monotonic() - started < 3
    never.set()
