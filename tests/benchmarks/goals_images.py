"""Goals G1 to G6: image models on MNIST, each beside PCA with a code of the same size.

    python tests/benchmarks/goals_images.py --data ../shared/data --out goals-images --seeds 1 2 3

DIR/mnist must hold mnist_train20k.npz and mnist_test2k.npz, with images x (n, 28, 28) uint8 and
classes y (n,). Each model is trained by the pipeline of ``latentstream train``; test images are
read afterwards. What was measured stays in the output folder: the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from goal_tables import as_markdown, judge
from image_models import TEST, TRAINING, Digits, Measures, make_stream, measure, train

# Of one seed: by variant, then by `model` and `pca`.
Results = dict[str, dict[str, Measures]]


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Args:
        name: as the goals are numbered.
        what: is measured.
        variants: the models it needs.
        read: one seed's number, for ``model`` or ``pca``.
        least: the value that passes.
        stretch: the value to aim at.
        higher: whether more is better.
    """

    name: str
    what: str
    variants: tuple[str, ...]
    read: Callable[[Results, str], float]
    least: float
    stretch: float | None = None
    higher: bool = False

    def judge(self, mean: float) -> str:
        """``stretch``, ``pass`` or ``missed``."""
        return judge(mean, self.least, self.stretch, higher=self.higher)


def _of(variant: str, number: str) -> Callable[[Results, str], float]:
    return lambda results, role: results[variant][role][number]


def _rise(results: Results, role: str) -> float:
    return results["int8"][role]["mse"] / results["vanilla"][role]["mse"] - 1


def _activity(results: Results, role: str) -> float:
    """Mean magnitude of a code's numbers, as a share of the vanilla code's."""
    return results["sparse"][role]["activation"] / results["vanilla"][role]["activation"]


GOALS = (
    Goal("G1", "vanilla 784-32-784, MSE", ("vanilla",), _of("vanilla", "mse"), 0.0110, 0.0070),
    Goal("G1", "vanilla 784-32-784, BCE", ("vanilla",), _of("vanilla", "bce"), 0.097),
    Goal("G2", "multilayer, 32 numbers, MSE", ("multilayer",), _of("multilayer", "mse"), 0.0095, 0.0065),
    Goal("G3", "vanilla with codes of 32 bytes, rise of MSE", ("vanilla", "int8"), _rise, 0.05, 0.01),
    Goal("G4", "sparse, BCE", ("sparse",), _of("sparse", "bce"), 0.105, 0.097),
    Goal("G4", "its activation by the vanilla's", ("sparse", "vanilla"), _activity, 0.5, 0.5),
    Goal("G5", "noise of 0.5 taken out, MSE", ("denoising",), _of("denoising", "denoised_mse"), 0.0155, 0.0120),
    Goal("G6", "variational, MSE", ("variational",), _of("variational", "mse"), 0.0100, 0.0085),
    Goal("G6", "its active units", ("variational",), _of("variational", "active_units"), 20, 20, higher=True),
)


def main(args: Sequence[str] | None = None) -> int:
    """Train what is missing, print the table and write it."""
    given = _parse(args)
    missing = [name for name in (TRAINING, TEST) if not (given.data / name).is_file()]
    if missing:
        print(f"skipped: expected {', '.join(missing)} in --data. Received: data={given.data}.")
        return 0
    goals = [goal for goal in GOALS if not given.goals or goal.name in given.goals]
    variants = sorted({variant for goal in goals for variant in goal.variants})
    seeds = [{variant: _results(variant, seed, given.data, given.out) for variant in variants} for seed in given.seeds]
    table = make_table(goals, given.seeds, seeds)
    (given.out / "goals.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def make_table(goals: Sequence[Goal], seeds: Sequence[int], results: Sequence[Results]) -> str:
    """The table in Markdown: a goal's number per seed, their mean, and PCA's."""
    head = ["goal", "measured", "pass", "stretch", *(f"seed {seed}" for seed in seeds), "mean", "PCA", ""]
    rows = [head]
    for goal in goals:
        numbers = [goal.read(each, "model") for each in results]
        mean, baseline = fmean(numbers), fmean(goal.read(each, "pca") for each in results)
        limits = [_show(goal.least), _show(goal.stretch)]
        rows.append([goal.name, goal.what, *limits, *map(_show, [*numbers, mean, baseline]), goal.judge(mean)])
    return as_markdown(rows)


def _show(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}" if abs(number) < 1 else f"{number:.1f}"


def _results(variant: str, seed: int, data: Path, out: Path) -> dict[str, Measures]:
    """Trained and measured now, or before with the same settings."""
    stream = make_stream(variant, seed)
    path = out / "results" / f"{stream.name}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings = json.loads(json.dumps(asdict(stream.model)))
    if kept.get("settings") != settings:
        print(f"{stream.name}:", flush=True)
        kept = {"settings": settings, "training": train(stream, data, out / "models")}
        _write(path, kept)
    if "measures" not in kept:
        kept["measures"] = measure(stream, out / "models", Digits.read(data / TEST))
        _write(path, kept)
    return dict(kept["measures"])


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Goals G1 to G6: image models on MNIST.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR", help="holds mnist/")
    parser.add_argument("--out", type=Path, default=Path("goals-images"), metavar="DIR", help="models and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="one training each")
    parser.add_argument("--goals", nargs="*", metavar="G", help="which (default: all)")
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
