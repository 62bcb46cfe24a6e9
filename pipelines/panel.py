"""What a person watches while a stream runs: a live panel, or one plain line now and then."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from pipelines.meters import METERS, Meters

if TYPE_CHECKING:
    from rich.table import Table

PANEL_PERIOD_S = 0.5
LINE_PERIOD_S = 5.0


@dataclass
class Reading:
    """The figures of one moment.

    Args:
        seconds: since the run began.
        frames_per_s: since the reading before.
        totals: ``read``, ``ok``, ``dead``, ``alerts`` since the run began.
        gauges: ``lag``, ``batch_frames``, ``model_version``.
        p50_ms: median time of a recent frame batch through the model.
        p99_ms: its 99th percentile.
    """

    seconds: float
    frames_per_s: float
    totals: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    def rows(self) -> list[tuple[str, str]]:
        """Names and figures in the order shown."""
        total, gauge = self.totals.get, self.gauges.get
        return [
            ("frames/s", f"{self.frames_per_s:,.0f}"),
            ("read", f"{total('read', 0):,}"),
            ("lag", f"{gauge('lag', 0):,.0f}"),
            ("frame batch", f"{gauge('batch_frames', 0):,.0f}"),
            ("model p50/p99 ms", f"{self.p50_ms:.1f}/{self.p99_ms:.1f}"),
            ("alerts", f"{total('alerts', 0):,}"),
            ("dead letters", f"{total('dead', 0):,}"),
            ("model version", f"{gauge('model_version', 0):.0f}"),
        ]

    def line(self) -> str:
        """All of it on one line, for a log."""
        return f"{self.seconds:6.1f} s  " + "  ".join(f"{name} {figure}" for name, figure in self.rows())


class Readings:
    """Turns the running sums of the meters into readings."""

    def __init__(self, meters: Meters) -> None:
        """Start the clock."""
        self._meters = meters
        self._start = self._last_time = time.monotonic()
        self._last_read = 0

    def take(self) -> Reading:
        """The figures now; the rate is since the last call."""
        totals, gauges, batch_ms = self._meters.snapshot()
        now = time.monotonic()
        rate = (totals.get("read", 0) - self._last_read) / max(now - self._last_time, 1e-9)
        self._last_time, self._last_read = now, totals.get("read", 0)
        p50, p99 = _percentiles(batch_ms)
        return Reading(now - self._start, rate, totals, gauges, p50, p99)


def _percentiles(batch_ms: list[float]) -> tuple[float, float]:
    if len(batch_ms) < 2:
        return (batch_ms[0], batch_ms[0]) if batch_ms else (0.0, 0.0)
    cuts = statistics.quantiles(batch_ms, n=100, method="inclusive")
    return cuts[49], cuts[98]


@contextmanager
def show(title: str, *, stream: TextIO | None = None) -> Iterator[None]:
    """Show the meters while the block runs: a panel on a terminal, lines elsewhere."""
    stream = stream or sys.stderr
    readings, done = Readings(METERS), threading.Event()
    watch = _watch_panel if stream.isatty() else _watch_lines
    thread = threading.Thread(target=watch, args=(title, readings, done, stream), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch_lines(title: str, readings: Readings, done: threading.Event, stream: TextIO) -> None:
    while not done.wait(LINE_PERIOD_S):
        print(f"{title}  {readings.take().line()}", file=stream, flush=True)


def _watch_panel(title: str, readings: Readings, done: threading.Event, stream: TextIO) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), auto_refresh=False, transient=True) as live:
        while not done.wait(PANEL_PERIOD_S):
            live.update(draw(title, readings.take()), refresh=True)


def draw(title: str, reading: Reading) -> Table:
    """One reading as a table."""
    from rich.table import Table

    table = Table(title=f"{title}  {reading.seconds:.0f} s", title_justify="left")
    for name, _ in reading.rows():
        table.add_column(name, justify="right")
    table.add_row(*(figure for _, figure in reading.rows()))
    return table
