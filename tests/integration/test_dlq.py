"""``latentstream dlq`` shows what could not be used and where it is, and sends it to the input again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_models
import stream_rig as rig
import yaml

from pipelines.audit import audit_stream
from pipelines.cli import main
from pipelines.encoders import encode_json
from pipelines.kafka.client import KafkaSettings
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


def test_a_letter_is_shown_whole_and_replayed_three_times_at_most(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topic_name()
    path = rig.write_stream(tmp_path, topic, broker, breaker={"share": 1.0})
    stream = load_stream(str(path))
    nan = small_models.make_frames(1)
    nan[0, 0, 0] = float("nan")
    rig.send_values(broker, topic, [*rig.good_values(3), b"bad", nan[0].tobytes(), b"x" * (2 << 20)])

    def typed(*words: str) -> Any:
        code = main(["dlq", *words, "-o", "json"])
        shown = capsys.readouterr()
        return json.loads(shown.out) if code == 0 else (code, shown.err)

    def run() -> None:
        run_stream(stream, rig.settings(broker, models))

    run()
    shown = typed("show", str(path), "0@1", "--out", str(tmp_path / "value"))
    absent = typed("show", str(path), "0@0")
    unknown = typed("replay", str(path), "--code", "frame.sise")
    late = typed("replay", str(path), "--since", "2099-01-01", "--dry-run")
    counted = typed("replay", str(path), "--dry-run")
    one_code = typed("replay", str(path), "--code", "frame.size")
    first = typed("replay", str(path))
    run()
    second = typed("replay", str(path))
    run()
    third = typed("replay", str(path))
    run()
    listed = typed("list", str(path))

    assert (shown["code"], shown["attempt"], shown["key"], shown["value"]) == ("frame.size", 1, "device-0", "bad")
    assert (tmp_path / "value").read_bytes() == b"bad"
    assert absent[0] == 2
    assert unknown == (2, unknown[1])
    assert "Did you mean 'frame.size'?" in unknown[1]
    assert late == {"sent": 0, "before": 0, "exhausted": 0, "by_reference": 0}
    assert counted == {"sent": 2, "before": 0, "exhausted": 0, "by_reference": 1}
    assert one_code == {"sent": 1, "before": 0, "exhausted": 0, "by_reference": 0}
    assert first == {"sent": 1, "before": 1, "exhausted": 0, "by_reference": 1}
    assert second == {"sent": 2, "before": 2, "exhausted": 0, "by_reference": 1}
    # Each was tried three times: the loop ends here.
    assert third == {"sent": 0, "before": 4, "exhausted": 2, "by_reference": 1}
    assert (listed["total"], listed["replayed"], listed["foreign"]) == (7, 4, 0)
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.coded, audit.dead, audit.foreign, audit.ok) == (3, 7, 0, True)


def test_letters_of_a_stream_that_was_set_up_wrongly_become_codes_once_it_is_mended(
    broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topic_name()
    path = rig.write_stream(tmp_path, topic, broker, breaker={"share": 1.0})
    rig.send_values(broker, topic, encode_json(small_models.make_frames(6, 5)))
    wrong = run_stream(load_stream(str(path)), rig.settings(broker, models))

    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "input": {**content["input"], "format": "json"}}))
    code = main(["dlq", "replay", str(path)])
    mended = run_stream(load_stream(str(path)), rig.settings(broker, models))

    assert (wrong.read, wrong.dead) == (6, 6)
    assert (code, capsys.readouterr().out.splitlines()[0].split()) == (0, ["sent", "6"])
    assert (mended.read, mended.ok) == (6, 6)
