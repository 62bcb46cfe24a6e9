"""How settings are checked, and read back from JSON."""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from ae_model.exceptions import ConfigError

_T = TypeVar("_T")


def require(rule: bool, name: str, expected: str, received: object) -> None:
    """Raise ConfigError in the house form unless the rule holds."""
    if not rule:
        raise ConfigError(f"{name}: expected {expected}. Received: {name}={received!r}.")


def from_mapping(cls: type[_T], mapping: dict[str, Any]) -> _T:
    """Build a config object from JSON, turning lists into tuples and mappings into the objects they stand for.

    Raises:
        ConfigError: a key is unknown; the message names the nearest known one.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{cls.__name__}: expected one of {sorted(known)}. Received: {key}.{hint(key, known)}")
    hints = get_type_hints(cls)
    return cls(**{key: _from_json(hints[key], value) for key, value in mapping.items()})


def _from_json(annotation: Any, value: Any) -> Any:
    if isinstance(value, dict):
        holders = [kind for kind in (annotation, *get_args(annotation)) if is_dataclass(kind)]
        return from_mapping(holders[0], value) if holders else value  # type: ignore[arg-type]
    return tuple(value) if isinstance(value, list) else value


def hint(key: str, known: set[str]) -> str:
    """A ``did you mean`` sentence for a misspelt key, or nothing."""
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
