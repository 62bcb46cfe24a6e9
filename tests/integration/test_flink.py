"""The same stream on a real Flink: it ends by notice, and a killed worker loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import flink_rig
import pytest
import stream_rig as rig
from output_check import check_outputs

from infra.local.flink import Flink
from pipelines.stream_file import load_stream

pytestmark = pytest.mark.flink

HOUR_MS = 3_600_000


def test_services_find_the_flink_that_runs_and_start_no_second_one(flink: Flink) -> None:
    found = [flink_rig.say(flink, "services", verb, "flink") for verb in ("status", "up", "status")]

    assert found == [{"running": True, **flink.describe()}] * 3


def test_killed_worker_savepoint_and_late_partition_lose_nothing(
    broker: str,
    flink: Flink,
    models: Path,
    topic_name: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few, many, parquet = 3_000, 72_000, tmp_path / "parquet"
    path = rig.write_stream(tmp_path, topic_name(), broker, outputs={"denoised": None, "alerts": None})
    stream = load_stream(str(path))
    folder = ("--parquet", str(parquet))

    start = time.monotonic()
    with closing(rig.Reader(broker, stream.outputs.codes or "")) as reader:
        with flink_rig.running(flink, path, models, *folder) as job:
            with rig.sending(broker, stream.input.topic, few):
                reader.wait_for(1, flink_rig.START_S)
            first_s = time.monotonic() - start
            shards = flink_rig.shards_by_subtask(flink, path)
            with rig.sending(broker, stream.input.topic, many):
                reader.wait_for(many // 4)
                flink_rig.kill_workers(flink)
                silence_s = flink_rig.silence_s(reader, many // 4)
            savepoint = flink_rig.say(flink, "stop", str(path), "--savepoint")["savepoint"]
            first = job.wait(60)
        # One partition is an hour behind the others, and behind itself: no record may depend on the watermark.
        good, first_ms = rig.good_values(few), int(time.time() * 1000) - 2000 * few
        values = [b"bad" if row % 100 == 7 else good[row] for row in range(few)]
        rig.send_values(broker, stream.input.topic, values, first_ms, late_ms=(0, 0, HOUR_MS))
        ends = ("--until", flink_rig.until(2 * few + many), "--from", savepoint)
        with flink_rig.running(flink, path, models, *folder, *ends) as job:
            second = job.wait(flink_rig.START_S)

    audit = check_outputs(stream, broker, parquet, 2 * few + many)
    with capsys.disabled():
        print(f"\n  Flink: first code after {first_s:.0f} s, {silence_s:.0f} s without codes after a SIGKILL;")
        print(f"  {audit.records} records, 0 lost, {audit.replayed} replayed under the same id")
    assert shards == [2, 1]
    assert [(code, error) for code, _, error in (first, second)] == [(0, "")] * 2
    assert [(summary["drained"], summary["balance"]) for _, summary, _ in (first, second)] == [(False, 0)] * 2
    # What a killed worker read since Flink's last look at its counters is not among them.
    assert (first[1]["read"] > many // 4, second[1]["read"]) == (True, few)
