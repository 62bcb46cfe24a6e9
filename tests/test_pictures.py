from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pipelines.pictures import (
    plot_code_map,
    plot_entities,
    plot_error_histogram,
    plot_history,
    plot_images,
    plot_rates,
    plot_reconstruction,
    plot_samples,
    plot_scores,
    plot_waveforms,
)
from pipelines.pictures.canvas import time_axis


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


@pytest.mark.parametrize("times", [np.arange(500) * 60_000, 1_700_000_000_000 + np.arange(500), np.arange(500.0)])
def test_scores_are_drawn_with_labels_threshold_and_alerts(tmp_path: Path, times: np.ndarray) -> None:
    scores = np.abs(np.random.default_rng(0).normal(size=500)) * 0.1
    scores[[0, 250]] = [0.0, 3.0]
    labels = np.zeros(500)
    labels[240:260] = 1

    plot_scores(times, scores, 1.0, labels, tmp_path / "new" / "scores.png", "pump")

    assert png_size(tmp_path / "new" / "scores.png") == (1300, 598)


def test_scores_without_labels_or_alerts_are_drawn(tmp_path: Path) -> None:
    plot_scores(np.arange(5) * 1000, np.zeros(5), 1.0, None, tmp_path / "scores.png", "all calm")

    assert png_size(tmp_path / "scores.png") == (1300, 598)


def test_histogram_is_drawn_with_its_tail_and_the_labelled_frames_apart(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=500)
    scores[:2] = [np.nan, 0.0]
    tail = np.array([3.0, 9.0]), np.array([0.2, 0.001])

    plot_error_histogram(scores, 5.0, tmp_path / "histogram.png", tail, scores > 4, "pump")

    assert png_size(tmp_path / "histogram.png") == (1300, 598)


@pytest.mark.parametrize("scores", [np.zeros(3), np.full(3, np.nan), np.empty(0), np.array([np.inf, 2.0])])
def test_histogram_of_any_scores_is_drawn(tmp_path: Path, scores: np.ndarray) -> None:
    plot_error_histogram(scores, 1.0, tmp_path / "histogram.png")

    assert png_size(tmp_path / "histogram.png") == (1300, 598)


@pytest.mark.parametrize("samples", [10, 4000])
def test_waveforms_are_drawn_even_when_silent_or_short(tmp_path: Path, samples: int) -> None:
    wave = np.sin(np.arange(samples) / 5)

    plot_waveforms({"before": wave, "after": np.zeros(samples)}, 8000, tmp_path / "wave.png")

    assert png_size(tmp_path / "wave.png") == (1300, 832)


def test_history_of_one_epoch_is_drawn(tmp_path: Path) -> None:
    plot_history({"loss": [0.5], "val_loss": [0.6]}, tmp_path / "history.png")

    assert png_size(tmp_path / "history.png") == (1300, 598)


@pytest.mark.parametrize("latent", [1, 8])
def test_code_map_is_drawn_for_any_latent_size(tmp_path: Path, latent: int) -> None:
    codes = np.random.default_rng(1).normal(size=(60, latent))
    classes = np.arange(60) % 3

    plot_code_map(codes, codes * 2, classes, tmp_path / "codes.png")

    assert png_size(tmp_path / "codes.png") == (1300, 702)


def test_images_are_drawn_side_by_side(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-1, 2, (10, 28, 28))

    plot_images({"original": images, "model": images, "PCA": images}, tmp_path / "images.png", "digits")

    assert png_size(tmp_path / "images.png")[0] == 1300


@pytest.mark.parametrize("channels", [1, 5])
def test_reconstruction_is_drawn_beside_what_was_seen(tmp_path: Path, channels: int) -> None:
    seen = np.random.default_rng(0).normal(size=(50, channels))
    names = [f"channel {number}" for number in range(channels)]
    labels = np.arange(50) // 10 == 2

    plot_reconstruction(
        np.arange(50) * 60_000,
        seen,
        {"model": seen / 2, "PCA": seen / 3},
        names,
        labels,
        25,
        tmp_path / "r.png",
        "pump",
    )

    assert png_size(tmp_path / "r.png")[0] == 1300


@pytest.mark.parametrize("count", [1, 13])
def test_entities_are_drawn_even_where_one_has_no_number(tmp_path: Path, count: int) -> None:
    names = [f"machine-{number}" for number in range(count)]
    values = {
        "model": np.linspace(0, 1, count),
        "PCA": [*np.linspace(0, 1, count - 1), np.nan],
        "none": [np.nan] * count,
    }

    plot_entities(names, values, tmp_path / "entities.png", "VUS-PR", "VUS-PR")

    assert png_size(tmp_path / "entities.png") == (1300, 598)


def test_rates_are_drawn_with_any_number_of_points(tmp_path: Path) -> None:
    curve = [2.0, 8.0, 30.0], [0.5, 0.1, 0.01]

    plot_rates({"model": (4.0, 0.2), "PCA": (4.0, 0.3)}, curve, 60.0, tmp_path / "both.png")
    plot_rates({}, curve, 60.0, tmp_path / "none.png")

    assert png_size(tmp_path / "both.png") == png_size(tmp_path / "none.png") == (1300, 598)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((64, 28, 28), (1300, 403)), ((3, 64, 3), (1300, 279)), ((30, 64, 1), (1300, 806)), ((24, 1, 38), (1300, 806))],
    ids=["images", "few signals", "audio", "readings"],
)
def test_samples_are_drawn_as_what_they_are(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).normal(size=shape)
    frames[:, :, -1] = 7.0

    plot_samples(frames, tmp_path / "new" / "samples.png", "pump: samples")

    assert png_size(tmp_path / "new" / "samples.png") == size


@pytest.mark.parametrize(
    ("times", "shown", "label"),
    [
        (np.array([0, 120_000]), [0.0, 2.0], "time since start (minutes)"),
        (np.array([0, 500]), [0.0, 0.5], "time since start (s)"),
        (np.array([3.0, 9.0]), [3.0, 9.0], "row"),
        (np.array([1_700_000_000_000]), ["2023-11-14T22:13:20.000"], "time (UTC)"),
    ],
)
def test_axis_of_time_has_the_unit_that_suits(times: np.ndarray, shown: list[object], label: str) -> None:
    values, named = time_axis(times)

    assert values.astype(str).tolist() == [str(each) for each in shown]
    assert named == label


def test_arrays_are_not_changed(tmp_path: Path) -> None:
    scores = np.array([0.0, 2.0])
    wave = np.ones(100)

    plot_scores(np.arange(2), scores, 1.0, None, tmp_path / "a.png", "")
    plot_waveforms({"before": wave, "after": wave}, 100, tmp_path / "b.png")

    assert scores.tolist() == [0.0, 2.0]
    assert wave.tolist() == [1.0] * 100
