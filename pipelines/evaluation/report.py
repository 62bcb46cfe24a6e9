"""The report: JSON for programs, Markdown for people, and pictures beside them."""

from __future__ import annotations

import json
from collections import Counter
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
        models: what answered for each recording, by its name; empty for scores that come without it.
        pictures: file names by caption; empty unless a folder was given.
    """

    stream: str
    facts: dict[str, str]
    sections: Sequence[Section]
    models: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        sections = {section.name: section.as_json() for section in self.sections}
        maps = {"models": dict(self.models), "pictures": dict(self.pictures)}
        return {"stream": self.stream, **self.facts, **sections, **maps}

    def as_text(self) -> str:
        """The report for a person, in Markdown."""
        facts = self.facts | self._describe_models()
        return as_markdown(f"Evaluation of {self.stream}", facts, self.sections, self.pictures)

    def _describe_models(self) -> dict[str, str]:
        """One line for each model: which, and of how many recordings where there are several models."""
        answered = Counter(self.models.values())
        if len(answered) == 1:
            return {"model": next(iter(answered))}
        return {f"model of {self._name(model, count)}": model for model, count in answered.items()}

    def _name(self, model: str, count: int) -> str:
        names = [name for name, each in self.models.items() if each == model]
        return names[0] if count == 1 else f"{count} recordings"

    def write(self, out: Path) -> None:
        """Both forms, into a folder that is made if it is not there."""
        out.mkdir(parents=True, exist_ok=True)
        (out / JSON_FILE).write_text(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (out / MARKDOWN_FILE).write_text(self.as_text(), encoding="utf-8")
