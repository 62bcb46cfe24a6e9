"""The goals' table says what was measured, and measures nothing twice."""

from __future__ import annotations

from pathlib import Path

import goals_images
import numpy as np
import pytest
from goals_images import GOALS, Goal, main, make_table
from image_models import VARIANTS, add_noise

DIGITS = Path(__file__).parents[1] / "data" / "mnist" / "digits.npz"
ERROR = Goal("G1", "error", ("a",), lambda results, role: results["a"][role]["mse"], 0.02, 0.01)


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.009, "stretch"), (0.01, "stretch"), (0.011, "pass"), (0.02, "pass"), (0.021, "missed")]
)
def test_a_mean_is_judged_by_what_passes_and_what_is_aimed_at(mean: float, verdict: str) -> None:
    assert ERROR.judge(mean) == verdict


@pytest.mark.parametrize(("mean", "verdict"), [(21, "stretch"), (20, "stretch"), (19, "missed")])
def test_where_more_is_better_less_is_missed(mean: float, verdict: str) -> None:
    units = next(goal for goal in GOALS if goal.higher)

    assert units.judge(mean) == verdict


def test_the_table_has_each_seed_the_mean_and_pca() -> None:
    results = [{"a": {"model": {"mse": mse}, "pca": {"mse": 0.0166}}} for mse in (0.01, 0.014)]

    assert make_table([ERROR], [1, 2], results) == (
        "| goal | measured | pass | stretch | seed 1 | seed 2 | mean | PCA |  |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| G1 | error | 0.02 | 0.01 | 0.01 | 0.014 | 0.012 | 0.0166 | pass |\n"
    )


def test_every_goal_has_models_that_can_be_made() -> None:
    assert {variant for goal in GOALS for variant in goal.variants} == set(VARIANTS)


def test_noise_repeats_stays_in_range_and_leaves_the_images_alone() -> None:
    images = np.full((2, 28, 28), 0.5, np.float32)

    noisy = add_noise(images, seed=3)

    assert noisy.tolist() == add_noise(images, seed=3).tolist() != add_noise(images, seed=4).tolist()
    assert (noisy.min(), noisy.max(), images.min(), images.max()) == (0.0, 1.0, 0.5, 0.5)


def test_without_data_it_says_so_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 0

    assert "skipped: expected mnist/mnist_train20k.npz, mnist/mnist_test2k.npz in --data" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_model_is_trained_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mnist").mkdir()
    with np.load(DIGITS) as arrays:
        np.savez(tmp_path / "mnist" / "mnist_train20k.npz", x=arrays["x"], y=arrays["y"])
        np.savez(tmp_path / "mnist" / "mnist_test2k.npz", x=arrays["x_test"], y=arrays["y_test"])
    monkeypatch.setitem(VARIANTS, "vanilla", {"epochs": 2})
    asked = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--seeds", "5", "--goals", "G1"]

    main(asked)
    first = capsys.readouterr().out
    monkeypatch.setattr(goals_images, "train", lambda *_: pytest.fail("trained twice"))
    main(asked)
    again = capsys.readouterr().out

    assert (tmp_path / "out" / "models" / "mnist-vanilla-seed5" / "1" / "manifest.json").is_file()
    assert first.endswith(again)
    assert again == (tmp_path / "out" / "goals.md").read_text()
    assert again.count("| G1 |") == 2
