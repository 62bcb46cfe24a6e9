"""Flink on this machine, as the durable engine of Beam: four programs without a Java, Docker or archive of the host's.

jobmanager    plans jobs, takes checkpoints, shows the page
taskmanager   runs the engine's half of each step
jobserver     takes Beam's graphs and hands them to the JobManager
workerpool    starts the Python processes that run our half

folder/state.json                 ports and process ids
folder/checkpoints/, savepoints/  kept between starts
folder/NAME.lock, NAME.log        as ``processes`` has them
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ae_model.exceptions import ConnectError
from infra.local import processes
from infra.local.flink_settings import FLINK_JARS, HEAPS, JAVA_FLAGS, write_settings
from infra.local.java import find_java, resolve_jars
from infra.local.processes import HOST

PROGRAMS = ("jobmanager", "taskmanager", "jobserver", "workerpool")
START_SECONDS = 180.0
# Of no use to the next start.
PASSING = ("tmp", "artifacts", "conf", "jars")


@dataclass(frozen=True)
class Flink:
    """A Flink that answers.

    Args:
        folder: its checkpoints, settings and logs.
        slots: how many subtasks it runs.
        web_port: of the REST interface and the page.
        rpc_port: of the JobManager.
        job_port: of the Beam job server.
        artifact_port: of the same.
        pool_port: of the pool of Python workers.
        pids: process id by program.
    """

    folder: str
    slots: int
    web_port: int
    rpc_port: int
    job_port: int
    artifact_port: int
    pool_port: int
    pids: dict[str, int]

    @property
    def web(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.web_port}"

    @property
    def job_endpoint(self) -> str:
        """``host:port`` for Beam."""
        return f"{HOST}:{self.job_port}"

    @property
    def worker_pool(self) -> str:
        """``host:port`` of what starts Python workers."""
        return f"{HOST}:{self.pool_port}"

    def describe(self) -> dict[str, object]:
        """For a person or a script."""
        where = {"web": self.web, "job_endpoint": self.job_endpoint, "worker_pool": self.worker_pool}
        return {**where, "slots": self.slots, "pids": self.pids, "folder": self.folder}

    def runs(self, name: str) -> bool:
        """Whether one of its programs does."""
        return processes.is_running(name, Path(self.folder))


def default_folder() -> Path:
    """The folder of this user's Flink."""
    return processes.cache_folder("flink")


def start(folder: Path | None = None, *, port: int = 0, slots: int = 0) -> Flink:
    """Start what does not run yet, and wait until all of it answers.

    Args:
        folder: its own folder; checkpoints of an earlier start in it are kept.
        port: of the page; 0 takes any free one.
        slots: subtasks it can run; 0 takes the number of cores.

    Raises:
        ConfigError: the port is taken.
        ConnectError: no Java, no jars, or it did not come up.
    """
    folder = (folder or default_folder()).absolute()
    flink = _read_state(folder) or _plan(folder, port, slots or os.cpu_count() or 1)
    missing = [name for name in PROGRAMS if not flink.runs(name)]
    if missing:
        flink = _launch(flink, missing)
    _wait_until_answering(flink)
    return flink


def status(folder: Path | None = None) -> Flink | None:
    """The Flink of ``folder`` if all its programs run, else None."""
    flink = _read_state((folder or default_folder()).absolute())
    return flink if flink is not None and all(map(flink.runs, PROGRAMS)) else None


def stop(folder: Path | None = None) -> bool:
    """End all programs; False when none runs. Checkpoints, savepoints and logs stay."""
    folder = (folder or default_folder()).absolute()
    state = _read_state(folder)
    running = [] if state is None else [name for name in reversed(PROGRAMS) if state.runs(name)]
    for name in running:
        processes.end(name, folder, state.pids[name])
    for name in PASSING:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "state.json").unlink(missing_ok=True)
    return bool(running)


