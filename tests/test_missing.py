"""Missing samples, where the contract allows them: masked in the input, in the loss and in every error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import zoo
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.config import CorruptionConfig, FrameContract, NetworkConfig, ScoreConfig
from ae_model.exceptions import ArtifactError, TrainingError
from ae_model.frames import as_input, missing_share, usable
from ae_model.model import Detector
from ae_model.networks.corruption import Corrupt
from ae_model.networks.hiding import Hide
from ae_model.scaling import Scaling, Statistics
from ae_model.score_formula import ScoreFormula, UsualErrors
from ae_model.scoring import channel_errors, reconstruction_errors
from ae_model.training import Fitted, fit

NAN = np.nan
CONTRACT = FrameContract(length=4, hop=4, channels=("flow", "heat", "idle"), missing="mask")
DENSE = NetworkConfig(hidden=(8,), latent=3, epochs=3, batch_frames=32, learning_rate=0.01)
LINEAR = NetworkConfig("linear", 2, batch_frames=32)


def with_gaps(frames: NDArray[np.float32], share: float = 0.2, seed: int = 5) -> NDArray[np.float32]:
    """The frames, each sample missing by chance but for the first of each frame."""
    missing = np.random.default_rng(seed).uniform(size=frames.shape) < share
    missing[:, 0, 0] = False
    return np.where(missing, np.float32(NAN), frames)


FRAMES = with_gaps(small_models.make_frames(300))
HELD_OUT = with_gaps(small_models.make_frames(60, seed=1), seed=6)


def train(config: NetworkConfig = DENSE, frames: NDArray[np.float32] = FRAMES, kind: str = "standard") -> Fitted:
    scaling = small_models.make_scaling(frames, kind)
    return fit(CONTRACT, config, scaling, small_models.batches(frames), small_models.batches(HELD_OUT))


@pytest.fixture(scope="module")
def dense() -> Fitted:
    return train()


@pytest.mark.parametrize(
    ("samples", "refuse", "mask"),
    [
        ([1.0, 2.0], True, True),
        ([NAN, 2.0], False, True),
        ([NAN, NAN], False, False),
        ([np.inf, 2.0], False, False),
        ([NAN, -np.inf], False, False),
        ([NAN, 1e16], False, False),
        ([NAN, -1e16], False, False),
    ],
)
def test_a_frame_is_usable_as_long_as_something_is_there_and_nothing_is_wild(
    samples: list[float], refuse: bool, mask: bool
) -> None:
    frames = np.array([[samples], [[0.0, 0.0]]], np.float32)

    assert usable(frames).tolist() == [refuse, True]
    assert usable(frames, "mask").tolist() == [mask, True]


def test_a_network_sees_noughts_and_which_of_them_are_there() -> None:
    scaled = np.array([[[1.5, NAN], [0.0, -2.0]]], np.float32)

    assert as_input(scaled, "mask").tolist() == [[[1.5, 0.0, 1.0, 0.0], [0.0, -2.0, 1.0, 1.0]]]
    assert as_input(scaled, "refuse") is scaled
    assert CONTRACT.input_shape == (4, 6)
    assert replace(CONTRACT, missing="refuse").input_shape == (4, 3)


def test_missing_share_is_of_all_samples_of_a_frame() -> None:
    assert missing_share(np.array([[[1, NAN], [NAN, NAN]], [[1, 2], [3, 4]]])).tolist() == [0.75, 0.0]


def test_errors_are_means_over_what_is_there() -> None:
    frames = np.array([[[1.0, NAN], [3.0, NAN]], [[NAN, NAN], [NAN, NAN]]], np.float32)
    reconstruction = np.array([[[1.0, 9.0], [1.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)

    assert reconstruction_errors(frames, reconstruction).tolist() == [2.0, pytest.approx(NAN, nan_ok=True)]
    assert channel_errors(frames, reconstruction).tolist() == [[2.0, 0.0], [0.0, 0.0]]


@given(st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), max_size=40), st.integers(0, 40))
def test_statistics_of_samples_with_gaps_are_those_without_them(values: list[int | None], cut: int) -> None:
    samples = np.array([NAN if value is None else value for value in values], np.float32).reshape(-1, 1, 1)
    there = np.array([value for value in values if value is not None], np.float32).reshape(-1, 1, 1)

    found = Statistics.of(samples[:cut]).merge(Statistics.of(samples[cut:]))

    expected = Statistics.of(there)
    for name, value in vars(expected).items():
        np.testing.assert_allclose(vars(found)[name], value, rtol=1e-9, atol=1e-9)


def test_what_the_graph_says_is_what_numpy_says(dense: Fitted) -> None:
    inference = dense.infer(HELD_OUT)

    scaled = dense.scaling.apply(HELD_OUT)
    reconstruction = dense.decoder(dense.encoder(as_input(scaled, "mask"))).numpy()
    np.testing.assert_allclose(inference.errors, reconstruction_errors(scaled, reconstruction), rtol=1e-4)
    np.testing.assert_allclose(inference.channel_errors, channel_errors(scaled, reconstruction), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inference.scores, inference.channel_errors.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(inference.frames, dense.scaling.invert(reconstruction), rtol=1e-4, atol=1e-4)


def test_clean_frames_are_whole_and_codes_finite(dense: Fitted) -> None:
    inference = dense.infer(HELD_OUT)

    assert np.isnan(HELD_OUT).any()
    assert all(np.isfinite(values).all() for values in vars(inference).values())


def test_a_channel_that_is_gone_has_no_error_and_leaves_the_score_to_the_others(dense: Fitted) -> None:
    frames = small_models.make_frames(5, seed=3)
    frames[:, :, 1] = NAN

    inference = dense.infer(frames)

    assert inference.channel_errors[:, 1].tolist() == [0.0] * 5
    np.testing.assert_allclose(inference.scores, inference.channel_errors[:, [0, 2]].mean(axis=1), rtol=1e-4)


def test_a_frame_of_which_nothing_is_there_never_passes_for_calm(dense: Fitted) -> None:
    inference = dense.infer(np.full((1, 4, 3), NAN, np.float32))

    assert np.isnan(inference.errors).all()
    assert np.isnan(inference.scores).all()


def test_frames_without_gaps_are_the_same_to_it_whatever_their_neighbours_lack(dense: Fitted) -> None:
    frames = HELD_OUT.copy()
    frames[:30] = small_models.make_frames(30, seed=9)

    together, alone = dense.infer(frames), dense.infer(frames[:30])

    np.testing.assert_allclose(together.scores[:30], alone.scores, rtol=1e-5)


@pytest.mark.parametrize("config", [DENSE, replace(DENSE, loss="huber", huber_delta=1.0)], ids=["mse", "huber"])
def test_training_loss_is_the_mean_error_over_what_is_there(config: NetworkConfig) -> None:
    model = train(config)

    assert model.history["loss"][2] < model.history["loss"][0]
    if config.loss == "mse":
        best = min(model.history["val_loss"])
        assert best == pytest.approx(float(model.infer(HELD_OUT).errors.mean()), rel=1e-3)


def test_values_that_are_not_there_cannot_change_the_weights() -> None:
    # What stands under a gap is NaN; frames that agree elsewhere are the same frames.
    other = np.where(np.isnan(FRAMES), -np.float32(NAN), FRAMES)

    first, second = train(), train(frames=other)

    for a, b in zip(first.encoder.get_weights(), second.encoder.get_weights(), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_linear_baseline_takes_the_mean_for_what_is_missing(kind: str) -> None:
    model = train(LINEAR, kind=kind)
    scaled = model.scaling.apply(HELD_OUT)
    means = np.nanmean(model.scaling.apply(FRAMES), axis=0)

    codes = model.encoder(as_input(scaled, "mask")).numpy()
    filled = model.encoder(as_input(np.where(np.isnan(scaled), means, scaled).astype(np.float32), "mask")).numpy()

    np.testing.assert_allclose(codes, filled, rtol=1e-3, atol=1e-4)


def test_linear_fit_is_the_exact_one_of_mean_filled_frames() -> None:
    model = train(LINEAR, kind="minmax")
    scaled = model.scaling.apply(FRAMES).astype(np.float64)
    flat = np.where(np.isnan(scaled), np.nanmean(scaled, axis=0), scaled).reshape(len(scaled), -1)
    components = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:2]

    reconstruction = (flat - flat.mean(axis=0)) @ components.T @ components + flat.mean(axis=0)

    expected = model.scaling.invert(reconstruction.reshape(scaled.shape))
    np.testing.assert_allclose(model.infer(FRAMES).frames, expected, rtol=1e-3, atol=1e-3)


def test_without_gaps_the_linear_fit_is_that_of_a_stream_that_refuses_them() -> None:
    frames, refusing = small_models.make_frames(300), replace(CONTRACT, missing="refuse")
    scaling, batches = small_models.make_scaling(frames), small_models.batches(frames)

    masked, plain = (fit(contract, LINEAR, scaling, batches, batches) for contract in (CONTRACT, refusing))

    np.testing.assert_allclose(masked.infer(frames).frames, plain.infer(frames).frames, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(masked.infer(frames).errors, plain.infer(frames).errors, rtol=1e-2, atol=1e-5)


def test_formula_is_fitted_on_what_calibration_frames_hold() -> None:
    # Channel b is there in one frame of four, where its error is as usual; c never is.
    errors = np.array([[4.0, 0.0, 0.0], [4.0, 9.0, 0.0], [4.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    observed = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], bool)
    contract = FrameContract(channels=("a", "b", "c"), missing="mask")
    config = ScoreConfig(errors="standardised", latent="ignored")

    usual = UsualErrors(3)
    usual.add(errors[:1], np.zeros(1), observed[:1])
    usual.add(errors[1:], np.zeros(3), observed[1:])

    formula = usual.fit(config, contract)
    assert formula.scales == pytest.approx((2.0, 3.0, 1.0), rel=1e-3)


def test_scores_of_the_newest_sample_come_from_channels_that_are_there_in_it(dense: Fitted) -> None:
    newest = replace(dense, formula=ScoreFormula(1, (1.0, 1.0, 1.0)))
    frames = small_models.make_frames(3, seed=3)
    frames[1, 3, 1:] = NAN
    frames[2, 3] = NAN

    inference = newest.infer(frames)

    assert inference.scores[1] == pytest.approx(inference.channel_errors[1, 0])
    # Nothing was there to judge; the share of missing samples tells of it.
    assert inference.scores[2] == 0.0
    assert missing_share(frames).tolist() == pytest.approx([0.0, 2 / 12, 3 / 12])


def test_masked_model_survives_export_and_load(dense: Fitted, tmp_path: Path) -> None:
    golden = HELD_OUT[:8]
    artifact.export(tmp_path / "candidate", dense, small_models.facts(), golden)
    artifact.publish(tmp_path / "candidate", tmp_path, "small")

    detector = Detector.load(artifact.resolve(tmp_path, "small"))

    assert detector.manifest.contract.missing == "mask"
    expected = dense.infer(HELD_OUT)
    for name, values in vars(detector.infer(HELD_OUT)).items():
        np.testing.assert_allclose(values, vars(expected)[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["conv1d", "conv2d", "gru", "sparse denoising conv1d", "contractive conv2d", "variational", "salt and pepper"],
)
def test_every_family_takes_frames_with_gaps_and_survives_export_and_load(name: str, tmp_path: Path) -> None:
    contract, frames = replace(zoo.CONTRACT, missing="mask"), with_gaps(zoo.make_frames(120))
    config = zoo.make_config(name, epochs=1)
    batches = small_models.batches(frames)
    model = fit(contract, config, small_models.make_scaling(frames, config.scaling), batches, batches)
    artifact.export(tmp_path / "candidate", model, small_models.facts(), frames[:8])

    inference = Detector.load(tmp_path / "candidate").infer(frames)

    assert all(np.isfinite(values).all() for values in vars(inference).values())
    np.testing.assert_allclose(inference.errors, model.infer(frames).errors, rtol=1e-3, atol=1e-5)


def test_masked_samples_are_missing_to_a_denoising_network_and_missing_ones_stay_so() -> None:
    corruption = CorruptionConfig("masking", 0.5)
    frames = np.concatenate([np.full((50, 4, 3), 2.0), np.ones((50, 4, 3))], axis=-1).astype(np.float32)
    frames[:, 0, 0] = frames[:, 0, 3] = 0

    seen = Corrupt(replace(DENSE, corruption=corruption), 3)(frames).numpy()

    samples, present = seen[..., :3], seen[..., 3:]
    assert np.array_equal(samples, 2 * present)
    assert not present[:, 0, 0].any()
    assert 0.3 < present[:, 1:].mean() < 0.7


def test_channels_are_hidden_whole_in_training_alone_and_never_all_of_them() -> None:
    frames = np.concatenate([np.full((2000, 4, 2), 2.0), np.ones((2000, 4, 2))], axis=-1).astype(np.float32)
    frames[:1000, :, [1, 3]] = 0  # one channel is all there is

    hide = Hide()
    seen, untouched = hide(frames, training=True).numpy(), hide(frames, training=False).numpy()

    assert np.array_equal(untouched, frames)
    assert np.array_equal(seen[:1000], frames[:1000])
    assert np.array_equal(seen[..., :2], 2 * seen[..., 2:])
    present = seen[1000:, :, 2:]
    assert np.array_equal(present.min(axis=1), present.max(axis=1))
    assert 0.03 < 1 - present.mean() < 0.07


def test_noise_falls_on_what_is_there_alone() -> None:
    frames = np.zeros((50, 4, 6), np.float32)
    frames[:, :, 3:5] = 1

    seen = Corrupt(replace(DENSE, corruption=CorruptionConfig("gaussian", 0.5)), 3)(frames).numpy()

    assert np.count_nonzero(seen[..., :2]) == 50 * 4 * 2
    assert not seen[..., 2].any()
    assert np.array_equal(seen[..., 3:], frames[..., 3:])


def test_golden_frames_of_nothing_are_refused(dense: Fitted, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected usable golden frames"):
        artifact.export(tmp_path / "x", dense, small_models.facts(), np.full((1, 4, 3), NAN, np.float32))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_samples_are_refused_all_the_same(value: float) -> None:
    frames = FRAMES.copy()
    frames[3, 0, 0] = value

    with pytest.raises(TrainingError, match="training frames: expected finite samples"):
        fit(CONTRACT, DENSE, identity(), small_models.batches(frames), small_models.batches(HELD_OUT))


def identity() -> Any:
    return Scaling("none", (0.0,) * 3, (1.0,) * 3)


def test_training_on_frames_with_gaps_changes_no_frame() -> None:
    frames = FRAMES.copy()

    train(replace(DENSE, epochs=1), frames)

    np.testing.assert_array_equal(frames, FRAMES)
