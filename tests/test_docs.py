"""What the documents say is there: commands, targets, files and the tests behind the promises."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from ae_model.config import CorruptionConfig, NetworkConfig, SparseConfig, VariationalConfig
from pipelines.cli import parse
from pipelines.commands.arguments import build_parser
from pipelines.commands.beam_flags import check_beam_flags
from pipelines.stream_file import load_stream

COMPOSED = (CorruptionConfig, SparseConfig, VariationalConfig)
ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
# What stands for something else in a command line.
PLACEHOLDERS = ("...", "…", "<", "[")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Lines of all fenced blocks, those that end in a backslash joined with the next."""
    joined = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines()]


def inline(text: str) -> list[str]:
    """Code between single backticks, outside of fenced blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def starting(lines: list[str], program: str) -> list[str]:
    found = [line.partition(" #")[0] for line in lines if line.startswith(f"{program} ")]
    return [line for line in found if not any(mark in line for mark in PLACEHOLDERS)]


def verbs(
    parser: argparse.ArgumentParser, name: str = "latentstream"
) -> Iterator[tuple[str, argparse._SubParsersAction]]:
    """Every group of verbs, by what is typed before it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield name, action
            for verb, inner in action.choices.items():
                yield from verbs(inner, f"{name} {verb}")


MENTIONS = {f"{name} {verb}" for name, group in verbs(build_parser()) for verb in group.choices}
COMMANDS = [
    *starting(blocks(read("README.md")), "latentstream"),
    *(line for line in starting(inline(read("README.md")), "latentstream") if line not in MENTIONS),
]
PATHS = re.compile(r"(?:ae_model|pipelines|infra|tests|requirements|\.ci)/[\w./*-]*")


def targets() -> list[str]:
    return re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)


def promises() -> dict[str, list[str]]:
    """Rows of the table with a column ``held by``: the promise and what is named beside it."""
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in read("README.md").splitlines()]
    first = next((i for i, row in enumerate(rows) if row[-1].lower() == "held by"), None)
    assert first is not None, "README.md: expected a table with a column `held by`. Received: none."
    table: dict[str, list[str]] = {}
    for row in rows[first + 2 :]:
        if len(row) < 2:
            break
        table[row[0]] = re.findall(r"`([^`]+)`", row[-1])
    return table


def has_test(node: str) -> bool:
    """Whether ``tests/file.py::name`` is a test; a file alone must hold one."""
    file, _, name = node.partition("::")
    path = ROOT / file
    if not path.is_file() or not path.name.startswith("test_"):
        return False
    tests = {item.name for item in ast.walk(ast.parse(path.read_text())) if isinstance(item, ast.FunctionDef)}
    return name in tests if name else any(test.startswith("test_") for test in tests)


def test_every_verb_and_argument_has_help() -> None:
    for name, group in verbs(build_parser()):
        helped = {action.dest for action in group._choices_actions if action.help}
        assert [f"{name} {verb}" for verb in group.choices if verb not in helped] == []
        for verb, parser in group.choices.items():
            assert [f"{name} {verb}: {action.dest}" for action in parser._actions if not action.help] in (
                [],
                # A group of verbs, whose help is that of each.
                [f"{name} {verb}: {argparse.SUPPRESS}"],
            )


def test_make_help_lists_every_target_with_its_text() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    lines = [re.fullmatch(r"  make ([a-z]+) +(\S.*)", line) for line in shown.stdout.splitlines()]
    assert [line[1] for line in lines if line] == targets()
    assert set(re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[0].split()) == set(targets())


def test_readme_shows_commands() -> None:
    verbs_shown = {line.split()[1] for line in COMMANDS}

    assert {"train", "run", "decode", "verify"} <= verbs_shown


@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_the_readme_is_understood(line: str) -> None:
    args = parse(shlex.split(line)[1:])

    if args.takes_beam_flags:
        check_beam_flags(args.runner, args.beam_args)
    if getattr(args, "stream", None) and not args.stream.endswith(".yaml"):
        load_stream(args.stream)
    named = [word.partition("::")[0] for word in shlex.split(line) if word.startswith("tests/")]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_that_are_named_exist(document: str) -> None:
    text = read(document)

    named = {line.split()[1] for line in [*starting(blocks(text), "make"), *starting(inline(text), "make")]}

    assert named - set(targets()) == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_lead_somewhere(document: str) -> None:
    text = read(document)

    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    paths = [code.partition("::")[0] for code in inline(text) if PATHS.fullmatch(code.partition("::")[0])]

    assert [link for link in links if link and not (ROOT / link).exists()] == []
    assert [path for path in paths if not list(ROOT.glob(path.rstrip("/")))] == []


def test_readme_names_every_setting_of_a_model() -> None:
    section = read("README.md").partition("### A stream file")[2].partition("\n## ")[0]
    settings = {field.name for kind in (NetworkConfig, *COMPOSED) for field in fields(kind)}

    assert sorted(setting for setting in settings if not re.search(rf"\b{setting}\b", section)) == []


def test_every_promise_names_a_test_that_exists() -> None:
    found = promises()

    assert [promise for promise, tests in found.items() if not tests] == []
    assert [test for tests in found.values() for test in tests if not has_test(test)] == []


def test_promises_are_made_by_number_or_said_to_be_none_yet() -> None:
    numbers = [f"P{number}" for number in range(1, 8)]
    made = [promise.partition(".")[0] for promise in promises() if re.match(r"P\d\.", promise)]
    open_yet = re.findall(r"\((P\d)\)", read("README.md").partition("Not promised yet")[2].partition("\n\n")[0])

    assert sorted([*made, *open_yet]) == numbers
