"""Every verb on one small stream, in the order in which a person would use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli import main

WITH_MODELS = ("train", "run", "score", "decode", "evaluate", "models")

Command = Callable[..., tuple[int, Any]]

STREAM = """
name: tank
input: {{topic: {topic}, channels: [flow, level, heat], rate_hz: 1, partitions: 2}}
model: {{network: linear, latent: 1}}
"""


@pytest.fixture
def command(
    broker: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run one command in the folder of the test; gives its exit code and its JSON, or its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(*argv: str, kafka: bool = False) -> tuple[int, Any]:
        # The whole path: a detector once loaded is kept by its path, and all tests share one process.
        models = ["--models", str(tmp_path / "models")] if argv[0] in WITH_MODELS else []
        code = main([*argv, "-o", "json", *models, *(["--bootstrap", broker] if kafka else [])])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out else shown.err

    return run


@pytest.fixture
def stream(topic_name: Callable[..., str], tmp_path: Path) -> str:
    """A stream of three channels that follow one cause, and its recordings: ``tank.npz::{train,test,label}``."""
    random = np.random.default_rng(5)
    cause = np.cumsum(random.standard_normal(2600)).astype(np.float32) / 10
    noise = random.standard_normal((2600, 3)).astype(np.float32) / 100
    rows = cause[:, None] * np.array([1.0, -2.0, 0.5], np.float32) + noise
    label = np.zeros(600, np.uint8)
    label[300:320] = 1
    rows[2300:2320, 1] += 5.0
    np.savez(tmp_path / "tank.npz", train=rows[:2000], test=rows[2000:], label=label)
    (tmp_path / "tank.yaml").write_text(STREAM.format(topic=topic_name("tank")))
    return "tank.yaml"


def test_stream_goes_from_recordings_to_verified_outputs(command: Command, stream: str) -> None:
    trained = command("train", stream, "--data", "tank.npz::train")
    topics = command("topics", "create", stream, kafka=True)
    checked = command("topics", "check", stream, kafka=True)
    sent = command("replay", "tank.npz::test", "--stream", stream, "--bad-share", "0.05", kafka=True)
    ran = command("run", stream, "--until", "latest", "--parquet", "tables", "--no-panel", kafka=True)
    letters = command("dlq", "list", stream, "--last", "1", kafka=True)
    verified = command("verify", "tables", "--stream", stream, kafka=True)
    decoded = command("decode", stream, "--out", "decoded.npz", kafka=True)
    again = command("decode", "--parquet", "tables", "--out", "again.npz")

    assert (trained[0], trained[1]["version"], trained[1]["promoted"]) == (0, 1, True)
    assert (topics[0], [row["created"] for row in topics[1]]) == (0, [True] * 5)
    assert (checked[0], [row["partitions"] for row in checked[1]]) == (0, [2] * 5)
    assert (sent[0], sent[1]["frames"], sum(sent[1]["bad"].values())) == (0, 600, 30)
    assert (ran[0], ran[1]["read"], ran[1]["ok"], ran[1]["dead"]) == (0, 630, 600, 30)
    assert 20 <= ran[1]["alerts"] < 40
    assert (letters[0], letters[1]["total"], len(letters[1]["last"])) == (0, 30, 1)
    assert (verified[0], verified[1]["ok"], verified[1]["rows"]) == (0, True, 600)
    assert (decoded[0], decoded[1]["frames"], again[1]["frames"]) == (0, 600, 600)


def test_model_is_listed_shown_checked_and_swapped(command: Command, stream: str) -> None:
    for _ in range(2):
        assert command("train", stream, "--data", "tank.npz::train")[0] == 0

    listed = command("models", "list")
    promoted = command("models", "promote", "tank", "1")
    shown = command("models", "show", "tank")
    verified = command("models", "verify", "tank", "2")
    refused = command("models", "rollback", "tank")
    forward = command("models", "promote", "tank", "2")
    back = command("models", "rollback", "tank")
    absent = command("models", "show", "tank", "9")

    assert [(row["name"], row["version"]) for row in listed[1] if row["name"] == "tank"] == [("tank", 1), ("tank", 2)]
    assert promoted == (0, {"name": "tank", "serves": 1})
    assert (shown[0], shown[1]["version"]) == (0, 1)
    assert (verified[0], verified[1]["ok"]) == (0, True)
    assert (refused[0], refused[1]) == (5, "error: model tank: expected a version before 1. Received: none.\n")
    assert forward[1] == {"name": "tank", "serves": 2}
    assert back[1] == {"name": "tank", "serves": 1}
    assert absent[0] == 5


def test_files_are_scored_and_compared_with_labels(command: Command, stream: str) -> None:
    command("train", stream, "--data", "tank.npz::train")

    scored = command("score", stream, "--data", "tank.npz::test", "--out", "scored")
    verified = command("verify", "scored")
    compared = command("evaluate", stream, "--data", "tank.npz::test", "--labels", "tank.npz::label")

    assert (scored[0], scored[1]["ok"]) == (0, 600)
    assert (verified[0], verified[1]["ok"]) == (0, True)
    assert compared[0] == 0
    found = compared[1]["alerts"]["entities"]["tank"]["model"]
    assert (found["events"], found["event_recall"]) == (1, 1.0)


def test_model_that_is_damaged_ends_the_run_with_exit_5(command: Command, stream: str) -> None:
    command("train", stream, "--data", "tank.npz::train")
    graph = Path("models/tank/1/saved_model.pb")
    graph.write_bytes(graph.read_bytes()[:-1])

    code, message = command("run", stream, "--until", "latest", kafka=True)

    assert code == 5
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_codes_that_are_in_no_topic_are_named(command: Command) -> None:
    code, message = command("decode", "--out", "x.npz")

    assert code == 2
    assert message == "error: decode: expected a stream with codes, --topic or --parquet. Received: none of them.\n"


def test_doctor_finds_this_installation_fit(command: Command) -> None:
    code, rows = command("doctor")

    assert code == 0
    assert [row["check"] for row in rows if row["needed"] and not row["ok"]] == []
