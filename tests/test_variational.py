from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from small_models import batches, make_scaling

from ae_model.config import FrameContract, NetworkConfig, VariationalConfig
from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.latent import CodeUse, Prior
from ae_model.manifest import Manifest, read
from ae_model.model import Detector
from ae_model.networks import build
from ae_model.networks.assembly import assemble
from ae_model.networks.graph import Graph
from ae_model.networks.variational import COMPONENTS, Draw, codes_of, divergence, find_use, spread
from ae_model.training import fit
from ae_model.verify import verify

LEARNED = "denoising variational conv1d with a learned prior"
FRAMES = zoo.make_frames(60, seed=3)
TWO = Prior(weights=(0.25, 0.75), means=((-3.0, 1.0), (2.0, 0.0)), deviations=((0.5, 1.0), (1.0, 2.0)))


def draw(config: VariationalConfig, latent: int = 2, values: int = 1) -> Any:
    keras.utils.set_random_seed(1)
    return Draw(config, latent, values)


@cache
def pulled() -> Any:
    """A model whose code may hardly leave the prior."""
    return zoo.fit(zoo.make_config("variational", variational=VariationalConfig(beta=30.0)))


def mixed(prior: Prior) -> Any:
    """A layer whose learned prior is this one; what it has no use for, it is nearly never."""
    layer = draw(VariationalConfig(prior="learned"), len(prior.means[0]))
    rest = COMPONENTS - len(prior.weights)
    layer._logits.assign(np.log([*prior.weights, *[1e-30] * rest]))
    layer._means.assign([*prior.means, *[(0.0, 0.0)] * rest])
    layer._log_variances.assign(np.log(np.square([*prior.deviations, *[(1.0, 1.0)] * rest])))
    return layer


def two_clusters(count: int, seed: int = 0) -> Any:
    """(count, 1, 4) around two places far apart."""
    rng = np.random.default_rng(seed)
    places = np.array([[3.0, 3.0, -3.0, 0.0], [-3.0, -3.0, 3.0, 0.0]])
    frames = places[rng.integers(0, 2, count)] + rng.normal(size=(count, 4)) * [0.3, 0.3, 0.3, 1.0]
    return frames[:, None, :].astype(np.float32)


def test_divergence_is_that_of_two_gaussians() -> None:
    # 0.5 (s^2 + m^2 - 1 - ln s^2) for m = 2, s^2 = 4: 0.5 (4 + 4 - 1 - 1.386294) = 2.806853.
    four, nine = np.log(np.array([4.0, 9.0], np.float32))
    assert float(divergence(2.0, four, 0.0, 0.0)) == pytest.approx(2.806853)
    # N(2, 4) from N(1, 9): 0.5 (4/9 + 1/9 - 1 + ln(9/4)) = 0.183243.
    assert float(divergence(2.0, four, 1.0, nine)) == pytest.approx(0.183243, rel=1e-5)
    assert float(divergence(1.5, 0.7, 1.5, 0.7)) == 0.0


def test_draws_have_the_mean_and_deviation_of_their_code() -> None:
    layer = draw(VariationalConfig())
    mean, log_variance = np.full((20000, 2), [1.0, -2.0], np.float32), np.full((20000, 2), np.log(0.25), np.float32)

    codes = layer((mean, log_variance)).numpy()

    assert codes.mean(axis=0) == pytest.approx([1.0, -2.0], abs=0.02)
    assert codes.std(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_loss_is_beta_times_the_divergence_over_the_values_of_a_frame() -> None:
    layer = draw(VariationalConfig(beta=3.0), values=10)
    mean, log_variance = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32), np.zeros((2, 2), np.float32)

    layer((mean, log_variance))

    # One of four is half of 2^2; the mean over two frames is 1.
    assert float(layer.losses[0]) == pytest.approx(3.0 / 10)


def test_free_bits_cost_nothing_and_are_counted_per_dimension() -> None:
    # Means over the batch: 1.0 nat in the first dimension and 0.02 in the second.
    mean, log_variance = np.array([[2.0, 0.2], [0.0, 0.2]], np.float32), np.zeros((2, 2), np.float32)

    costs = []
    for free_bits in (0.0, 0.5, 2.0):
        layer = draw(VariationalConfig(free_bits=free_bits))
        layer((mean, log_variance))
        costs.append(float(layer.losses[0]))

    assert costs == pytest.approx([1.02, 1.5, 4.0])


def test_free_bits_keep_a_code_from_collapsing() -> None:
    free = zoo.fit(zoo.make_config("variational", variational=VariationalConfig(beta=30.0, free_bits=0.5)))

    assert sum(pulled().code_use.divergences) < 0.1
    assert sum(free.code_use.divergences) > 0.5


