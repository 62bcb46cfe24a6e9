"""A broker that is far away, and a topic that goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_check import check
from fault_rig import Scene
from slow_line import SlowLine

from infra.local import kafka
from infra.local.processes import free_ports
from pipelines.kafka.client import KafkaSettings, make_admin

Note = Callable[..., None]
COUNT = 120_000


@pytest.fixture
def line(tmp_path: Path) -> Iterator[SlowLine]:
    """A line to a broker that is known by it alone."""
    port, controller = free_ports(2)
    line = SlowLine(port)
    properties = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{line.port}",
    }
    kafka.start(tmp_path / "kafka", port=port, properties=properties)
    yield line
    kafka.stop(tmp_path / "kafka")
    line.close()


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_b7_half_a_second_to_the_broker_and_back(
    guarantee: str, line: SlowLine, models: Path, topic_name: Callable[..., str], tmp_path: Path, note: Note
) -> None:
    rates = []
    for delay_s in (0.0, 0.25):
        folder = tmp_path / str(delay_s)
        folder.mkdir()
        bootstrap = f"127.0.0.1:{line.port}"
        line.delay_s = 0.0
        with Scene(bootstrap, topic_name(), models, folder, count=COUNT, guarantee=guarantee) as scene:
            scene.send()
            line.delay_s = delay_s
            summary = scene.finish(until="latest", timeout_s=400)
            line.delay_s = 0.0
            found = check(scene)
        rates.append(summary["read"] / summary["seconds"])

    shown = f"{rates[0]:,.0f} and {rates[1]:,.0f} frames/s, ratio {rates[1] / rates[0]:.2f}"
    note("B7", f"0 and 500 ms to the broker and back, {guarantee}", found, note=shown)
    found.require(scene.records.seed)
    assert found.replayed == 0


def test_b9_topic_that_is_deleted_ends_the_run_with_exit_4(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, note: Note
) -> None:
    with Scene(broker, topic_name(), models, tmp_path, count=3000) as scene:
        watcher = scene.watch()
        scene.send()
        job = scene.start(until='{"0": 9000, "1": 9000, "2": 9000}')
        watcher.wait_for(1000)
        fell = time.monotonic()
        with make_admin(KafkaSettings(broker)) as admin:
            admin.delete_topics([scene.stream.input.topic])
        code, _, error = job.wait(120)
        took = time.monotonic() - fell

    note("B9", "topic deleted under the run", recover_s=took, note=f"exit {code}, {len(error.splitlines())} lines")
    assert code == 4, error
    assert f"error: input {scene.stream.input.topic}: expected it to go on." in error.splitlines()[-1]
    assert len(error.splitlines()) <= 20
