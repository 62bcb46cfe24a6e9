"""The same stream on Prism: bounded, and without an end until a signal drains it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import stream_rig as rig
from output_check import check_outputs

from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import start_offsets
from pipelines.prism import INSTALL, find_prism
from pipelines.stream_file import StreamFile, load_stream

pytestmark = pytest.mark.skipif(
    find_prism() is None, reason=f"no Prism on the PATH, in PRISM_LOCATION, GOBIN or ~/go/bin; get it: {INSTALL}"
)

DRAIN_S = 30


class Job:
    """A run on Prism in a process of its own."""

    def __init__(self, stream: Path, models: Path, *flags: str) -> None:
        words = ["run", str(stream), "--models", str(models), "--runner=PrismRunner", "--no-panel", "-o", "json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait(self, timeout: float) -> tuple[int, Any, str]:
        """Its exit code, its summary, and what it said on stderr."""
        out, error = self.process.communicate(timeout=timeout)
        return self.process.returncode, json.loads(out) if out else None, error.decode()

    def stop(self, number: signal.Signals) -> tuple[int, Any, str]:
        """The same after a signal to all its processes, as a terminal sends Ctrl-C."""
        os.killpg(self.process.pid, number)
        return self.wait(DRAIN_S)


@pytest.fixture
def start(models: Path) -> Iterator[Callable[..., Job]]:
    """Start a job; none outlives its test."""
    jobs: list[Job] = []

    def start(stream: Path, *flags: str) -> Job:
        jobs.append(Job(stream, models, *flags))
        return jobs[-1]

    yield start
    for job in jobs:
        job.process.kill()
        job.process.communicate()


def committed(stream: StreamFile, broker: str) -> list[int]:
    """Where the next run would begin, by partition."""
    found = start_offsets(KafkaSettings(broker), stream.input.topic, [0, 1, 2], stream.group, None)
    return [found[partition] for partition in range(3)]


def test_bounded_run_counts_commits_and_writes_all_outputs(
    broker: str, start: Callable[..., Job], topic_name: Callable[..., str], tmp_path: Path
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker)
    stream = load_stream(str(path))
    good = rig.good_values(300)
    rig.send_values(broker, stream.input.topic, [b"bad" if row % 100 == 7 else good[row] for row in range(300)])

    code, summary, error = start(path, "--until", "latest", "--parquet", str(tmp_path / "parquet")).wait(120)

    assert (code, error) == (0, "")
    assert {name: summary[name] for name in ("read", "ok", "dead", "balance", "drained")} == {
        "read": 300,
        "ok": 297,
        "dead": 3,
        "balance": 0,
        "drained": False,
    }
    assert check_outputs(stream, broker, tmp_path / "parquet", 300).replayed == 0
    assert committed(stream, broker) == [100, 100, 100]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_unbounded_run_is_drained_by_a_signal_and_the_next_one_goes_on(
    broker: str, start: Callable[..., Job], topic_name: Callable[..., str], tmp_path: Path, number: signal.Signals
) -> None:
    count, parquet = 60_000, tmp_path / "parquet"
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream = load_stream(str(path))
    codes = stream.outputs.codes or ""

    with closing(rig.Reader(broker, codes)) as reader, rig.sending(broker, stream.input.topic, count):
        job = start(path, "--parquet", str(parquet))
        reader.wait_for(count // 4)
        first = job.stop(number)
        between = committed(stream, broker)
        job = start(path, "--parquet", str(parquet))
        reader.wait_for(count * 99 // 100)
    second = job.stop(number)

    assert [(code, summary["drained"], error) for code, summary, error in (first, second)] == [(143, True, "")] * 2
    assert sum(between) == first[1]["read"] < count
    assert first[1]["read"] + second[1]["read"] == count
    assert [summary["balance"] for _, summary, _ in (first, second)] == [0, 0]
    assert committed(stream, broker) == [count // 3] * 3
    assert check_outputs(stream, broker, parquet, count).replayed == 0


def test_killed_run_loses_nothing(
    broker: str, start: Callable[..., Job], topic_name: Callable[..., str], tmp_path: Path
) -> None:
    count, parquet = 60_000, tmp_path / "parquet"
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream = load_stream(str(path))
    codes = stream.outputs.codes or ""

    with closing(rig.Reader(broker, codes)) as reader, rig.sending(broker, stream.input.topic, count):
        job = start(path, "--parquet", str(parquet))
        reader.wait_for(count // 4)
        job.process.kill()
        last = start(path, "--until", json.dumps(dict.fromkeys("012", count // 3)), "--parquet", str(parquet))
        code, _, error = last.wait(120)

    assert (code, error) == (0, "")
    check_outputs(stream, broker, parquet, count)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the engine in /proc")
def test_run_whose_engine_is_killed_says_so(
    broker: str, start: Callable[..., Job], topic_name: Callable[..., str], tmp_path: Path
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker)
    stream = load_stream(str(path))
    rig.send_values(broker, stream.input.topic, rig.good_values(30))

    with closing(rig.Reader(broker, stream.outputs.codes or "")) as reader:
        job = start(path)
        reader.wait_for(30)
        children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        code, summary, error = job.wait(60)

    assert (len(children), code, summary) == (1, 70, None)
    assert error == (
        "error: Prism: expected it to run as long as the job. Received: exit=-9. Was it killed? "
        "Start the command again; it goes on at the committed offsets.\n"
    )


def test_failed_run_tells_its_error_in_one_line(
    broker: str, start: Callable[..., Job], topic_name: Callable[..., str], tmp_path: Path
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, breaker={"share": 0.5, "records": 30})
    rig.send_values(broker, load_stream(str(path)).input.topic, [b"bad"] * 90)

    code, summary, error = start(path).wait(60)

    assert (code, summary) == (6, None)
    assert error.startswith("error: dead letters: expected at most 50% of the last 30 records.")
    assert error.count("\n") == 1
