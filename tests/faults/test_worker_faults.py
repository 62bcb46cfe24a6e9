"""Workers that are killed, stopped, frozen: on a real broker, with a reader beside them all the while."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_check import check
from fault_rig import Scene

Note = Callable[..., None]
Make = Callable[..., Scene]
COUNT, RATE = 90_000, 2_000
KILLS = (0.2, 0.45, 0.7)
GUARANTEES = ("at_least_once", "exactly_once")


@pytest.fixture
def make(broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path) -> Iterator[Make]:
    """Make a scene; its jobs and threads end with the test."""
    scenes: list[Scene] = []

    def make(**changes: Any) -> Scene:
        scenes.append(Scene(broker, topic_name(), models, tmp_path, **{"count": COUNT, **changes}))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_w1_three_kills_lose_nothing(guarantee: str, make: Make, note: Note) -> None:
    scene = make(guarantee=guarantee)
    watcher = scene.watch()
    scene.send_behind(RATE)

    for share in KILLS:
        job = scene.start()
        watcher.wait_for(int(share * scene.good))
        job.kill()
        killed = time.monotonic()
    scene.finish()
    end = time.monotonic()

    found = check(scene)
    gap = watcher.longest_gap(watcher.arrivals[0][0], end)
    note("W1", f"kill -9 at 20, 45, 70 %, {guarantee}", found, gap_s=gap, recover_s=watcher.first_after(killed))
    found.require(scene.records.seed)
    if guarantee == "exactly_once":
        assert found.replayed == 0


def test_w2_sigterm_drains_and_nothing_is_replayed(make: Make, note: Note) -> None:
    scene = make()
    watcher = scene.watch()
    scene.send_behind(RATE)
    job = scene.start()
    watcher.wait_for(int(0.2 * scene.good))

    asked = time.monotonic()
    job.signal(signal.SIGTERM)
    code, summary, error = job.wait(90)
    took = time.monotonic() - asked
    scene.finish()

    found = check(scene)
    note("W2", "SIGTERM at 20 %", found, recover_s=took, note=f"exit {code} after {took:.1f} s")
    assert (code, error, summary["balance"], summary["drained"]) == (143, "", 0, True)
    found.require(scene.records.seed)
    assert found.replayed == 0


def test_w3_second_sigterm_ends_at_once_and_is_like_a_kill(make: Make, note: Note) -> None:
    scene = make()
    watcher = scene.watch()
    scene.send_behind(RATE)
    job = scene.start()
    watcher.wait_for(int(0.2 * scene.good))

    job.signal(signal.SIGTERM)
    # Two of a kind that wait at once are one.
    time.sleep(0.2)
    job.signal(signal.SIGTERM)
    code, _, _ = job.wait(90)
    scene.finish()

    found = check(scene)
    note("W3", "SIGTERM twice", found, note=f"exit {code}")
    assert code == 143
    found.require(scene.records.seed)


def test_w4_frozen_worker_comes_back_beside_its_successor(make: Make, note: Note) -> None:
    scene = make()
    watcher = scene.watch()
    scene.send_behind(RATE)
    frozen = scene.start()
    watcher.wait_for(int(0.2 * scene.good))

    frozen.signal(signal.SIGSTOP)
    scene.finish()
    frozen.signal(signal.SIGCONT)
    code, _, _ = frozen.wait()

    found = check(scene)
    note("W4", "frozen while another run finishes, then woken", found, note=f"the woken one: exit {code}")
    found.require(scene.records.seed)


def test_w4_woken_zombie_is_fenced_and_writes_nothing_more(make: Make, note: Note) -> None:
    scene = make(guarantee="exactly_once")
    watcher = scene.watch()
    scene.send_behind(RATE)
    frozen = scene.start()
    watcher.wait_for(int(0.2 * scene.good))

    frozen.signal(signal.SIGSTOP)
    scene.finish()
    frozen.signal(signal.SIGCONT)
    code, summary, error = frozen.wait()

    found = check(scene)
    note("W4", "frozen, overtaken, woken, exactly_once", found, note=f"the woken one: exit {code}")
    found.require(scene.records.seed)
    assert found.replayed == 0
    assert (code, summary) == (7, None)
    assert "expected one run of stream small at a time. Received: a second one, which" in error.splitlines()[-1]
