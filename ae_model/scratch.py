"""Folders for unfinished work, which the next one to make such a folder clears away if their process died."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in ``parent``, gone after the block unless it was renamed, and leftovers of the same prefix with it.

    The folder is locked as long as the block; the lock ends with the process, which
    tells a leftover from the work of somebody else.
    """
    remove_leftovers(parent, prefix)
    folder, lock = _make(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove scratch folders of this prefix that no process holds; one that cannot be locked is left."""
    for folder in parent.glob(f"{glob.escape(prefix)}{'[0-9a-f]' * 32}"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = parent / f"{prefix}{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        # Some network file systems have no such lock; nothing is ever removed there.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        # Somebody took it for a leftover before it was locked.
        os.close(lock)
