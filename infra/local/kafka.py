"""One Apache Kafka node on this machine (KRaft), for development and tests.

    folder/state.json         pid, port and log of the broker that runs, or ran, here
    folder/lock               held by the broker process as long as it lives
    folder/server.properties  its settings
    folder/kafka.log          what it prints
    folder/data/              its topics, kept between starts

The lock's descriptor is inherited by the broker, so any process can ask whether
it lives by trying the lock; a process id alone may be someone else's by then.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ae_model.exceptions import ConfigError, ConnectError
from infra.local.java import find_java, resolve_jars

KAFKA_JARS = ("org.apache.kafka:kafka_2.13:4.2.0", "org.slf4j:slf4j-simple:2.0.17")
HOST = "127.0.0.1"
HEAP = "-Xmx512m"
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
DATED = "-Dorg.slf4j.simpleLogger.showDateTime=true"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
MAX_MESSAGE_BYTES = 16 << 20

# Brokers this process started: they must be waited for, or they stay as zombies.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


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


def default_folder() -> Path:
    """The folder of this user's broker."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "latentstream" / "kafka"


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
    port = port or _free_port()
    _require_free(port)
    folder.mkdir(parents=True, exist_ok=True)
    with _held_lock(folder) as lock:
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
    return broker if _is_locked(folder) else None


def stop(folder: Path | None = None) -> bool:
    """End the broker of ``folder`` cleanly (SIGTERM); False when none runs.

    A broker that has not ended after half a minute is killed; its topics survive that.
    """
    folder = (folder or default_folder()).absolute()
    broker = status(folder)
    if broker is not None:
        _end(broker, folder)
    (folder / "state.json").unlink(missing_ok=True)
    return broker is not None


def _end(broker: Broker, folder: Path) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        os.kill(broker.pid, number)
        deadline = time.monotonic() + seconds
        while _is_locked(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not _is_locked(folder):
            break
    child = _CHILDREN.pop(broker.pid, None)
    if child is not None:
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise ConfigError(
                f"port: expected a free port of {HOST}. Received: port={port} ({exc.strerror}). "
                "Give another one, or 0 for any."
            ) from exc


@contextmanager
def _held_lock(folder: Path) -> Iterator[int]:
    """Descriptor of the folder's lock; closing it here leaves it held by a child that has it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(lock):
            raise ConnectError(f"broker in {folder}: expected none. Received: one that runs. Stop it first.")
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(folder: Path) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def _write_settings(folder: Path, port: int, max_message_bytes: int, extra: Mapping[str, str]) -> Path:
    controller = _free_port()
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
        reason = _reason(done.stdout + done.stderr)
        raise ConnectError(f"settings {settings}: expected a data folder formatted with them. Received: {reason}")


def _launch(java: list[str], settings: Path, port: int, lock: int) -> Broker:
    folder = settings.parent
    log = folder / "kafka.log"
    command = [*java, DATED, "kafka.Kafka", str(settings)]
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            pass_fds=(lock,),
            # Ctrl-C at the terminal is for the command in front, not for the broker behind it.
            start_new_session=True,
        )
    _CHILDREN[child.pid] = child
    broker = Broker(child.pid, port, str(folder), str(log))
    (folder / "state.json").write_text(json.dumps(asdict(broker)))
    return broker


def _wait_until_answering(broker: Broker) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _CHILDREN[broker.pid].poll() is not None:
            break
        if _answers(broker):
            return
        time.sleep(0.1)
    stop(Path(broker.folder))
    raise ConnectError(
        f"broker {broker.bootstrap}: expected an answer within {START_SECONDS:.0f} s. "
        f"Received: {_reason(Path(broker.log).read_text(errors='replace'))} The whole log: {broker.log}"
    )


def _reason(output: str) -> str:
    """The first line of a Java program's output that names an exception, else its last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["nothing."]
    return next((line for line in lines if "Exception" in line), lines[-1])


def _answers(broker: Broker) -> bool:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        with socket.create_connection((HOST, broker.port), timeout=1):
            pass
        client = KafkaAdminClient(bootstrap_servers=broker.bootstrap, bootstrap_timeout_ms=5000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(client.describe_cluster()["brokers"])
    finally:
        client.close()
