"""Rounds of legs as ratios with intervals, or a refusal to tell any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import CASES, GOALS

# A round counts if its bare leg is this near to the median of all bare legs.
NEAR = 0.15
MOST_DROPPED = 1 / 3
_DRAWS = 2000

Pass = dict[str, float]
Rounds = Sequence[Mapping[str, Pass]]


def us_per_frame(done: Pass, clock: str = "wall_s") -> float:
    """Microseconds of a frame."""
    return 1e6 * done[clock] / done["frames"]


def quiet_rounds(rounds: Rounds) -> Rounds:
    """The rounds in which the machine was as fast as usual.

    Raises:
        SystemExit: too few of them are.
    """
    bare = [us_per_frame(each["bare"]) for each in rounds]
    kept = [each for each, speed in zip(rounds, bare, strict=True) if abs(speed / median(bare) - 1) <= NEAR]
    if len(kept) < (1 - MOST_DROPPED) * len(rounds):
        raise SystemExit(
            f"no result: expected the bare model within {NEAR:.0%} of its median in two rounds of three. "
            f"Received: {len(kept)} of {len(rounds)} rounds. The machine is not quiet; try again."
        )
    return kept


def compare(rounds: Rounds, case: str, other: str, clock: str = "wall_s") -> tuple[float, float, float]:
    """How many times as fast one case is as another: the median over rounds, and its interval of 95 %."""
    ratios = np.array([us_per_frame(each[other], clock) / us_per_frame(each[case], clock) for each in rounds])
    draws = np.random.default_rng(0).choice(ratios, (_DRAWS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def as_json(rounds: Rounds, versions: Mapping[str, Mapping[str, str]], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured."""
    kept = quiet_rounds(rounds)
    cases = [case for case in CASES if case.name in rounds[0]]
    names = {case.name for case in cases}
    return {
        "machine": dict(machine),
        "rounds": len(rounds),
        "kept": len(kept),
        "cases": [_figures(kept, case.name, case.base, versions[case.name]) for case in cases],
        "goals": [
            {**vars(goal), "ratio": _rounded(compare(kept, goal.case, goal.other))}
            for goal in GOALS
            if {goal.case, goal.other} <= names
        ],
        "passes": [dict(each) for each in rounds],
    }


def _figures(rounds: Rounds, name: str, base: str, versions: Mapping[str, str]) -> dict[str, Any]:
    extra = median(us_per_frame(each[name]) - us_per_frame(each[base]) for each in rounds)
    return {
        "name": name,
        "versions": dict(versions),
        "frames_per_s": round(1e6 / median(us_per_frame(each[name]) for each in rounds)),
        "cpu_us_per_frame": round(median(us_per_frame(each[name], "cpu_s") for each in rounds), 3),
        "overhead_us_per_frame": round(extra, 3),
        "of_base": _rounded(compare(rounds, name, base)),
    }


def _rounded(ratio: tuple[float, float, float]) -> list[float]:
    return [round(number, 3) for number in ratio]


def as_markdown(found: Mapping[str, Any]) -> str:
    """Both tables, for a person."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"{found['kept']} of {found['rounds']} rounds, interleaved; {machine}.", ""]
    lines += ["| leg | frames/s | of the bare model (95 %) | overhead us/frame | CPU us/frame | versions and batch |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for case in found["cases"]:
        versions = ", ".join(f"{name} {version}" for name, version in case["versions"].items() if name != "tensorflow")
        numbers = f"{case['overhead_us_per_frame']:.2f} | {case['cpu_us_per_frame']:.2f}"
        lines.append(
            f"| {case['name']} | {case['frames_per_s']:,} | {_interval(case['of_base'])} | {numbers} | {versions} |"
        )
    lines += ["", "| times as fast as | ratio (95 %) | must | aim | |", "| --- | --- | --- | --- | --- |"]
    for goal in found["goals"]:
        names = f"{goal['case']} / {goal['other']}"
        lines.append(
            f"| {names} | {_interval(goal['ratio'])} | {goal['must']:g} | {goal['aim']:g} | {_verdict(goal)} |"
        )
    return "\n".join([*lines, ""])


def _verdict(goal: Mapping[str, Any]) -> str:
    ratio = goal["ratio"][0]
    return "aim" if ratio >= goal["aim"] else "must" if ratio >= goal["must"] else "missed"


def _interval(ratio: Sequence[float]) -> str:
    return "{:.3g} ({:.3g} to {:.3g})".format(*ratio)


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Each leg's speed as a share of the bare model's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = [case for case in found["cases"] if not case["name"].startswith("bare")][::-1]
    figure = Figure(figsize=(9, 0.5 * len(cases) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    middle = np.array([case["of_base"] for case in cases]).reshape(-1, 3)
    colors = ["tab:blue" if case["name"].startswith("latentstream") else "0.6" for case in cases]
    errors = np.abs(middle[:, 1:] - middle[:, :1]).T
    axes.barh([case["name"] for case in cases], middle[:, 0], xerr=errors, color=colors, capsize=3)
    for row, case in enumerate(cases):
        axes.text(middle[row, 2] + 0.01, row, f"{middle[row, 0]:.3g}  ({case['frames_per_s']:,} frames/s)", va="center")
    axes.set(xlim=(0, 1.25), xlabel="speed, of the bare model's; one core, 1 KiB frames, real broker")
    axes.axvline(1, color="0.8", zorder=0)
    figure.savefig(path, dpi=120)


def write(found: Mapping[str, Any], out: Path) -> str:
    """``bench.json``, ``bench.md`` and ``bench.png``; returns the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    table = as_markdown(found)
    (out / "bench.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (out / "bench.md").write_text(table, encoding="utf-8")
    draw(found, out / "bench.png")
    return table
