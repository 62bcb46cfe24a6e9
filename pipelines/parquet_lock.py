"""One writer at a time per topic, partition and model, across threads, processes and restarts."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from ae_model.exceptions import SinkError

TIMEOUT_S = 30.0
_POLL_S = 0.05
_TOKEN_BYTES = 64


class WriterLock:
    """A lock that is held, on a file that remembers which process wrote last."""

    def __init__(self, descriptor: int) -> None:
        """Keep the open file; see ``hold``."""
        self._descriptor = descriptor

    @property
    def is_mine(self) -> bool:
        """Whether this process was the last to write, so that what it knows of the folder still holds."""
        return os.pread(self._descriptor, _TOKEN_BYTES, 0) == _token()

    def claim(self) -> None:
        """Leave this process's token."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, _token(), 0)


@contextmanager
def hold(path: Path, timeout_s: float = TIMEOUT_S) -> Iterator[WriterLock]:
    """Hold the lock on a file while the block runs; a process that dies lets go of it.

    Raises:
        SinkError: another writer did not let go in time.
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path, timeout_s)
        yield WriterLock(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                raise SinkError(
                    f"parquet {path}: expected the other writer of this partition to finish within {timeout_s:g} s. "
                    "Received: a lock still held. Stop the other run, or give one of them another folder."
                ) from exc
            time.sleep(_POLL_S)


def _token() -> bytes:
    # With the process id, as a forked child shares the nonce but not what the parent writes later.
    return f"{os.getpid()}-{_nonce()}".encode()


@lru_cache(maxsize=1)
def _nonce() -> str:
    return uuid.uuid4().hex
