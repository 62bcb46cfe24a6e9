"""Programs that outlive the command that starts them.

    folder/NAME.lock   held by the program as long as it lives
    folder/NAME.log    what it prints

The lock's descriptor is inherited by the program, so any process can ask whether
it lives by trying the lock; a process id alone may be someone else's by then.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ae_model.exceptions import ConfigError, ConnectError

HOST = "127.0.0.1"
STOP_SECONDS = 30.0

# Programs this process started: they must be waited for, or they stay as zombies.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def launch(
    name: str, command: Sequence[str], folder: Path, lock: int, environment: Mapping[str, str] | None = None
) -> int:
    """Start a program in a process group of its own, and give its process id.

    Args:
        name: of its log.
        command: what to run.
        folder: where it runs.
        lock: what ``held_lock`` gave.
        environment: instead of this process's own.
    """
    with (folder / f"{name}.log").open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            pass_fds=(lock,),
            # Ctrl-C at the terminal is for the command in front, not for the program behind it.
            start_new_session=True,
        )
    _CHILDREN[child.pid] = child
    return child.pid


def has_ended(pid: int) -> bool:
    """Whether a program that this process started is no more."""
    child = _CHILDREN.get(pid)
    return child is not None and child.poll() is not None


def end(name: str, folder: Path, pid: int) -> None:
    """End a program and its children cleanly (SIGTERM); after half a minute they are killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            break
        if _wait_until_unlocked(name, folder):
            break
    child = _CHILDREN.pop(pid, None)
    if child is not None:
        child.wait()


def _wait_until_unlocked(name: str, folder: Path) -> bool:
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(name, folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(name: str, folder: Path) -> bool:
    """Whether the program's lock is held."""
    try:
        lock = os.open(folder / f"{name}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


@contextmanager
def held_lock(name: str, folder: Path) -> Iterator[int]:
    """Descriptor of a program's lock; closing it here leaves it held by a child that has it.

    Raises:
        ConnectError: the program runs.
    """
    lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(lock):
            raise ConnectError(f"{name} in {folder}: expected none. Received: one that runs. Stop it first.")
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_port() -> int:
    """A port of the loopback address that nobody has now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Such ports that differ, since all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in sockets]


def require_free(port: int) -> None:
    """Hold a port that was asked for to being free.

    Raises:
        ConfigError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise ConfigError(
                f"port: expected a free port of {HOST}. Received: port={port} ({exc.strerror}). "
                "Give another one, or 0 for any."
            ) from exc


def is_open(port: int) -> bool:
    """Whether something listens."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def reason(output: str) -> str:
    """The first line of a Java program's output that names an exception, else its last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["nothing."]
    return next((line for line in lines if "Exception" in line), lines[-1])


def read_log(name: str, folder: Path) -> str:
    """What the program printed."""
    return (folder / f"{name}.log").read_text(errors="replace")


def cache_folder(name: str) -> Path:
    """The folder of a service of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "latentstream" / name
