"""Whatever `infra/` tells others to run is what the command line takes and what the other files name."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.flink import Flink, _job_server
from infra.local.flink_settings import FLINK_JARS, write_settings
from infra.local.kafka import _write_settings
from pipelines.cli import parse
from pipelines.commands.beam_flags import check_beam_flags
from pipelines.engines import choose_engine

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"
FLINK = Flink("/nowhere", 2, 1, 2, 3, 4, 5, {})
PROGRAM = "/opt/latentstream/bin/latentstream"
UNITS = sorted((INFRA / "systemd").iterdir())


def read_unit(path: Path) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text(encoding="utf-8"))
    return unit


def unit_commands(path: Path) -> list[list[str]]:
    found = re.findall(r"^Exec\w+=-?(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [line.split()[0] for line in found] == [PROGRAM] * len(found)
    return [shlex.split(line)[1:] for line in found]


def containers(node: Any) -> list[dict[str, Any]]:
    """Every mapping below ``node`` that has our image."""
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    own = [node] if isinstance(node, dict) and node.get("image") == "latentstream" else []
    return own + [found for child in below for found in containers(child)]


def read_yaml(name: str) -> list[Any]:
    return list(yaml.safe_load_all((INFRA / name).read_text(encoding="utf-8")))


def image_commands(name: str) -> list[list[str]]:
    """What is given to the image's entry point."""
    key = "command" if name == "compose.yaml" else "args"
    replaced = "entrypoint" if name == "compose.yaml" else "command"
    return [found[key] for document in read_yaml(name) for found in containers(document) if replaced not in found]


COMMANDS = [
    *(command for path in UNITS if path.suffix == ".service" for command in unit_commands(path)),
    *image_commands("compose.yaml"),
    *image_commands("kubernetes/train.yaml"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_is_one_that_the_command_line_takes(command: list[str]) -> None:
    args = parse(command)

    if args.takes_beam_flags:
        check_beam_flags(args.runner, args.beam_args)


def test_every_pack_has_its_command() -> None:
    assert sorted(" ".join(command).split(" /")[0] for command in COMMANDS) == [
        "run",
        "run",
        "services down flink",
        "services up flink",
        "stop",
        "train",
        "train",
    ]


def test_stream_of_compose_has_what_flink_needs_and_names_services_that_are_there() -> None:
    services = read_yaml("compose.yaml")[0]["services"]
    args = parse(services["stream"]["command"])
    given = dict(arg.removeprefix("--").split("=", 1) for arg in args.beam_args)

    assert choose_engine(args.runner, list(args.beam_args), bounded=False).name == "FlinkRunner"
    hosts = {given[name].partition(":")[0] for name in ("job_endpoint", "artifact_endpoint", "flink_master")}
    assert {*hosts, args.bootstrap.partition(":")[0]} == {"jobserver", "jobmanager", "kafka"}
    assert hosts < set(services)
    assert f"--job-port={given['job_endpoint'].partition(':')[2]}" in services["jobserver"]["command"]
    assert f"--artifact-port={given['artifact_endpoint'].partition(':')[2]}" in services["jobserver"]["command"]
    assert services["workers"]["command"] == [f"--service_port={given['environment_config'].partition(':')[2]}"]
    assert services["workers"]["network_mode"] == "service:taskmanager"


def test_worker_pool_of_compose_is_a_module_of_beam() -> None:
    program, flag, module = read_yaml("compose.yaml")[0]["services"]["workers"]["entrypoint"]

    assert (program, flag) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None


def test_engine_of_compose_is_the_one_that_services_starts() -> None:
    services = read_yaml("compose.yaml")[0]["services"]
    _, runner, version = FLINK_JARS[0].split(":")
    flink = runner.rpartition("-")[2]

    flags = {flag.partition("=")[0] for flag in _job_server(FLINK, INFRA / "conf")[1:]}
    assert {flag.partition("=")[0] for flag in services["jobserver"]["command"]} <= flags
    assert services["jobserver"]["image"] == f"apache/beam_flink{flink}_job_server:{version}"
    assert {services[name]["image"] for name in ("jobmanager", "taskmanager")} == {f"flink:{flink}"}


def test_settings_of_compose_are_among_those_that_services_gives(tmp_path: Path) -> None:
    services = read_yaml("compose.yaml")[0]["services"]
    flink = yaml.safe_load(services["taskmanager"]["environment"]["FLINK_PROPERTIES"])
    kafka = {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in services["kafka"]["environment"]}
    ours = write_settings(tmp_path, 1, 2, 2) / "flink-conf.yaml"

    assert sorted(set(flink) - set(yaml.safe_load(ours.read_text(encoding="utf-8")))) == []
    properties = _write_settings(tmp_path, 1, 2, {}).read_text(encoding="utf-8")
    assert sorted(kafka - {line.partition("=")[0] for line in properties.splitlines()}) == []


def test_what_the_image_copies_is_there_and_its_entry_point_is_the_command() -> None:
    text = (INFRA / "Dockerfile").read_text(encoding="utf-8")
    copied = [line.split()[1:-1] for line in text.splitlines() if re.match(r"COPY (?!--from)", line)]

    assert [name for names in copied for name in names if not (ROOT / name).exists()] == []
    assert 'ENTRYPOINT ["latentstream"]' in text
    assert "USER latentstream" in text


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_has_a_section_of_its_kind_and_names_units_that_are_there(path: Path) -> None:
    unit = read_unit(path)
    named = [unit.get("Unit", key, fallback="") for key in ("Requires", "After")]

    assert unit.has_section({".service": "Service", ".timer": "Timer"}[path.suffix])
    ours = {name for text in named for name in text.split() if name.startswith("latentstream")}
    assert ours <= {other.name for other in UNITS}
    assert path.suffix == ".service" or path.with_suffix(".service") in UNITS
