from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from small_models import batches, make_scaling

from ae_model.config import CorruptionConfig, NetworkConfig, SparseConfig
from ae_model.exceptions import TrainingError
from ae_model.networks import build
from ae_model.networks.assembly import assemble
from ae_model.networks.contractive import Contract
from ae_model.networks.corruption import Corrupt
from ae_model.networks.sparse import MeanActivity, penalise
from ae_model.training import fit

MANY = np.full((400, 7, 3), 0.5, np.float32)
FRAMES = zoo.make_frames(60, seed=3)


def corrupt(kind: Any, amount: float, frames: Any = MANY, **settings: Any) -> Any:
    keras.utils.set_random_seed(1)
    config = NetworkConfig(corruption=CorruptionConfig(kind, amount), scaling="minmax", **settings)
    return Corrupt(config, channels=3)(frames).numpy()


def assembled(config: NetworkConfig) -> tuple[Any, Any, Any]:
    keras.utils.set_random_seed(1)
    encoder, decoder = build(zoo.CONTRACT, config)
    return assemble(encoder, decoder, config), encoder, decoder


def jacobian(encoder: Any, frames: Any) -> Any:
    """(n, latent, values) by central differences."""
    step, columns = 1e-3, []
    for value in range(frames[0].size):
        shift = np.zeros(frames[0].size, np.float32)
        shift[value] = step
        shift = shift.reshape(frames[0].shape)
        columns.append((encoder(frames + shift).numpy() - encoder(frames - shift).numpy()) / (2 * step))
    return np.stack(columns, axis=2)


def relative_norm(model: Any) -> float:
    """Squared Jacobian per frame over the code's variance: stretching a code as a whole changes nothing."""
    scaled = tf.constant(model.scaling.apply(FRAMES))
    with tf.GradientTape() as tape:
        tape.watch(scaled)
        codes = model.encoder(scaled)
    rows = tape.batch_jacobian(codes, scaled).numpy()
    return float(np.square(rows).sum() / len(rows) / codes.numpy().var(axis=0).sum())


def test_gaussian_noise_has_the_deviation_asked_for() -> None:
    noise = corrupt("gaussian", 0.1) - MANY

    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert abs(noise.mean()) < 0.003


def test_noise_stays_in_the_range_of_data_that_have_one() -> None:
    noisy = corrupt("gaussian", 0.9, loss="bce")

    assert (noisy.min(), noisy.max()) == (0.0, 1.0)
    assert corrupt("gaussian", 0.9).min() < 0


def test_masking_silences_the_share_asked_for_and_leaves_the_rest() -> None:
    masked = corrupt("masking", 0.3)

    assert sorted(set(masked.ravel().tolist())) == [0.0, 0.5]
    assert (masked == 0).mean() == pytest.approx(0.3, abs=0.02)


def test_salt_and_pepper_are_half_each() -> None:
    spiced = corrupt("salt_pepper", 0.3)

    assert sorted(set(spiced.ravel().tolist())) == [0.0, 0.5, 1.0]
    assert [(spiced == value).mean() for value in (0, 1)] == pytest.approx([0.15, 0.15], abs=0.02)


def test_every_sample_of_every_channel_is_hit_on_its_own() -> None:
    hits = (corrupt("masking", 0.5) == 0).reshape(400, 21)

    assert np.abs(np.corrcoef(hits.T) - np.eye(21)).max() < 0.25


def test_corruption_is_drawn_anew_at_each_call_and_is_not_exported() -> None:
    config = NetworkConfig(latent=3, hidden=(8,), corruption=CorruptionConfig("gaussian", 0.9))
    model, encoder, decoder = assembled(config)

    once, twice = model(MANY[:4]).numpy(), model(MANY[:4]).numpy()

    assert np.abs(once - twice).max() > 0.01
    assert np.array_equal(decoder(encoder(MANY[:4])), decoder(encoder(MANY[:4])))
    assert all("corrupt" not in layer.name for layer in encoder.layers)


def test_a_denoiser_cleans_better_than_a_plain_network_of_the_same_size() -> None:
    plain = replace(zoo.make_config("overcomplete"), latent=12, corruption=None)
    denoising = zoo.fitted("overcomplete")
    scaled = denoising.scaling.apply(FRAMES)
    noisy = FRAMES + np.random.default_rng(4).normal(size=FRAMES.shape) * denoising.scaling.scale * np.float32(0.3)

    errors = [
        np.square(model.scaling.apply(model.infer(noisy.astype(np.float32)).frames) - scaled).mean()
        for model in (denoising, zoo.fit(plain))
    ]

    assert errors[0] < 0.8 * errors[1]


