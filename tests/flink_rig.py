"""Jobs of the small stream on a real Flink: started as a person types it, killed as no person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stream_rig as rig

from infra.local.flink import Flink
from pipelines.flink import job_name
from pipelines.flink_master import Master
from pipelines.stream_file import load_stream

# For a job, its Python worker and TensorFlow, on a machine that is busy with other tests.
START_S = 300


def command(flink: Flink, *words: str) -> tuple[list[str], dict[str, str]]:
    """What to run, and an environment in which ``services`` finds this Flink."""
    cache = Path(flink.folder).parent.parent
    return [sys.executable, "-m", "pipelines.cli", *words], {**os.environ, "XDG_CACHE_HOME": str(cache)}


class Job:
    """``latentstream run`` on Flink in a process of its own."""

    def __init__(self, flink: Flink, stream: Path, models: Path, *flags: str) -> None:
        words = ("run", str(stream), "--models", str(models), "--runner=FlinkRunner", "--no-panel", "-o", "json")
        line, environment = command(flink, *words, *flags)
        self.process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self, timeout: float) -> tuple[int, Any, str]:
        """Its exit code, its summary, and what it said on stderr."""
        out, error = self.process.communicate(timeout=timeout)
        return self.process.returncode, json.loads(out) if out else None, error.decode()


@contextmanager
def running(flink: Flink, stream: Path, models: Path, *flags: str) -> Iterator[Job]:
    """A job whose command does not outlive the block."""
    job = Job(flink, stream, models, *flags)
    try:
        yield job
    finally:
        job.process.kill()
        job.process.communicate()


def say(flink: Flink, *words: str) -> dict[str, Any]:
    """What a command says."""
    line, environment = command(flink, *words, "-o", "json")
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def shards_by_subtask(flink: Flink, stream: Path) -> list[int]:
    """How many partitions each subtask of the source has been given, as soon as Flink's page knows."""
    master = Master(flink.web)
    job = master.find_job(job_name(load_stream(str(stream)).name))
    source = next(step for step in master.ask(f"/jobs/{job}")["vertices"] if "{ReadFrames" in step["name"])
    deadline = time.monotonic() + 30
    while True:
        subtasks = master.ask(f"/jobs/{job}/vertices/{source['id']}")["subtasks"]
        shards = [int(subtask["metrics"]["read-records"]) for subtask in subtasks]
        if sum(shards) == 3 or time.monotonic() > deadline:
            return shards
        time.sleep(0.5)


def silence_s(reader: rig.Reader, frames: int) -> float:
    """The longest time without codes while so many more frames come."""
    longest, goal = 0.0, reader.frames + frames
    while reader.frames < goal:
        start = time.monotonic()
        reader.wait_for(reader.frames + 1, START_S)
        longest = max(longest, time.monotonic() - start)
    return longest


def until(count: int) -> str:
    """``--until`` for so many records, in turn over three partitions."""
    return json.dumps(dict.fromkeys(map(str, range(3)), count // 3))


def find_workers(flink: Flink) -> list[int]:
    """Process ids of the Python workers that the pool has started."""
    pool = flink.pids["workerpool"]
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pool)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def kill_workers(flink: Flink) -> None:
    """SIGKILL to each Python worker."""
    workers = find_workers(flink)
    assert workers, "the pool runs no worker"
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def kill_program(flink: Flink, name: str) -> None:
    """SIGKILL to one of Flink's programs, and wait until it is gone."""
    os.kill(flink.pids[name], signal.SIGKILL)
    while flink.runs(name):
        time.sleep(0.05)
