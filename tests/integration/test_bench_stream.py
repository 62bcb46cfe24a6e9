"""The benchmark from end to end with few frames; what it says of speed is not looked at."""

from __future__ import annotations

import json
import os

import pytest

from pipelines.cli import main
from pipelines.kafka.client import KafkaSettings, make_admin


def topics(broker: str) -> set[str]:
    with make_admin(KafkaSettings(broker)) as admin:
        return {name for name in admin.list_topics() if name.startswith("bench.")}


def test_bench_tells_of_both_legs_and_leaves_nothing_behind(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    cores = os.sched_getaffinity(0)

    code = main(["bench", "stream", "--frames", "20000", "--rounds", "1", "--bootstrap", broker, "-o", "json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (found["rounds"], found["frames"], found["backlog_mb"]) == (1, 20_000, 20)
    for leg in ("bare", "stream"):
        assert sorted(found[leg]) == ["cpu_us_per_frame", "frames_per_s", "us_per_frame"]
        assert min(found[leg].values()) > 0
    assert found["ratio_range"] == [found["ratio"], found["ratio"]]
    assert list(found["rss_mb"]) == ["25%", "50%", "75%", "100%"]
    assert min(found["rss_mb"].values()) > 0
    assert topics(broker) == set()
    assert os.sched_getaffinity(0) == cores
