"""Committed offsets: how far a group is, for people and dashboards, and a place to start again.

Never the truth: a runner's own state is. So they are late, throttled and off the hot path.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from ae_model.exceptions import ConnectError
from pipelines.kafka.client import KafkaSettings, open_admin
from pipelines.kafka.offsets import commit_with
from pipelines.meters import METERS

COMMIT_EVERY_S = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommitKey:
    """Whose offsets, of which topic, where."""

    settings: KafkaSettings
    group: str
    topic: str


class Committer:
    """One thread with one client that commits the last offsets it was given, now and then."""

    def __init__(self, every_s: float = COMMIT_EVERY_S) -> None:
        """Start nothing yet; the first ``enqueue`` starts the thread."""
        self._every_s = every_s
        self._pending: dict[CommitKey, dict[int, int]] = {}
        self._admins: dict[KafkaSettings, KafkaAdminClient] = {}
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def enqueue(self, key: CommitKey, partition: int, next_offset: int) -> None:
        """Commit this offset at the next turn; the furthest one wins."""
        with self._lock:
            offsets = self._pending.setdefault(key, {})
            offsets[partition] = max(next_offset, offsets.get(partition, 0))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="latentstream-commits", daemon=True)
                self._thread.start()
        self._wake.set()

    def flush(self) -> None:
        """Commit everything that waits, before this returns.

        Raises:
            ConnectError: it could not; a group's lag is then out of date, and nothing else.
        """
        with self._committing:
            with self._lock:
                pending, self._pending = self._pending, {}
            for key, offsets in pending.items():
                self._commit(key, offsets)

    def waiting(self) -> dict[CommitKey, dict[int, int]]:
        """Offsets that are not committed yet."""
        with self._committing, self._lock:
            return {key: dict(offsets) for key, offsets in self._pending.items()}

    def close(self) -> None:
        """Close the clients; the thread goes on sleeping and dies with the process."""
        with self._committing:
            for admin in self._admins.values():
                admin.close()
            self._admins.clear()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            try:
                self.flush()
            except ConnectError as exc:
                log.warning("committed offsets are out of date: %s", exc)
            time.sleep(self._every_s)

    def _commit(self, key: CommitKey, offsets: dict[int, int]) -> None:
        try:
            if key.settings not in self._admins:
                self._admins[key.settings] = open_admin(key.settings)
            commit_with(self._admins[key.settings], key.group, key.topic, offsets)
        except (ConnectError, kafka_errors.KafkaError) as exc:
            METERS.add("commit_failures")
            admin = self._admins.pop(key.settings, None)
            if admin is not None:
                admin.close()
            self._put_back(key, offsets)
            raise ConnectError(f"group {key.group}: expected its offsets to be committed. Received: {exc}.") from exc
        METERS.add("commits")

    def _put_back(self, key: CommitKey, offsets: dict[int, int]) -> None:
        with self._lock:
            newer = self._pending.get(key, {})
            self._pending[key] = {**offsets, **newer}


COMMITTER = Committer()


def flush_commits() -> None:
    """Commit everything that waits in this process; call it once at the very end.

    Raises:
        ConnectError: it could not.
    """
    COMMITTER.flush()
    COMMITTER.close()
