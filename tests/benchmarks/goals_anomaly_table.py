"""Goals G7 to G10 as tables: the goals by seed, and each machine with its paired comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

from goal_tables import as_markdown, judge

Row = dict[str, Any]
AUTOENCODER, SAME_PCA, ROW_PCA, RANDOM = "autoencoder", "PCA, same score", "PCA residual", "random"


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Args:
        name: as the goals are numbered.
        what: is measured.
        sets: the data sets it rests on.
        read: one seed's number from its rows, for one of the compared.
        least: the value that passes.
        stretch: the value to aim at.
        higher: whether more is better.
    """

    name: str
    what: str
    sets: tuple[str, ...]
    read: Callable[[Sequence[Row], str], float]
    least: float | None = None
    stretch: float | None = None
    higher: bool = True

    def judge(self, mean: float) -> str:
        """``stretch``, ``pass`` or ``missed``; nothing for a number that only stands beside a goal."""
        return "" if self.least is None else judge(mean, self.least, self.stretch, higher=self.higher)


def _mean(number: str) -> Callable[[Sequence[Row], str], float]:
    return lambda rows, role: fmean(row[role][number] for row in rows)


def _recall(rows: Sequence[Row], role: str) -> float:
    """Mean event recall; an alarm that is on for most of the unlabelled time finds nothing, whatever it covers."""
    return fmean(row[role]["event_recall"] if _tells(row, role) else 0.0 for row in rows)


def _episodes(rows: Sequence[Row], role: str) -> float:
    told = [row[role]["false_episodes_per_day"] for row in rows if _tells(row, role)]
    return fmean(told) if told else float("nan")


def _always_on(rows: Sequence[Row], role: str) -> float:
    return sum(not _tells(row, role) for row in rows)


def _tells(row: Row, role: str) -> bool:
    return bool(row[role]["false_alarm_rate"] <= _ALWAYS_ON)


def _pooled_f1(rows: Sequence[Row], role: str) -> float:
    hits, misses, false = (sum(row[role][name] for row in rows) for name in ("hits", "misses", "false"))
    return float(2 * hits / (2 * hits + misses + false))


def _pooled_far(rows: Sequence[Row], role: str) -> float:
    return float(sum(row[role]["false"] for row in rows) / sum(row[role]["calm"] for row in rows))


_ALERTS = ("smd", "asd")
# Share of unlabelled rows that alert above which the alarm tells nothing.
_ALWAYS_ON = 0.5
GOALS = (
    Goal("G7", "SMD, VUS-PR", ("smd",), _mean("vus_pr"), 0.54, 0.60),
    Goal("G7", "SMD, AUC-PR", ("smd",), _mean("auc_pr"), 0.54, 0.62),
    Goal("G8", "ASD, VUS-PR", ("asd",), _mean("vus_pr"), 0.36, 0.42),
    Goal("G8", "ASD, AUC-PR", ("asd",), _mean("auc_pr"), 0.38, 0.43),
    Goal("G9", "SMD + ASD, event recall, 0 where the alarm is always on", _ALERTS, _recall, 0.40, 0.55),
    Goal("G9", "false episodes a day of the others, 1 asked for", _ALERTS, _episodes, higher=False),
    Goal("G9", "of 13 machines, how many have the alarm always on", _ALERTS, _always_on, higher=False),
    Goal("G10", "SKAB, AUC-ROC by file", ("skab",), _mean("auc_roc"), 0.83, 0.88),
    Goal("G10", "SKAB, F1", ("skab",), _pooled_f1, 0.78, 0.81),
    Goal("G10", "its false-alarm rate", ("skab",), _pooled_far, 0.20, 0.13, higher=False),
)


def describe(rows: Sequence[Row]) -> str:
    """Both tables in Markdown, and how many machines each comparison won."""
    seeds = sorted({row["seed"] for row in rows})
    goals = [goal for goal in GOALS if all(any(row["set"] == name for row in rows) for name in goal.sets)]
    parts = [as_markdown(_goal_rows(goals, rows, seeds)), as_markdown(_machine_rows(rows)), *_wins(rows)]
    return "\n".join(parts)


def _goal_rows(goals: Sequence[Goal], rows: Sequence[Row], seeds: Sequence[int]) -> list[list[str]]:
    lines = [
        ["goal", "measured", "pass", "stretch", *(f"seed {seed}" for seed in seeds), "mean", SAME_PCA, ROW_PCA, ""]
    ]
    for goal in goals:
        groups = [[row for row in rows if row["seed"] == seed and row["set"] in goal.sets] for seed in seeds]
        values = [goal.read(group, AUTOENCODER) for group in groups]
        others = [_or_none(goal, groups[0], role) for role in (SAME_PCA, ROW_PCA)]
        numbers = [goal.least, goal.stretch, *values, fmean(values), *others]
        lines.append([goal.name, goal.what, *map(_show, numbers), goal.judge(fmean(values))])
    return lines


def _or_none(goal: Goal, rows: Sequence[Row], role: str) -> float | None:
    """The plain residual has no threshold of its own, and so no alerts."""
    try:
        return goal.read(rows, role)
    except KeyError:
        return None


def _machine_rows(rows: Sequence[Row]) -> list[list[str]]:
    roles = (AUTOENCODER, SAME_PCA, ROW_PCA, RANDOM)
    numbers = [(role, number) for number in ("vus_pr", "auc_pr") for role in roles]
    head = ["set", "machine", "events", *(f"{number.replace('_', '-').upper()} {role}" for role, number in numbers)]
    lines = [[*head, "event recall", "false episodes a day", "unlabelled rows that alert"]]
    for name, machine in _machines(rows):
        same = [row for row in rows if (row["set"], row["entity"]) == (name, machine)]
        cells = [_show(_mean(number)(same, role)) for role, number in numbers]
        numbers_of_alerts = ("event_recall", "false_episodes_per_day", "false_alarm_rate")
        alerts = [_show(_mean(number)(same, AUTOENCODER)) for number in numbers_of_alerts]
        lines.append([name, machine, str(same[0][AUTOENCODER]["events"]), *cells, *alerts])
    return lines


def _wins(rows: Sequence[Row]) -> list[str]:
    """By data set and rival: on how many machines the mean over the seeds is above, in either number."""
    lines = []
    for name in sorted({row["set"] for row in rows}):
        machines = [
            [row for row in rows if (row["set"], row["entity"]) == each] for each in _machines(rows) if each[0] == name
        ]
        for other, number in product((SAME_PCA, ROW_PCA), ("vus_pr", "auc_pr")):
            read = _mean(number)
            gains = [read(same, AUTOENCODER) - read(same, other) for same in machines]
            won = sum(gain > 0 for gain in gains)
            title = number.upper().replace("_", "-")
            lines.append(f"{name}, {title}: above {other} on {won} of {len(gains)} machines, by {fmean(gains):+.3f}")
    return ["\n\n".join(lines), ""]


def _machines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["set"], row["entity"]) for row in rows))


def _show(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}" if abs(number) < 1 else f"{number:.1f}"