def test_samples_outside_the_range_of_salt_and_pepper_are_refused() -> None:
    config = zoo.make_config("salt and pepper", loss="mse", scaling="none")
    frames = zoo.make_frames(40)

    with pytest.raises(TrainingError, match=r"corruption salt_pepper: expected scaled samples in \[0, 1\]"):
        fit(zoo.CONTRACT, config, make_scaling(frames, "none"), batches(frames), batches(frames))


def test_l1_costs_its_weight_times_the_sum_of_a_frames_code() -> None:
    layer = penalise(SparseConfig("l1", 0.1))
    codes = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]], np.float32)

    assert np.array_equal(layer(codes), codes)
    assert [float(loss) for loss in layer.losses] == pytest.approx([0.1 * 3.0])


def test_mean_activity_costs_its_divergence_from_the_target() -> None:
    layer = MeanActivity(2.0, 0.2)
    # One unit is on target, the other at 0.5: 0.2 ln(0.2 / 0.5) + 0.8 ln(0.8 / 0.5) = 0.192745.
    codes = np.array([[0.3, 0.9], [0.1, 0.1]], np.float32)

    assert np.array_equal(layer(codes), codes)
    assert [float(loss) for loss in layer.losses] == pytest.approx([2.0 * 0.192745], rel=1e-4)


def test_units_that_are_silent_or_always_on_cost_something_finite() -> None:
    layer = MeanActivity(1.0, 0.05)

    layer(np.array([[0.0, 1.0]], np.float32))

    assert np.isfinite([float(loss) for loss in layer.losses]).all()


def activity(sparse: SparseConfig) -> float:
    config = zoo.make_config("dense", latent=12, epochs=8, sparse=sparse)
    return float(zoo.fit(config).infer(FRAMES).codes.mean())


def test_penalised_codes_are_really_less_active_than_free_ones() -> None:
    free, held = (activity(SparseConfig("l1", weight)) for weight in (1e-9, 0.02))

    assert held < 0.5 * free


def test_mean_activity_goes_to_its_target() -> None:
    # An untrained sigmoid is half on.
    assert activity(SparseConfig("kl", 1.0, 0.15)) == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize("family", ["dense", "conv2d"])
def test_contraction_is_the_squared_norm_of_the_jacobian(family: Any) -> None:
    keras.utils.set_random_seed(1)
    encoder, _ = build(zoo.CONTRACT, NetworkConfig(family, latent=3, hidden=(8,), activation="tanh"))
    frames = np.random.default_rng(0).normal(size=(6, 7, 3)).astype(np.float32)
    layer = Contract(encoder, 0.5)

    estimates = []
    for _ in range(80):
        codes = layer(frames)
        estimates.append(float(layer.losses[0]))

    # Each estimate is of one random direction; their mean is that of the norm.
    expected = 0.5 * np.square(jacobian(encoder, frames)).sum() / 6
    doubt = np.std(estimates) / np.sqrt(80)
    assert np.mean(estimates) == pytest.approx(expected, abs=max(4 * doubt, 1e-3 * expected))
    np.testing.assert_allclose(codes, encoder(frames), rtol=1e-6)


def test_contraction_of_a_code_of_one_number_has_nothing_random_in_it() -> None:
    encoder, _ = build(zoo.CONTRACT, NetworkConfig("recurrent", latent=1, hidden=(4,)))
    frames = np.random.default_rng(0).normal(size=(3, 7, 3)).astype(np.float32)
    layer = Contract(encoder, 1.0)

    layer(frames)

    expected = np.square(jacobian(encoder, frames)).sum() / 3
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-3)


def test_contraction_can_be_trained_through_a_loop() -> None:
    encoder, _ = build(zoo.CONTRACT, NetworkConfig("recurrent", latent=2, hidden=(4,)))
    layer = Contract(encoder, 1.0)

    with tf.GradientTape() as tape:
        layer(np.ones((2, 7, 3), np.float32))
        loss = layer.losses[0]
    gradients = tape.gradient(loss, encoder.trainable_variables)

    # Biases of the last layer do not change a Jacobian; all else does.
    assert [gradient is None for gradient in gradients] == [False, False, False, False, True]


def test_a_contracted_code_changes_less_with_the_frame_in_relation_to_its_spread() -> None:
    held = zoo.fit(zoo.make_config("dense", contractive=0.3))

    assert relative_norm(held) < 0.8 * relative_norm(zoo.fitted("dense"))
