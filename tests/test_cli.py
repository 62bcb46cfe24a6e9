from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ae_model.exceptions import ConfigError, DeadLetterBreakerError, SinkError
from pipelines.cli import main, parse, report
from pipelines.commands.arguments import build_parser
from pipelines.commands.failures import find_cause, one_line
from pipelines.commands.output import as_lines

HEAVY = ["tensorflow", "apache_beam", "pydantic", "pyarrow", "kafka", "numpy", "rich", "yaml"]


def test_building_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, pipelines.cli as c; c.build_parser(); print([m for m in {HEAVY} if m in sys.modules])"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out == "[]\n"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])

    shown = capsys.readouterr().out
    verbs = "train run stop score decode evaluate sample models topics"
    verbs += " replay record dlq verify bench doctor config services"
    assert stop.value.code == 0
    assert [verb for verb in verbs.split() if f"\n    {verb} " not in shown] == []


def test_flags_that_are_not_ours_go_to_beam() -> None:
    args = parse(["run", "server-telemetry", "--runner=FlinkRunner", "--until", "latest", "--parallelism=2"])

    assert (args.runner, args.until, args.beam_args) == ("FlinkRunner", "latest", ("--parallelism=2",))


def test_verb_without_beam_refuses_flags_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["config", "check", "server-telemetry", "--paralelism=2"])

    assert stop.value.code == 2
    assert "--paralelism=2" in capsys.readouterr().err


def test_no_flag_may_be_shortened() -> None:
    args = parse(["run", "server-telemetry", "--boot=a:1"])

    assert (args.bootstrap, args.beam_args) == (None, ("--boot=a:1",))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "nope"], "error: stream: expected a YAML file or one of"),
        (["run", "server-telemetry", "--runner=DirectRunner"], "--runner: expected one engine."),
        (["run", "server-telemetry", "--untill=latest"], "Received: --untill=latest. Did you mean '--until'?"),
        (["score", "server-telemetry", "--data=x", "--out=y", "--runner=Nope"], "Received: --runner=Nope."),
        (["replay", "x.npz::a", "--topic", "unknown"], "error: --stream: expected the stream whose frames these are"),
        (["replay", "x.npz::a", "--topic", "plant.smd.frames.v1", "--bad-share=2"], "--bad-share: expected a share"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(argv)

    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_config_check_shows_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["config", "check", "spoken-digits", "-o", "json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert shown["outputs"]["dead_letters"] == "lab.fsdd.frames.v1.dlq"
    assert shown["breaker"] == {"share": 0.5, "records": 1000}


def test_config_check_names_every_fault_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\ninput: {topic: t, chanels: 3}\n")

    code = main(["config", "check", str(path)])

    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {path}, input.channels: expected a value. Received: nothing.",
        f"{path}, input.chanels: expected one of channels, dtype, feature, format, max_record_bytes, partitions, "
        "rate_hz, record, topic, units. Received: chanels. Did you mean 'channels'?",
    ]


def test_schema_describes_the_ready_streams(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    from pipelines.stream_file import READY_STREAMS

    main(["config", "schema", "-o", "json"])

    schema = json.loads(capsys.readouterr().out)
    for path in READY_STREAMS.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


@pytest.mark.parametrize(
    ("exc", "kind", "message"),
    [
        (ConfigError("a: expected b."), ConfigError, "a: expected b."),
        (
            DeadLetterBreakerError("dead letters: too many. [while running 'DecodeFrames/ParDo'] [while running 'A']"),
            DeadLetterBreakerError,
            "dead letters: too many.",
        ),
        (
            RuntimeError(
                'Traceback (most recent call last):\n  File "a.py", line 1, in x\n'
                "KafkaTimeoutError: late\n\nThe above exception was the direct cause ...\n"
                "ae_model.exceptions.SinkError: topic codes: expected to be written. [while running 'Write']\n"
            ),
            SinkError,
            "topic codes: expected to be written.",
        ),
    ],
)
def test_error_of_ours_is_found_inside_what_beam_wraps_around_it(
    exc: Exception, kind: type[Exception], message: str
) -> None:
    cause = find_cause(exc)

    assert type(cause) is kind
    assert cause is not None
    assert one_line(cause) == message


def test_error_of_ours_is_found_behind_a_cause() -> None:
    outer = RuntimeError("bundle failed")
    outer.__cause__ = SinkError("topic x: full.")

    assert report(outer, verbose=False) == 7


def test_fault_of_the_program_keeps_its_traceback_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        {}["missing"]

    code = report(caught.value, verbose=False)

    shown = capsys.readouterr().err
    log = Path(shown.strip().rpartition("Traceback: ")[2])
    assert code == 70
    assert shown.startswith("error: internal: KeyError: 'missing'")
    assert "test_fault_of_the_program" in log.read_text()
    log.unlink()


def test_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "pipelines.cli", "config", "schema"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_table_lines_up() -> None:
    rows = [
        {"topic": "a", "partitions": 4, "created": True},
        {"topic": "long.name", "partitions": 16, "created": False},
    ]

    assert as_lines(rows) == [
        "topic      partitions  created",
        "a          4           yes",
        "long.name  16          no",
    ]


def test_result_is_a_line_per_name() -> None:
    lines = as_lines({"frames": 3, "share": 1 / 3, "bad": {"nan": 1}, "model": None, "parts": [1, 2]})

    assert lines == ["frames  3", "share   0.333333", "bad     nan=1", "model   -", "parts   1, 2"]


def test_every_verb_takes_both_forms_of_output() -> None:
    parser = build_parser()

    for argv in (["doctor"], ["services", "up"], ["models", "list"], ["bench", "stream"], ["verify", "x"]):
        assert parser.parse_args([*argv, "-o", "json"]).output == "json"
        assert parser.parse_args(argv).output == "text"


def test_topic_that_is_absent_ends_in_exit_3(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["topics", "check", "spoken-digits", "--bootstrap", broker])

    assert code == 3
    assert "Run `latentstream topics create spoken-digits`." in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a broker of the person who runs the tests out of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY"):
        monkeypatch.setenv(name, os.environ.get(name, "3"))
