"""Flink's jobs started many times and its programs killed, with the figures printed; for ``make flink``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import flink_rig
import pytest
import stream_rig as rig

from infra.local import flink as local_flink
from infra.local.flink import Flink
from pipelines.stream_file import load_stream

pytestmark = [pytest.mark.flink_faults, pytest.mark.timeout(3600)]

STARTS = 20
KILLS = 3
# Records per second while programs are killed, and how many in all: five minutes of them.
RATE = 1_500
COUNT = 450_000


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure where a person sees it."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)

    return say


def test_twenty_starts_of_twenty_read(
    broker: str,
    flink: Flink,
    models: Path,
    topic_name: Callable[..., str],
    tmp_path: Path,
    said: Callable[[str], None],
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    topic, parquet = load_stream(str(path)).input.topic, tmp_path / "parquet"
    seconds: list[float] = []

    for _ in range(STARTS):
        good = rig.good_values(300)
        rig.send_values(broker, topic, [b"bad" if row % 100 == 7 else good[row] for row in range(300)])
        start = time.monotonic()
        with flink_rig.running(flink, path, models, "--until", "latest", "--parquet", str(parquet)) as job:
            code, summary, error = job.wait(300)
        seconds.append(time.monotonic() - start)
        said(f"start {len(seconds)}: exit {code}, {summary and summary['read']} read, {seconds[-1]:.0f} s {error}")
        assert (code, summary["read"], summary["balance"]) == (0, 300, 0)

    audit = flink_rig.check_outputs(path, broker, parquet, 300 * STARTS)
    said(f"{len(seconds)} of {STARTS} starts read all; median {statistics.median(seconds):.0f} s a whole run")
    assert audit.replayed == 0


def kill(flink: Flink, victim: str) -> Flink:
    """Kill one of its programs and start it again, or the Python workers, which are Flink's to start."""
    if victim == "worker":
        flink_rig.kill_workers(flink)
        return flink
    flink_rig.kill_program(flink, victim)
    return local_flink.start(Path(flink.folder))


@pytest.mark.parametrize("victim", ["worker", "taskmanager", "jobserver"])
def test_killed_program_loses_nothing(
    victim: str,
    broker: str,
    flink: Flink,
    models: Path,
    topic_name: Callable[..., str],
    tmp_path: Path,
    said: Callable[[str], None],
) -> None:
    parquet, silences = tmp_path / "parquet", []
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream = load_stream(str(path))
    flags = ("--until", flink_rig.until(COUNT), "--parquet", str(parquet))
    flink = local_flink.start(Path(flink.folder))

    with (
        flink_rig.running(flink, path, models, *flags) as job,
        closing(rig.Reader(broker, stream.outputs.codes or "")) as reader,
        rig.sending(broker, stream.input.topic, COUNT, RATE),
    ):
        reader.wait_for(1, flink_rig.START_S)
        for _ in range(KILLS):
            flink_rig.silence_s(reader, 5 * RATE)
            flink = kill(flink, victim)
            silences.append(flink_rig.silence_s(reader, 5 * RATE))
        code, _, error = job.wait(600)

    audit = flink_rig.check_outputs(path, broker, parquet, COUNT)
    waits = ", ".join(f"{silence:.0f}" for silence in silences)
    said(f"SIGKILL of {victim}, {KILLS} times: {audit.records} records, 0 lost, {audit.replayed} replayed under the")
    said(f"same id, no duplicate row; {waits} s without codes")
    assert (code, error) == (0, "")
