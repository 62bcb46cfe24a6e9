"""What ends a run in mid-stream: each with its exit code, one line that says what to do, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import command_rig
import pytest
import stream_rig as rig
import yaml
from kafka import TopicPartition

from pipelines.audit import audit_stream
from pipelines.cli import main
from pipelines.kafka.client import KafkaSettings, make_admin
from pipelines.kafka.offsets import commit_offsets
from pipelines.parquet_files import read_table, verify_folder
from pipelines.stream_file import load_stream

# No file may grow beyond 4 KiB, as on a disk that is full.
FULL_DISK = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {command_rig.PROGRAM}"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(models: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a stream file in this process; gives the exit code and what came out, the error if there is one."""

    def run(path: Path, *flags: str) -> tuple[int, str]:
        code = main(command_rig.words(path, models, *flags))
        shown = capsys.readouterr()
        return code, shown.err or shown.out

    return run


def test_full_disk_is_exit_7_and_a_run_with_room_loses_nothing(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path, tables = rig.write_stream(tmp_path, topic_name(), broker), tmp_path / "tables"
    stream = load_stream(str(path))
    rig.send_values(broker, stream.input.topic, rig.good_values(300))

    code, out, err = command_rig.run_apart(path, models, "--parquet", str(tables), program=FULL_DISK)

    assert (code, out) == (7, "")
    assert err.startswith(f"error: parquet {stream.input.topic}-0000")
    assert err.endswith(
        ": expected room and the right to write. Received: [Errno 27] File too large. "
        "Make room or choose another folder; what was not written is written again.\n"
    )
    assert err.count("\n") == 1
    assert command_rig.committed(broker, stream) == {}
    assert list(tables.rglob("*.parquet")) == []

    assert run(path, "--parquet", str(tables))[0] == 0

    assert verify_folder(tables)["ok"]
    assert (read_table(tables, "scores").num_rows, read_table(tables, "codes").num_rows) == (300, 300)
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.records, audit.coded, audit.lost) == (300, 300, [])
    assert command_rig.committed(broker, stream) == {0: 100, 1: 100, 2: 100}


def test_too_many_dead_letters_are_exit_6_and_none_of_them_is_passed_over(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, breaker={"share": 0.5, "records": 100})
    stream = load_stream(str(path))
    rig.send_values(broker, stream.input.topic, [*rig.good_values(60), *([b"other format"] * 300)])

    code, out, err = command_rig.run_apart(path, models)

    assert (code, out) == (6, "")
    assert err == (
        "error: dead letters: expected at most 50% of the last 120 records. Received: dead=100. "
        "The input may have changed; `latentstream dlq list` gives the reasons.\n"
    )
    assert command_rig.committed(broker, stream) == {}
    # The evidence is there, with a reason each.
    assert len(rig.read_records(broker, stream.outputs.dead_letters)) >= 100

    # Whoever knows the reason allows it; what was read before is read again.
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "breaker": {"share": 1.0}}))
    assert run(path)[0] == 0
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.records, audit.coded, audit.dead, audit.lost) == (360, 60, 300, [])


def test_retention_that_passed_the_group_is_exit_4_and_says_how_to_go_on(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker)
    stream = load_stream(str(path))
    topic = stream.input.topic
    rig.send_values(broker, topic, rig.good_values(30))
    commit_offsets(KafkaSettings(broker), stream.group, topic, {0: 3, 1: 3, 2: 3})
    with make_admin(KafkaSettings(broker)) as admin:
        admin.delete_records({TopicPartition(topic, 0): 7})

    code, message = run(path)
    beyond = run(path, "--start", '{"1": 99}')
    going_on = run(path, "--start", "earliest")

    assert code == 4
    assert message == (
        f"error: input {topic}[0]@3: expected an offset from 7 to 10. Received: offset=3. "
        "4 offsets were deleted unread; go on with `--start earliest`.\n"
    )
    assert beyond == (
        4,
        f"error: input {topic}[1]@99: expected an offset from 0 to 10. Received: offset=99. "
        "The topic was cut or made anew; go on with `--start earliest`.\n",
    )
    assert going_on[0] == 0
    assert json.loads(going_on[1])["ok"] == 23
