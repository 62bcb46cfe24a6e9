"""Flink's jobs started many times and its programs killed, with the figures printed; for ``make flink``."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import flink_rig
import pytest
import stream_rig as rig
from output_check import check_outputs

from infra.local import flink as local_flink
from infra.local.flink import Flink
from pipelines.flink_master import Master
from pipelines.options import RunSettings
from pipelines.stream import run_stream
from pipelines.stream_file import load_stream

pytestmark = [pytest.mark.flink_faults, pytest.mark.timeout(3600)]

STARTS = 20
KILLS = 3
# Records per second while programs are killed, and how many in all: more than the kills take.
RATE = 1_500
COUNT = 600_000
# A few checkpoints of three partitions.
SMALL_STATE = 100_000


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure where a person sees it."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)

    return say


def on_flink(flink: Flink, broker: str, models: Path, parquet: Path, until: str) -> RunSettings:
    """Settings of a run on Flink by this process."""
    flags = (f"--job_endpoint={flink.job_endpoint}", f"--flink_master={flink.web}")
    pool = ("--environment_type=EXTERNAL", f"--environment_config={flink.worker_pool}")
    places = {"parquet": str(parquet), "runner": "FlinkRunner", "beam_args": (*flags, *pool)}
    return rig.settings(broker, models, until=until, **places)


def test_twenty_starts_of_twenty_read(
    broker: str,
    flink: Flink,
    models: Path,
    topic_name: Callable[..., str],
    tmp_path: Path,
    said: Callable[[str], None],
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream, parquet = load_stream(str(path)), tmp_path / "parquet"
    seconds: list[float] = []
    flink = local_flink.start(Path(flink.folder))

    for _ in range(STARTS):
        good = rig.good_values(300)
        rig.send_values(broker, stream.input.topic, [b"bad" if row % 100 == 7 else good[row] for row in range(300)])
        summary = run_stream(stream, on_flink(flink, broker, models, parquet, until="latest"))
        seconds.append(summary.seconds)
        said(f"start {len(seconds)}: {summary.read} read, {summary.seconds:.0f} s")
        assert (summary.read, summary.balance) == (300, 0)

    audit = check_outputs(stream, broker, parquet, 300 * STARTS)
    said(f"{len(seconds)} of {STARTS} starts read all; median {statistics.median(seconds):.0f} s a whole run")
    assert audit.replayed == 0


def kill(flink: Flink, victim: str) -> Flink:
    """Kill one of its programs and start it again, or the Python workers, which are Flink's to start."""
    if victim == "worker":
        flink_rig.kill_workers(flink)
        return flink
    flink_rig.kill_program(flink, victim)
    return local_flink.start(Path(flink.folder))


@pytest.mark.parametrize("victim", ["worker", "taskmanager", "jobserver", "jobmanager"])
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

    audit = check_outputs(stream, broker, parquet, COUNT)
    waits = ", ".join(f"{silence:.0f}" for silence in silences)
    said(f"SIGKILL of {victim}, {KILLS} times: {audit.records} records, 0 lost, {audit.replayed} replayed under the")
    said(f"same id, no duplicate row; {waits} s without codes")
    assert (code, error) == (0, "")


def test_job_with_too_much_state_is_started_anew(
    broker: str,
    flink: Flink,
    models: Path,
    topic_name: Callable[..., str],
    tmp_path: Path,
    said: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, parquet = 90_000, tmp_path / "parquet"
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream = load_stream(str(path))
    flink = local_flink.start(Path(flink.folder))
    before = len(Master(flink.web).ask("/jobs/overview")["jobs"])
    monkeypatch.setattr("pipelines.flink.MAX_STATE_BYTES", SMALL_STATE)

    with rig.sending(broker, stream.input.topic, count, RATE):
        summary = run_stream(stream, on_flink(flink, broker, models, parquet, until=flink_rig.until(count)))

    audit = check_outputs(stream, broker, parquet, count)
    jobs = len(Master(flink.web).ask("/jobs/overview")["jobs"]) - before
    said(f"state over {SMALL_STATE} bytes: {jobs} jobs for {audit.records} records, 0 lost, {audit.replayed} replayed")
    assert jobs > 1
    assert summary.balance == 0
