from dataclasses import asdict, replace

import numpy as np
import pytest
import small_models
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONTRACT, fitted, make_frames

from ae_model import artifact
from ae_model.config import ScoreConfig, from_mapping
from ae_model.exceptions import ConfigError, TrainingError
from ae_model.model import Detector
from ae_model.networks import scores
from ae_model.score_formula import ScoreFormula, Surprise, UsualErrors, combine, fit_surprise

COMBINED = ScoreConfig(latent="combined")


def calibration(count=200):
    return [make_frames(count, seed=3)[:90], make_frames(count, seed=3)[90:]]


def fit_usual(config, errors):
    usual = UsualErrors(3)
    for error in np.split(errors, len(errors) or 1):
        usual.add(error, np.zeros(len(error)))
    return usual.fit(config, CONTRACT)


def test_standardised_channels_all_have_the_same_error_on_calibration_frames():
    errors = np.array([[4.0, 0.09, 0.0], [0.0, 0.07, 0.0]])

    formula = fit_usual(ScoreConfig(), errors)

    # Roots of the means 2, 0.08 and 0, with 0.01 squared added to each.
    assert formula.scales == pytest.approx([2.0001**0.5, 0.0801**0.5, 0.01])
    assert (errors / np.square(formula.scales)).mean(axis=0).tolist() == pytest.approx([1, 1, 0], rel=2e-3)
    assert (formula.newest, formula.limit, formula.residual, formula.latent) == (4, 400.0, None, None)
    assert formula.unit == "over the channels' usual errors"
    assert ScoreFormula.plain(CONTRACT).unit == "squared scaled units"


def test_plain_errors_are_left_as_they_are():
    formula = fit_usual(ScoreConfig(errors="plain", newest=2), np.ones((2, 3)))

    assert formula == ScoreFormula(2, (1.0, 1.0, 1.0))


def test_only_the_newest_samples_are_scored():
    squares = np.zeros((1, 4, 3), np.float32)
    squares[0, :, 0] = [100, 100, 2, 4]

    errors = scores.channel_errors(ScoreFormula(2, (1.0, 1.0, 2.0)), tf.constant(squares))

    assert errors.numpy().tolist() == [[3.0, 0.0, 0.0]]


def test_one_wild_sample_speaks_for_no_more_than_twenty_usual_errors():
    squares = np.full((1, 4, 3), 1e6, np.float32)

    errors = scores.channel_errors(ScoreFormula(4, (1.0, 10.0, 1000.0), limit=400.0), tf.constant(squares))

    assert errors.numpy().tolist() == [[400.0, 400.0, 1.0]]


def test_a_past_sample_never_changes_the_score_of_the_newest_directly():
    formula = ScoreFormula(1, (1.0, 1.0, 1.0))
    squares = np.random.default_rng(0).uniform(size=(5, 4, 3)).astype(np.float32)
    changed = squares.copy()
    changed[:, :3] *= 50

    before, after = (scores.channel_errors(formula, tf.constant(each)).numpy() for each in (squares, changed))

    assert before.tolist() == after.tolist()


def test_surprise_is_minus_the_logarithm_of_the_share_that_reaches_a_value():
    values = np.random.default_rng(1).exponential(2.0, 20_000)

    surprise = fit_surprise(values)

    # Of an exponential distribution with mean 2, exp(-x / 2) reach x.
    asked = np.array([0.0, 1.4, 4.6, 9.2, 40.0, 400.0])
    assert surprise.apply(asked).tolist() == pytest.approx((asked / 2).tolist(), rel=0.08, abs=0.01)


@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=100), st.integers(0, 98))
def test_surprise_never_falls_and_grows_beyond_all_experience(values, index):
    values = np.sort(np.array(values, np.float32))
    surprise = fit_surprise(values)

    said = surprise.apply(np.append(values, [2e4, 3e4]).astype(np.float32))

    assert np.isfinite(said).all()
    assert (np.diff(said) >= -1e-6 * np.abs(said[1:])).all()
    assert said[-1] > said[-2]


def test_graph_and_numpy_agree_on_the_combined_score():
    formula = replace(
        ScoreFormula(4, (1.0, 2.0, 0.5), limit=400.0),
        residual=Surprise((0.0, 1.0, 3.0), (0.5, 2.0, 0.25)),
        latent=Surprise((2.0,), (0.125,)),
    )
    errors = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [30.0, 0.0, 0.0]], np.float32)
    distance = np.array([1.0, 10.0, 2.0], np.float32)

    in_graph = scores.score(formula, tf.constant(errors), tf.constant(distance)).numpy()

    # Residuals 0, 2 and 10: 0; 0.5 + 2; 0.5 + 4 + 0.25 * 7. Distances: 0; 8 / 8; 0.
    assert in_graph.tolist() == formula.score(errors.mean(axis=1), distance).tolist() == [0.0, 3.5, 6.25]


def test_drift_along_the_code_moves_the_combined_score_alone():
    frames = make_frames(200, seed=3)
    # Twice as far from the mean in the directions the network knows.
    drifted = (fitted().scaling.invert(4 * fitted().scaling.apply(fitted().infer(frames).frames))).astype(np.float32)

    ignored, combined = (fitted().calibrated(config, lambda: [frames]) for config in (ScoreConfig(), COMBINED))
    lift = {
        name: np.median(model.infer(drifted).scores) / np.quantile(model.infer(frames).scores, 0.99)
        for name, model in (("ignored", ignored), ("combined", combined))
    }

    assert lift["combined"] > lift["ignored"]
    assert lift["combined"] > 2


@pytest.mark.parametrize("config", [ScoreConfig(newest=1), COMBINED])
def test_a_calibrated_model_scores_the_same_after_export_and_load(tmp_path, config):
    model = fitted().calibrated(config, calibration)

    artifact.export(tmp_path / "model", model, small_models.facts(), make_frames(8, seed=2))
    loaded = Detector.load(tmp_path / "model")

    frames = make_frames(30, seed=8)
    assert loaded.manifest.formula == model.formula
    np.testing.assert_allclose(loaded.infer(frames).scores, model.infer(frames).scores, rtol=1e-5)


def test_calibration_does_not_depend_on_how_the_frames_are_batched():
    whole = fitted().calibrated(COMBINED, lambda: [np.concatenate(calibration())])

    parts = fitted().calibrated(COMBINED, calibration)

    assert parts.formula.scales == pytest.approx(whole.formula.scales, rel=1e-5)
    assert parts.formula.latent.knots == pytest.approx(whole.formula.latent.knots, rel=1e-4)


def test_frames_that_broke_the_network_score_as_no_number_and_not_as_calm():
    model = fitted().calibrated(COMBINED, calibration)

    said = model.infer(np.full((1, 4, 3), np.nan, np.float32))

    assert not said.scores[0] < 1e9


def test_a_scorer_survives_json():
    formula = combine(fit_usual(COMBINED, np.ones((50, 3))), np.ones(50), np.arange(50.0))

    assert from_mapping(ScoreFormula, asdict(formula)) == formula


def test_more_newest_samples_than_the_frame_has_are_refused():
    with pytest.raises(ConfigError, match=r"newest: expected 1..length \(4\). Received: newest=5"):
        ScoreFormula.plain(CONTRACT, 5)


@pytest.mark.parametrize("errors", [np.empty((0, 3)), np.array([[1.0, np.nan, 1.0]])])
def test_errors_that_are_missing_or_not_finite_cannot_calibrate(errors):
    with pytest.raises(TrainingError, match="calibration errors: expected those of at least one frame, all finite"):
        fit_usual(ScoreConfig(), errors)