def _read_state(folder: Path) -> Flink | None:
    try:
        flink = Flink(**json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return flink if any(map(flink.runs, PROGRAMS)) else None


def _plan(folder: Path, port: int, slots: int) -> Flink:
    ports = processes.free_ports(5)
    web_port = port or ports[0]
    processes.require_free(web_port)
    return Flink(str(folder), slots, web_port, *ports[1:], pids={})


def _launch(flink: Flink, names: list[str]) -> Flink:
    folder = Path(flink.folder)
    for name in (*PASSING, "checkpoints", "savepoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jars = os.pathsep.join(str(jar) for jar in _link(resolve_jars(FLINK_JARS), folder / "jars"))
    conf = write_settings(folder, flink.rpc_port, flink.web_port, flink.slots)
    pids = dict(flink.pids)
    for name in names:
        words = _worker_pool(flink) if name == "workerpool" else _java(name, folder, jars, COMMANDS[name](flink, conf))
        with processes.held_lock(name, folder) as lock:
            pids[name] = processes.launch(name, words, folder, lock, _environment())
        flink = replace(flink, pids=pids)
        (folder / "state.json").write_text(json.dumps(asdict(flink)))
    return flink


def _link(jars: list[Path], folder: Path) -> list[Path]:
    """The jars under a path of which Beam sends nothing along with a job.

    It would send its whole classpath, 160 MB that the TaskManager has, and each start of
    a job would load the same classes once more. What lies in ``gradle/wrapper`` it leaves out.
    """
    place = folder / "gradle" / "wrapper"
    place.mkdir(parents=True, exist_ok=True)
    linked = []
    for jar in jars:
        linked.append(place / jar.name)
        if not linked[-1].exists():
            try:
                os.link(jar, linked[-1])
            except OSError:  # another disk
                shutil.copyfile(jar, linked[-1])
    return linked


def _java(name: str, folder: Path, jars: str, words: list[str]) -> list[str]:
    flags = [f"-Xmx{HEAPS[name]}", f"-Djava.io.tmpdir={folder / 'tmp'}", *JAVA_FLAGS]
    return [str(find_java()), *flags, "-cp", jars, *words]


def _job_manager(flink: Flink, conf: Path) -> list[str]:
    return ["org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint", "-c", str(conf)]


def _task_manager(flink: Flink, conf: Path) -> list[str]:
    return ["org.apache.flink.runtime.taskexecutor.TaskManagerRunner", "-c", str(conf)]


def _job_server(flink: Flink, conf: Path) -> list[str]:
    return [
        "org.apache.beam.runners.flink.FlinkJobServerDriver",
        f"--flink-master={HOST}:{flink.web_port}",
        f"--flink-conf-dir={conf}",
        f"--job-host={HOST}",
        f"--job-port={flink.job_port}",
        f"--artifact-port={flink.artifact_port}",
        "--expansion-port=-1",
        f"--artifacts-dir={conf.parent / 'artifacts'}",
    ]


COMMANDS: dict[str, Callable[[Flink, Path], list[str]]] = {
    "jobmanager": _job_manager,
    "taskmanager": _task_manager,
    "jobserver": _job_server,
}


def _worker_pool(flink: Flink) -> list[str]:
    module = "apache_beam.runners.worker.worker_pool_main"
    return [sys.executable, "-m", module, f"--service_port={flink.pool_port}"]


def _environment() -> dict[str, str]:
    """The pool starts ``python`` from the PATH, which must be the one that has our packages."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def _wait_until_answering(flink: Flink) -> None:
    folder = Path(flink.folder)
    deadline = time.monotonic() + START_SECONDS
    ended: list[str] = []
    while time.monotonic() < deadline and not ended:
        if _answers(flink):
            return
        ended = [name for name in PROGRAMS if not flink.runs(name)]
        time.sleep(0.2)
    culprit = (ended or ["jobmanager"])[0]
    said = processes.reason(processes.read_log(culprit, folder))
    stop(folder)
    raise ConnectError(
        f"Flink in {folder}: expected it to answer within {START_SECONDS:.0f} s. Received: {culprit}: {said} "
        f"The logs are in that folder."
    )


def _answers(flink: Flink) -> bool:
    """Whether the TaskManager has joined, and the ports of Beam's two servers are open."""
    try:
        with urllib.request.urlopen(f"{flink.web}/overview", timeout=2) as answer:
            slots = json.load(answer)["slots-total"]
    except (OSError, ValueError, KeyError):
        return False
    return slots >= flink.slots and processes.is_open(flink.job_port) and processes.is_open(flink.pool_port)