def test_divergence_from_a_mixture_is_bounded_and_exact_far_from_all_but_one() -> None:
    layer = mixed(TWO)
    mean, log_variance = np.array([[2.0, 0.5]], np.float32), np.log(np.array([[0.5, 0.5]], np.float32))

    per_dimension, choice = layer.measure(mean, log_variance)

    rng = np.random.default_rng(0)
    codes = mean + np.sqrt(0.5) * rng.normal(size=(200_000, 2))

    def log_normal(means: Any, deviations: Any) -> Any:
        return (-0.5 * ((codes - means) / deviations) ** 2 - np.log(deviations) - 0.919).sum(axis=1)

    parts = [
        np.log(w) + log_normal(np.array(m), np.array(d))
        for w, m, d in zip(TWO.weights, TWO.means, TWO.deviations, strict=True)
    ]
    sampled = (log_normal(mean, np.sqrt(0.5)) - np.logaddexp(*parts)).mean()
    total = float(tf.reduce_sum(per_dimension) + choice[0])
    # -ln 0.75 of it is the choice; the other component is five deviations away.
    assert float(choice[0]) == pytest.approx(-np.log(0.75), rel=1e-3)
    assert total == pytest.approx(sampled, abs=0.01)


def test_standard_prior_is_one_component_and_is_not_trained() -> None:
    layer = draw(VariationalConfig())

    assert layer.prior() == Prior((1.0,), ((0.0, 0.0),), ((1.0, 1.0),))
    assert layer.trainable_variables == []


def test_training_moves_the_learned_prior() -> None:
    prior = zoo.fitted(LEARNED).prior

    assert (len(prior.weights), sum(prior.weights)) == (COMPONENTS, pytest.approx(1.0))
    assert max(prior.weights) > 1.05 * min(prior.weights)
    assert np.abs(np.array(prior.deviations) - 1).max() > 0.05


def test_normal_noise_becomes_codes_of_the_standard_prior_as_it_is() -> None:
    noise = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)

    codes = codes_of(tf.constant(noise), Prior((1.0,), ((0.0, 0.0),), ((1.0, 1.0),)))

    assert codes.numpy().tolist() == noise.tolist()


def test_normal_noise_becomes_codes_of_a_mixture() -> None:
    noise = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)

    codes = codes_of(tf.constant(noise), TWO).numpy()

    # The first dimension parts the two: -3 and 2, with deviations of 0.5 and 1.
    left = codes[:, 0] < -1.2
    assert left.mean() == pytest.approx(0.25, abs=0.005)
    assert codes[left].mean(axis=0) == pytest.approx([-3.0, 1.0], abs=0.03)
    assert codes[left].std(axis=0) == pytest.approx([0.5, 1.0], abs=0.03)
    assert codes[~left].mean(axis=0) == pytest.approx([2.0, 0.0], abs=0.03)
    assert codes[~left].std(axis=0) == pytest.approx([1.0, 2.0], abs=0.03)


@pytest.mark.parametrize("far", [-9.0, 9.0])
def test_the_wildest_noise_still_gives_a_finite_code(far: float) -> None:
    codes = codes_of(tf.constant([[far, 0.0]]), TWO).numpy()

    assert np.abs(codes).max() < 10


def test_learned_prior_fits_clusters_that_the_standard_one_does_not() -> None:
    contract = FrameContract(1, 1, ("a", "b", "c", "d"))
    frames = two_clusters(640)
    bounds, between = [], []
    for prior in ("standard", "learned"):
        config = NetworkConfig(latent=2, epochs=20, batch_frames=64, learning_rate=0.02, patience=20)
        config = replace(config, variational=VariationalConfig(beta=0.3, prior=prior))  # type: ignore[arg-type]
        model = fit(contract, config, make_scaling(frames), batches(frames, 640), batches(two_clusters(192, 1), 192))
        samples = model.sample(np.random.default_rng(5).normal(size=(2000, 2)).astype(np.float32))
        bounds.append(min(model.history["val_loss"]))
        # Between the clusters, at -3 and 3, there was never a frame.
        between.append(float((np.abs(samples[:, 0, 0]) < 1.5).mean()))

    assert bounds[1] < bounds[0]
    assert between[1] < 0.5 * between[0]


def test_variance_of_a_mixture_is_that_within_and_between_its_components() -> None:
    # First dimension: within 0.25 * 0.25 + 0.75 * 1, between 0.25 * 0.75 * 5^2.
    assert TWO.variances == pytest.approx([0.8125 + 4.6875, 0.25 + 3.0 + 0.1875])


def test_units_that_say_nothing_are_not_active() -> None:
    use = CodeUse(variances=(0.9, 0.011, 0.01, 0.0), divergences=(2.0, 0.1, 0.0, 0.0))

    assert use.active_units == 2


