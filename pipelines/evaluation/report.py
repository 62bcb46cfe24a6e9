"""The report: JSON for programs, Markdown for people, and pictures beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.evaluation.markdown import as_markdown
from pipelines.evaluation.section import Section

JSON_FILE, MARKDOWN_FILE = "report.json", "report.md"


@dataclass(frozen=True)
class Report:
    """What ``latentstream evaluate`` found.

    Args:
        stream: its name.
        facts: what was evaluated, by name, in words.
        sections: by task, in order.
        pictures: file names by caption; empty unless a folder was given.
    """

    stream: str
    facts: dict[str, str]
    sections: Sequence[Section]
    pictures: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        sections = {section.name: section.as_json() for section in self.sections}
        return {"stream": self.stream, **self.facts, **sections, "pictures": dict(self.pictures)}

    def as_text(self) -> str:
        """The report for a person, in Markdown."""
        return as_markdown(f"Evaluation of {self.stream}", self.facts, self.sections, self.pictures)

    def write(self, out: Path) -> None:
        """Both forms, into a folder that is made if it is not there."""
        out.mkdir(parents=True, exist_ok=True)
        (out / JSON_FILE).write_text(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (out / MARKDOWN_FILE).write_text(self.as_text(), encoding="utf-8")
