"""A run that is killed or stopped in mid-stream loses nothing and repeats no id."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import stream_rig as rig
from output_check import check_outputs

from pipelines.stream_file import load_stream

# Shares of the records that are coded when the run is killed.
KILLS = (0.2, 0.45, 0.7)


def start_job(stream: Path, models: Path, parquet: Path, count: int) -> subprocess.Popen[bytes]:
    until = json.dumps(dict.fromkeys(map(str, range(3)), count // 3))
    words = ["run", str(stream), "--models", str(models), "--parquet", str(parquet), "--until", until, "--no-panel"]
    return subprocess.Popen([sys.executable, "-m", "pipelines.cli", *words])


@pytest.mark.slow
def test_three_kills_lose_nothing_and_repeat_no_id(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, count = topic_name(), 240_000
    stream = rig.write_stream(tmp_path, topic, broker, outputs={"denoised": None})
    codes = load_stream(str(stream)).outputs.codes or ""

    with closing(rig.Reader(broker, codes)) as reader, rig.sending(broker, topic, count):
        for share in KILLS:
            job = start_job(stream, models, tmp_path / "parquet", count)
            reader.wait_for(int(share * count))
            job.kill()
            assert job.wait() == -signal.SIGKILL
        last = start_job(stream, models, tmp_path / "parquet", count)
        assert last.wait(timeout=120) == 0

    audit = check_outputs(load_stream(str(stream)), broker, tmp_path / "parquet", count)
    with capsys.disabled():
        print(f"\n  3 kills: {audit.records} records, 0 lost, {audit.replayed} replayed under the same id")
    # Without commits each run would begin at the first record again, and replay all that the one before coded.
    assert audit.replayed < sum(KILLS) * count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_the_next_run_goes_on_without_replaying(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, number: signal.Signals
) -> None:
    topic, count = topic_name(), 90_000
    stream = rig.write_stream(tmp_path, topic, broker, outputs={"denoised": None, "alerts": None})
    codes = load_stream(str(stream)).outputs.codes or ""

    with closing(rig.Reader(broker, codes)) as reader, rig.sending(broker, topic, count):
        first = start_job(stream, models, tmp_path / "parquet", count)
        reader.wait_for(count // 5)
        first.send_signal(number)
        code = first.wait(timeout=30)
        second = start_job(stream, models, tmp_path / "parquet", count)
        assert second.wait(timeout=120) == 0

    audit = check_outputs(load_stream(str(stream)), broker, tmp_path / "parquet", count)
    assert code == 143
    assert audit.replayed == 0
