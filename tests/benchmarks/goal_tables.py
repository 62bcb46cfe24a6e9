"""What both tables of goals share: the verdict on a mean, and the Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def judge(mean: float, least: float, stretch: float | None, *, higher: bool) -> str:
    """``stretch``, ``pass`` or ``missed``.

    Args:
        mean: over the seeds.
        least: the value that passes.
        stretch: the value to aim at, if there is one.
        higher: whether more is better.
    """
    sign = 1 if higher else -1
    if stretch is not None and sign * mean >= sign * stretch:
        return "stretch"
    return "pass" if sign * mean >= sign * least else "missed"


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table; its first line is the head."""
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)
