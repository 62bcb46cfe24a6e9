"""One part of a report: numbers of every entity for a model and what it is compared with.

entities   machine-1-6   model     {"vus_pr": 0.71, ...}
                         baseline  {"vus_pr": 0.66, ...}
                         random    {"vus_pr": 0.22, ...}
mean                     model     {"vus_pr": 0.54, ...}   over entities, each with the same weight
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Number = float | int | None
Numbers = dict[str, Number]

MODEL, BASELINE, RANDOM = "model", "baseline", "random"
ROLES = {MODEL: "model", BASELINE: "PCA", RANDOM: "random score"}


@dataclass(frozen=True)
class Column:
    """One number of a section.

    Args:
        name: its key in JSON.
        heading: in tables, with its unit.
        form: how it is written, as of ``format``.
        over: whether entities are averaged or added up; None leaves it out of the mean.
        leading: whether it stands in the table of entities too.
        shared: whether it is the same for all roles, as a property of the data.
    """

    name: str
    heading: str
    form: str = ".3f"
    over: Literal["mean", "sum"] | None = "mean"
    leading: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Section:
    """Numbers of one task.

    Args:
        name: its key in JSON.
        title: its heading.
        intro: how to read the numbers.
        columns: in order.
        entities: by entity and role.
        notes: sentences on what the numbers say.
        roles: how each role is called in tables.
    """

    name: str
    title: str
    intro: str
    columns: tuple[Column, ...]
    entities: dict[str, dict[str, Numbers]]
    notes: list[str] = field(default_factory=list)
    roles: Mapping[str, str] = field(default_factory=lambda: dict(ROLES))

    @property
    def mean(self) -> dict[str, Numbers]:
        """By role, over all entities that have the role; a number that an entity lacks is left out."""
        roles = dict.fromkeys(role for numbers in self.entities.values() for role in numbers)
        return {role: {column.name: self._over(role, column) for column in self.columns} for role in roles}

    def pairs(self, name: str, first: str = MODEL, second: str = BASELINE) -> list[tuple[float, float]]:
        """The numbers of two roles for each entity that has both."""
        both = ((roles.get(first, {}).get(name), roles.get(second, {}).get(name)) for roles in self.entities.values())
        return [(mine, other) for mine, other in both if mine is not None and other is not None]

    def as_json(self) -> dict[str, Any]:
        """The section for programs."""
        return {"mean": self.mean, "entities": self.entities, "notes": self.notes}

    def _over(self, role: str, column: Column) -> Number:
        found = [numbers[role].get(column.name) for numbers in self.entities.values() if role in numbers]
        known = [number for number in found if number is not None]
        if column.over is None or not known:
            return None
        return sum(known) if column.over == "sum" else sum(known) / len(known)


def known(number: float) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return float(number) if math.isfinite(number) else None


def set_against(section: Section, name: str, heading: str, *, higher_is_better: bool = True, form: str = ".3f") -> str:
    """A sentence that says whether the model beats PCA, entity by entity and in the mean; nothing without PCA."""
    pairs = section.pairs(name)
    if not pairs:
        return ""
    sign = 1 if higher_is_better else -1
    mine, other = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    won = sum(sign * (first - second) > 0 for first, second in pairs)
    lost = sum(sign * (first - second) < 0 for first, second in pairs)
    better = "the model is better than PCA" if sign * (mine - other) > 0 else "PCA is better than the model"
    if mine == other:
        better = "the model and PCA are equal"
    numbers = f"{mine:{form}} for the model, {other:{form}} for PCA"
    if len(pairs) == 1:
        return f"In {heading} {better}: {numbers}."
    return f"In mean {heading} {better}: {numbers}; the model wins {won} and loses {lost} of {len(pairs)} entities."
