"""Counters of this worker process, read by the live panel and the closing summary.

Beam's own counters carry the same names to a cluster's page; these are for a
process that runs the job itself, where a query per second must cost nothing.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

# Latencies are kept for the last frame batches only: the panel shows the present.
RECENT_BATCHES = 512


class Meters:
    """Sums by name, the last value by name, and the recent time of each frame batch."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._totals: dict[str, int] = defaultdict(int)
        self._gauges: dict[str, float] = {}
        self._batch_ms: list[float] = []

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a sum, such as ``read``, ``ok``, ``dead``, ``alerts``."""
        with self._lock:
            self._totals[name] += amount

    def set(self, name: str, value: float) -> None:
        """Keep the last value of a gauge, such as ``lag`` or ``model_version``."""
        with self._lock:
            self._gauges[name] = value

    @contextmanager
    def time_batch(self) -> Iterator[None]:
        """Time one frame batch through the model, in milliseconds."""
        start = perf_counter()
        yield
        with self._lock:
            self._batch_ms.append((perf_counter() - start) * 1e3)
            del self._batch_ms[:-RECENT_BATCHES]

    def snapshot(self) -> tuple[dict[str, int], dict[str, float], list[float]]:
        """Copies of the sums, the gauges and the recent batch times."""
        with self._lock:
            return dict(self._totals), dict(self._gauges), list(self._batch_ms)

    def reset(self) -> None:
        """Forget everything, between two runs in one process."""
        with self._lock:
            self._totals.clear()
            self._gauges.clear()
            self._batch_ms.clear()


METERS = Meters()
