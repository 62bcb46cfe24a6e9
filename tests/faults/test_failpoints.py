"""A kill behind every single pass of every step of a bundle, one after the other on one stream."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from failpoints import POINTS
from fault_check import check
from fault_rig import Scene

Note = Callable[..., None]
# So few that each step passes a handful of times; one of them is bad.
RECORDS = 30
SERVER = Path(__file__).with_name("failpoints.py")
MOST = 60


class Server:
    """The warm process."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def run(self, **order: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "log")
    yield server
    server.close()


@pytest.fixture
def open_scene(broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path) -> Callable[..., Scene]:
    return lambda **changes: Scene(broker, topic_name(), models, tmp_path, count=0, **changes)


@pytest.mark.parametrize("guarantee", POINTS)
def test_a_kill_behind_any_pass_of_any_step_loses_nothing(
    guarantee: str, open_scene: Callable[..., Scene], server: Server, tmp_path: Path, note: Note
) -> None:
    kills: dict[str, int] = {}
    with open_scene(guarantee=guarantee) as scene:
        words = ["run", str(scene.path), "--models", str(scene.models), "--parquet", str(scene.parquet)]
        words += ["--until", "latest", "--no-panel"]
        for point in POINTS[guarantee]:
            for n in range(1, MOST):
                scene.send_more(RECORDS)
                code = server.run(guarantee=guarantee, point=point, n=n, words=words)
                assert code in (0, -signal.SIGKILL), (tmp_path / "log").read_text()[-3000:]
                if code == 0:
                    break
                kills[point] = n

        found = check(scene)
        shown = ", ".join(f"{point} {count}" for point, count in kills.items())
        note("W1", f"kill behind every pass, {guarantee}", found, note=f"kills: {shown}")
        found.require(scene.records.seed)
        assert list(kills) == list(POINTS[guarantee])
        if guarantee == "exactly_once":
            assert found.replayed == 0
