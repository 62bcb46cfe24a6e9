"""Faults of a stream file in the house form, with the place and a hint for a misspelt key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from ae_model.config import hint

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
SECRET = re.compile("password|secret|token")
# What pydantic calls a rule, and how the house says it.
RULES = {
    "missing": "a value",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_type": "text",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "keys with values",
    "dataclass_type": "keys with values",
    "literal_error": "{expected}",
}


def explain(errors: Iterable[Mapping[str, Any]], model: type[BaseModel], where: str) -> str:
    """All faults, one line per place.

    Args:
        errors: ``ValidationError.errors()``.
        model: the model that was validated, to know which keys exist.
        where: the file.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for error in errors:
        lines.setdefault(".".join(_path(error["loc"], model)), []).append(error)
    return "\n".join(_line(place, found, model, where) for place, found in lines.items())


def _line(place: str, errors: list[Mapping[str, Any]], model: type[BaseModel], where: str) -> str:
    path = place.split(".")
    name, first = path[-1] or "content", errors[0]
    if first["type"] in UNKNOWN_KEY:
        known = _keys(_resolve(path[:-1], model))
        return f"{where}, {place}: expected one of {', '.join(sorted(known))}. Received: {name}.{hint(name, known)}"
    # A union gives one error for each of its branches.
    rules = " or ".join(dict.fromkeys(_rule(error) for error in errors))
    if first["type"] == "value_error" and ": expected " in rules:
        return f"{where}: {rules}"
    received = "nothing" if first["type"] == "missing" else f"{name}={_shown(place, first['input'])}"
    return f"{where}{', ' if place else ''}{place}: expected {rules}. Received: {received}."


def _rule(error: Mapping[str, Any]) -> str:
    rule = RULES.get(error["type"])
    return rule.format(**error.get("ctx", {})) if rule else str(error["msg"]).removeprefix("Value error, ")


def _shown(place: str, value: object) -> str:
    text = repr(value)
    return "<hidden>" if SECRET.search(place) else text if len(text) <= 80 else text[:77] + "..."


def _path(loc: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys of a place, without what pydantic adds for the branches of a union."""
    path: list[str] = []
    for part in loc:
        if isinstance(part, int):
            path[-1] += f"[{part}]"
        elif _resolve(path, model) is not None:
            path.append(part)
    return path


def _resolve(path: list[str], model: type[BaseModel]) -> type | None:
    """The class that holds the keys at ``path``, or None where there are none."""
    at: type | None = model
    for key in path:
        at = None if at is None else _holder(_annotations(at).get(key))
    return at


def _holder(annotation: object) -> type | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and (issubclass(candidate, BaseModel) or is_dataclass(candidate)):
            return candidate
    return None


def _annotations(holder: type) -> dict[str, object]:
    if issubclass(holder, BaseModel):
        return {name: field.annotation for name, field in holder.model_fields.items()}
    hints = get_type_hints(holder)
    return {field.name: hints[field.name] for field in fields(holder)}  # type: ignore[arg-type]


def _keys(holder: type | None) -> set[str]:
    return set() if holder is None else set(_annotations(holder))
