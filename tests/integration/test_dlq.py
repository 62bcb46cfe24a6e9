"""``latentstream dlq list`` shows a person what could not be used, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import small_models
import stream_rig as rig

from pipelines.cli import main
from pipelines.stream import run_stream
from pipelines.stream_file import load_stream


def test_dead_letters_are_counted_by_reason_and_the_last_ones_shown(
    broker: str, topic_name: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topic_name()
    path = rig.write_stream(tmp_path, topic, broker)
    infinite = small_models.make_frames(1)
    infinite[0, 2, 1] = float("inf")
    values = [*rig.good_values(9), b"bad", None, infinite[0].tobytes(), b"bad"]
    small_models.publish(tmp_path / "models")

    before = main(["dlq", "list", str(path)]), capsys.readouterr().out
    rig.send_values(broker, topic, values)
    run_stream(load_stream(str(path)), rig.settings(broker, tmp_path / "models"))
    whole = main(["dlq", "list", str(path), "--last", "2"]), capsys.readouterr().out.splitlines()
    counts = main(["dlq", "list", str(path), "--last", "0"]), capsys.readouterr().out.splitlines()

    assert before == (0, f"no dead letters in {topic}.dlq\n")
    assert whole[0] == counts[0] == 0
    assert [line.split() for line in counts[1]] == [
        ["code", "count"],
        ["frame.size", "2"],
        *sorted([["frame.nonfinite", "1"], ["frame.empty", "1"]]),
    ]
    assert whole[1][: len(counts[1])] == counts[1]
    assert [line.split()[0] for line in whole[1][len(counts[1]) :] if line] == [
        "record",
        f"{topic}[1]@3",
        f"{topic}[2]@3",
    ]
