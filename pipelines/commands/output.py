"""Prints what a verb found, for a person or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any


def show(result: object, output: str) -> None:
    """Print to stdout: one JSON document, or lines of names and values."""
    plain = as_plain(result)
    say(json.dumps(plain, default=str) if output == "json" else "\n".join(as_lines(plain)))


def say(text: str) -> None:
    """Print to stdout; a reader that leaves early, such as ``head``, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Tell a person how far a long verb is, on stderr."""
    print(text, file=sys.stderr, flush=True)


def as_plain(result: object) -> Any:
    """Dictionaries and lists of a result that knows its JSON form, or of a dataclass."""
    if hasattr(result, "as_json"):
        return result.as_json()
    if is_dataclass(result) and not isinstance(result, type):
        return asdict(result)
    return result


def as_lines(plain: Any) -> list[str]:
    """Text of a dictionary (a line per key) or of a list of dictionaries (a table)."""
    if isinstance(plain, Mapping):
        width = max((len(str(key)) for key in plain), default=0)
        return [f"{key!s:<{width}}  {_cell(value)}" for key, value in plain.items()]
    if isinstance(plain, Sequence) and plain and isinstance(plain[0], Mapping):
        return _table(list(plain))
    return [str(plain)] if plain not in ([], None) else []


def _table(rows: list[Mapping[str, Any]]) -> list[str]:
    names = list(rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(_pair(str(key), item) for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value) or "-"
    return "-" if value is None else str(value)


def _pair(key: str, value: object) -> str:
    return f"{key} ({_cell(value)})" if isinstance(value, Mapping) else f"{key}={_cell(value)}"