def test_use_of_the_code_is_that_of_all_frames_for_any_batches() -> None:
    config = NetworkConfig(latent=3, variational=VariationalConfig())
    keras.utils.set_random_seed(1)
    encoder, decoder = build(zoo.CONTRACT, config)
    model = assemble(encoder, decoder, config)
    scaled = np.random.default_rng(0).normal(size=(50, 7, 3)).astype(np.float32)

    whole, parts = find_use(model, [scaled]), find_use(model, np.split(scaled, [1, 30]))

    means = encoder(scaled).numpy().astype(np.float64)
    np.testing.assert_allclose(whole.variances, means.var(axis=0), rtol=1e-5)
    # The spread of an untrained code is that of the prior, so half the squared mean is all there is.
    np.testing.assert_allclose(whole.divergences, 0.5 * np.square(means).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(parts.divergences, whole.divergences, rtol=1e-5)


def test_training_tells_how_much_of_the_code_is_used() -> None:
    free, held = zoo.fitted("variational").code_use, pulled().code_use

    assert (free.active_units, held.active_units) == (3, 0)
    assert sum(free.divergences) > 2 > sum(held.divergences)


def test_exported_encoder_gives_the_mean() -> None:
    model = zoo.fitted("variational")
    scaled = model.scaling.apply(FRAMES)

    mean, log_variance = spread(model.encoder)(scaled)

    assert np.array_equal(model.encoder(scaled), mean)
    assert log_variance.shape == (60, 3)


@pytest.mark.parametrize("name", ["variational", LEARNED])
def test_samples_repeat_with_their_seed_and_look_like_frames(name: str, zoo_folder: Path) -> None:
    detector = zoo.loaded(name, zoo_folder)

    samples, again, other = detector.sample(300, 1), detector.sample(300, 1), detector.sample(300, 2)

    assert samples.shape == (300, 7, 3)
    assert np.array_equal(samples, again)
    assert not np.array_equal(samples, other)
    assert np.array_equal(detector.sample(10, 1), samples[:10])
    # In the frames' own units: means and deviations of the first channel are 100 and 15.
    assert samples[:, :, 0].mean() == pytest.approx(100, abs=6)
    assert 6 < samples[:, :, 0].std() < 25
    assert samples[:, :, 2] == pytest.approx(7.0, abs=0.5)


def test_no_samples_are_an_empty_array_and_fewer_are_refused(zoo_folder: Path) -> None:
    detector = zoo.loaded("variational", zoo_folder)

    assert detector.sample(0, 1).shape == (0, 7, 3)
    with pytest.raises(ConfigError, match=r"count: expected 0 or more\. Received: count=-1"):
        detector.sample(-1, 1)


def test_models_that_are_not_variational_have_nothing_to_sample(models: Path) -> None:
    detector = Detector.load(models / "small" / "1")

    assert "sample" not in detector.loaded.signatures
    with pytest.raises(ConfigError, match=r"expected a variational model\. Received: small, network=dense"):
        detector.sample(3, 1)


def test_manifest_and_card_tell_what_is_in_the_code(zoo_folder: Path) -> None:
    path = zoo.exported("variational", zoo_folder)
    use = zoo.fitted("variational").code_use

    manifest, card = read(path), (path / "README.md").read_text()

    assert manifest.code_use == use
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert card.startswith("# zoo\n\nVariational dense autoencoder 7x3 - 12 - 3 - 12 - 7x3, created ")
    assert "In training alone: standard prior with beta 0.1 and 0 free nats a dimension." in card
    assert f"{use.active_units} of 3 dimensions of the code are active" in card


def test_a_variational_model_without_its_sample_signature_is_refused(zoo_folder: Path, tmp_path: Path) -> None:
    class Mute(Graph):
        def signatures(self) -> dict[str, Any]:
            return {name: function for name, function in super().signatures().items() if name != "sample"}

    path = zoo.forge("variational", zoo.exported("variational", zoo_folder), tmp_path / "mute", Mute)

    with pytest.raises(ArtifactError, match="expected signature sample"):
        verify(path)


def test_samples_of_another_decoder_or_prior_are_refused_when_loaded(zoo_folder: Path, tmp_path: Path) -> None:
    class Shifted(Graph):
        def sample(self, noise: Any) -> dict[str, Any]:
            return super().sample(noise + 0.01)

    path = zoo.forge("variational", zoo.exported("variational", zoo_folder), tmp_path / "shifted", Shifted)

    verify(path)
    with pytest.raises(ArtifactError, match="expected sampled of the golden frames within 1e-05"):
        Detector.load(path)
