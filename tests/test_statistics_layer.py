"""Robust statistics are an artifact like any other, whatever form the stream's codes and frames have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from small_models import CONTRACT, make_frames

from ae_model import artifact
from ae_model.config import CodeDtype, NetworkConfig
from ae_model.model import Detector
from ae_model.scaling import Scaling, Statistics, from_percentiles
from ae_model.scopes import Scope
from ae_model.training import fit
from pipelines.model_plans import statistics_of

FRAMES = make_frames(200)


def fit_statistics(codes: CodeDtype, missing: Any) -> tuple[Any, Scaling]:
    """The statistics that stand in for a dense network."""
    percentiles = np.percentile(FRAMES.reshape(-1, 3), np.arange(101), axis=0).T
    scaling = from_percentiles(percentiles, Statistics.of(FRAMES))
    network = statistics_of(NetworkConfig("dense", latent=5, hidden=(8,), codes=codes))
    batches = (small_models.batches(FRAMES), small_models.batches(FRAMES[:60]))
    return fit(replace(CONTRACT, missing=missing), network, scaling, *batches), scaling


@pytest.mark.parametrize("missing", ["refuse", "mask"])
@pytest.mark.parametrize("codes", ["float32", "int8"])
def test_codes_decode_to_the_median_and_errors_are_distances_from_it(
    tmp_path: Path, codes: CodeDtype, missing: str
) -> None:
    fitted, scaling = fit_statistics(codes, missing)
    facts = replace(small_models.facts("small.statistics"), scope=Scope("statistics"))
    artifact.export(tmp_path / "model", fitted, facts, FRAMES[:8])

    detector, seen = Detector.load(tmp_path / "model"), make_frames(9, seed=4)
    inference = detector.infer(seen)

    median = np.array(scaling.center, np.float32)
    squares = np.square((seen - median) / np.array(scaling.scale, np.float32))
    assert (inference.codes.shape, inference.codes.dtype, inference.codes.any()) == ((9, 5), np.dtype(codes), False)
    np.testing.assert_allclose(detector.decode(inference.codes), np.broadcast_to(median, seen.shape), rtol=1e-6)
    np.testing.assert_allclose(inference.channel_errors, squares.mean(axis=1), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(inference.errors, squares.mean(axis=(1, 2)), rtol=1e-4)
    assert np.isfinite(inference.latent_distance).all()


def test_a_missing_sample_does_not_count() -> None:
    fitted, scaling = fit_statistics("float32", "mask")
    gap = make_frames(1, seed=4)
    gap[0, 1, 0] = np.nan

    errors = fitted.infer(gap).errors

    squares = np.square((gap - np.array(scaling.center, np.float32)) / np.array(scaling.scale, np.float32))
    np.testing.assert_allclose(errors, [np.nanmean(squares)], rtol=1e-4)
