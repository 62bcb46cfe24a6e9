from __future__ import annotations

import os
import threading

import pytest

from pipelines.bench import one_core
from pipelines.bench_report import BenchReport, Leg

# us a frame by the clock: bare 2, 2, 4 and stream 5, 4, 8; by processor time: bare 1, 2, 2 and stream 4, 4, 5.
REPORT = BenchReport(
    bare=[Leg(1_000_000, 2.0, 1.0), Leg(1_000_000, 2.0, 2.0), Leg(500_000, 2.0, 1.0)],
    stream=[Leg(2_000_000, 10.0, 8.0), Leg(2_000_000, 8.0, 8.0), Leg(2_000_000, 16.0, 10.0)],
    rss_mb=[800.0, 900.0, 902.0, 904.0, 903.0, 905.0, 906.0, 910.0, 908.0],
    backlog_mb=1953.125,
)


def test_leg_is_told_per_frame() -> None:
    leg = Leg(frames=200_000, wall_s=0.5, cpu_s=0.4)

    assert (leg.us_per_frame, leg.cpu_us_per_frame) == pytest.approx((2.5, 2.0))


def test_ratios_are_taken_within_a_round() -> None:
    assert REPORT.ratios == pytest.approx([0.4, 0.5, 0.5])
    assert REPORT.cpu_ratios == pytest.approx([0.25, 0.5, 0.4])
    assert REPORT.overhead_us == pytest.approx(3.0)


def test_memory_is_told_at_quarters_and_as_growth_after_the_first() -> None:
    # Nine samples: quarters are two each; medians of the last two and of the third and fourth.
    assert REPORT.rss_at == {25: 902.0, 50: 903.0, 75: 906.0, 100: 908.0}
    assert REPORT.rss_growth_mb == pytest.approx(909.0 - 903.0)


def test_one_sample_of_memory_suffices() -> None:
    report = BenchReport([Leg(1, 1.0, 1.0)], [Leg(1, 1.0, 1.0)], [700.0], 0.001)

    assert report.rss_at == {25: 700.0, 50: 700.0, 75: 700.0, 100: 700.0}
    assert report.rss_growth_mb == 0.0


def test_json_holds_medians_and_ranges() -> None:
    assert REPORT.as_json() == {
        "rounds": 3,
        "frames": 2_000_000,
        "bare": {"frames_per_s": 500_000, "us_per_frame": 2.0, "cpu_us_per_frame": 2.0},
        "stream": {"frames_per_s": 200_000, "us_per_frame": 5.0, "cpu_us_per_frame": 4.0},
        "ratio": 0.5,
        "ratio_range": [0.4, 0.5],
        "cpu_ratio": 0.4,
        "overhead_us_per_frame": 3.0,
        "backlog_mb": 1953,
        "rss_mb": {"25%": 902, "50%": 903, "75%": 906, "100%": 908},
        "rss_growth_mb": 6.0,
    }


def test_person_reads_a_table() -> None:
    assert REPORT.as_text().splitlines() == [
        "leg         frames/s    us/frame    CPU us/frame",
        "bare         500,000        2.00            2.00",
        "stream       200,000        5.00            4.00",
        "",
        "ratio     0.500, from 0.400 to 0.500 in 3 rounds; 0.400 by processor time",
        "overhead  3.00 us a frame",
        "backlog   1,953 MiB in 2,000,000 frames",
        "memory    902 MiB at 25%, 903 MiB at 50%, 906 MiB at 75%, 908 MiB at 100% of the drain",
    ]


def test_threads_are_on_one_core_and_then_where_they_were() -> None:
    before = os.sched_getaffinity(0)
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    assert other.native_id is not None

    with one_core():
        inside = [os.sched_getaffinity(0), os.sched_getaffinity(other.native_id)]
    after = [os.sched_getaffinity(0), os.sched_getaffinity(other.native_id)]
    stop.set()
    other.join()

    assert inside == [{min(before)}] * 2
    assert after == [before] * 2
