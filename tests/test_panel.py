"""What a person sees while a stream runs."""

from __future__ import annotations

import io

from rich.console import Console

from pipelines.meters import Meters
from pipelines.panel import Reading, Readings, draw

READING = Reading(
    seconds=12.0,
    frames_per_s=45_678.9,
    totals={"read": 100_000, "ok": 99_000, "dead": 1_000, "alerts": 7},
    gauges={"lag": 5_000, "batch_frames": 512, "model_version": 3},
    p50_ms=1.25,
    p99_ms=4.75,
)


def test_line_names_every_figure() -> None:
    assert READING.line() == (
        "  12.0 s  frames/s 45,679  read 100,000  lag 5,000  frame batch 512  model p50/p99 ms 1.2/4.8  "
        "alerts 7  dead letters 1,000  model version 3"
    )


def test_panel_shows_the_same_figures_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=False)

    console.print(draw("server-telemetry", READING))

    text = console.file.getvalue()
    assert "server-telemetry  12 s" in text
    for figure in ("45,679", "100,000", "5,000", "512", "1.2/4.8", "1,000"):
        assert figure in text


def test_readings_turn_sums_into_rates_and_batch_times_into_percentiles() -> None:
    meters = Meters()
    readings = Readings(meters)

    meters.add("read", 300)
    for _ in range(3):
        with meters.time_batch():
            pass
    first, second = readings.take(), readings.take()

    assert first.frames_per_s > 0
    assert second.frames_per_s == 0
    assert 0 < first.p50_ms <= first.p99_ms


def test_reset_forgets_sums_gauges_and_times() -> None:
    meters = Meters()
    meters.add("read")
    meters.set("lag", 4)
    with meters.time_batch():
        pass

    meters.reset()

    assert meters.snapshot() == ({}, {}, [])
