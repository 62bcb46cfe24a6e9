"""One Apache Kafka node on this machine (KRaft), for development and tests.

    folder/state.json         pid, port and log of the broker that runs, or ran, here
    folder/server.properties  its settings
    folder/data/              its topics, kept between starts
    folder/kafka.log          what it prints

Its lock is that of ``processes``.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ae_model.exceptions import ConnectError
from infra.local import processes
from infra.local.java import find_java, resolve_jars
from infra.local.processes import HOST

KAFKA_JARS = ("org.apache.kafka:kafka_2.13:4.2.0", "org.slf4j:slf4j-simple:2.0.17")
NAME = "kafka"
HEAP = "-Xmx512m"
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
DATED = "-Dorg.slf4j.simpleLogger.showDateTime=true"
START_SECONDS = 60.0
MAX_MESSAGE_BYTES = 16 << 20


@dataclass(frozen=True)
class Broker:
    """A broker that answers.

    Args:
        pid: its process.
        port: where it listens, on the loopback address only.
        folder: its data, settings and log.
        log: what it prints.
    """

    pid: int
    port: int
    folder: str
    log: str

    @property
    def bootstrap(self) -> str:
        """``host:port`` for Kafka clients."""
        return f"{HOST}:{self.port}"

    def describe(self) -> dict[str, object]:
        """For a person or a script."""
        return {"bootstrap": self.bootstrap, "pid": self.pid, "log": self.log}


def default_folder() -> Path:
    """The folder of this user's broker."""
    return processes.cache_folder(NAME)


def start(
    folder: Path | None = None,
    *,
    port: int = 0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    properties: Mapping[str, str] | None = None,
    cluster_id: str | None = None,
) -> Broker:
    """Start a broker and wait until it answers a metadata request.

    Args:
        folder: its own folder; topics of an earlier start in it are kept.
        port: 0 takes any free one.
        max_message_bytes: the largest record batch it takes.
        properties: further lines of server.properties; they win over the defaults.
        cluster_id: what all nodes of a cluster share; None makes a new one.

    Raises:
        ConfigError: the port is taken.
        ConnectError: no Java, no jars, a broker runs in this folder already, or it did not come up.
    """
    folder = (folder or default_folder()).absolute()
    java = [str(find_java()), HEAP, "-cp", os.pathsep.join(str(jar) for jar in resolve_jars(KAFKA_JARS))]
    port = port or processes.free_port()
    processes.require_free(port)
    folder.mkdir(parents=True, exist_ok=True)
    with processes.held_lock(NAME, folder) as lock:
        settings = _write_settings(folder, port, max_message_bytes, properties or {})
        _format(java, settings, cluster_id or make_cluster_id())
        broker = _launch(java, settings, port, lock)
    _wait_until_answering(broker)
    return broker


def status(folder: Path | None = None) -> Broker | None:
    """The broker that runs in ``folder``, or None; a stale state file counts as none."""
    folder = (folder or default_folder()).absolute()
    try:
        broker = Broker(**json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return broker if processes.is_running(NAME, folder) else None


def stop(folder: Path | None = None) -> bool:
    """End the broker of ``folder`` cleanly (SIGTERM); False when none runs.

    A broker that has not ended after half a minute is killed; its topics survive that.
    """
    folder = (folder or default_folder()).absolute()
    broker = status(folder)
    if broker is not None:
        processes.end(NAME, folder, broker.pid)
    (folder / "state.json").unlink(missing_ok=True)
    return broker is not None


def _write_settings(folder: Path, port: int, max_message_bytes: int, extra: Mapping[str, str]) -> Path:
    controller = processes.free_port()
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(max_message_bytes),
        "replica.fetch.max.bytes": str(max_message_bytes),
        **ONE_NODE,
        **extra,
    }
    path = folder / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return path


ONE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    # Replayed records carry the time of the recording, which retention by age would delete.
    "log.retention.ms": "-1",
    "log.retention.bytes": str(4 << 30),
}


def make_cluster_id() -> str:
    """An id that no other cluster has."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _format(java: list[str], settings: Path, cluster_id: str) -> None:
    if (settings.parent / "data" / "meta.properties").exists():
        return
    # Joined with "=", since a cluster id may begin with a dash.
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(settings)]
    done = subprocess.run([*java, QUIET, *tool], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = processes.reason(done.stdout + done.stderr)
        raise ConnectError(f"settings {settings}: expected a data folder formatted with them. Received: {reason}")


def _launch(java: list[str], settings: Path, port: int, lock: int) -> Broker:
    folder = settings.parent
    pid = processes.launch(NAME, [*java, DATED, "kafka.Kafka", str(settings)], folder, lock)
    broker = Broker(pid, port, str(folder), str(folder / f"{NAME}.log"))
    (folder / "state.json").write_text(json.dumps(asdict(broker)))
    return broker


def _wait_until_answering(broker: Broker) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if processes.has_ended(broker.pid):
            break
        if _answers(broker):
            return
        time.sleep(0.1)
    stop(Path(broker.folder))
    raise ConnectError(
        f"broker {broker.bootstrap}: expected an answer within {START_SECONDS:.0f} s. "
        f"Received: {processes.reason(processes.read_log(NAME, Path(broker.folder)))} The whole log: {broker.log}"
    )


def _answers(broker: Broker) -> bool:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    if not processes.is_open(broker.port):
        return False
    try:
        client = KafkaAdminClient(bootstrap_servers=broker.bootstrap, bootstrap_timeout_ms=5000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(client.describe_cluster()["brokers"])
    finally:
        client.close()
