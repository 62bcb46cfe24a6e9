import math
from dataclasses import replace

import numpy as np
import pytest
from small_models import CONFIG, CONTRACT, batches, fitted, make_frames, make_scaling

from ae_model.config import NetworkConfig
from ae_model.exceptions import TrainingError
from ae_model.scaling import Scaling
from ae_model.scoring import reconstruction_errors
from ae_model.training import fit
from ae_model.watch import Watch

FRAMES = make_frames(300)
HELD_OUT = make_frames(60, seed=1)
LINEAR = NetworkConfig(network="linear", latent=3)


def train(config, frames=FRAMES, held_out=HELD_OUT, **others):
    scaling = make_scaling(frames, config.scaling)
    return fit(CONTRACT, config, scaling, batches(frames), batches(held_out), **others)


def weights(model):
    return [array.tolist() for array in [*model.encoder.get_weights(), *model.decoder.get_weights()]]


def test_the_loss_falls_and_the_history_has_an_entry_per_epoch():
    history = fitted().history

    assert sorted(history) == ["loss", "val_loss"]
    assert [len(values) for values in history.values()] == [3, 3]
    assert history["loss"][2] < history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("config", [replace(CONFIG, optimizer="sgd"), LINEAR], ids=["dense", "linear"])
def test_same_seed_gives_same_weights(config):
    assert weights(train(config)) == weights(train(config))


def test_another_seed_gives_other_weights():
    assert weights(train(replace(CONFIG, seed=8, epochs=1))) != weights(train(replace(CONFIG, epochs=1)))


def test_adam_repeats_too():
    assert weights(train(CONFIG)) == weights(fitted())


def test_fitted_model_knows_its_frames_and_the_statistics_of_its_codes():
    codes = fitted().infer(FRAMES).codes

    assert fitted().frames == 300
    np.testing.assert_allclose(fitted().code_mean, codes.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted().code_covariance, np.cov(codes.T, bias=True), rtol=1e-3, atol=1e-4)


def test_the_best_epoch_is_kept_and_training_stops_when_patience_is_out():
    # Held-out frames that look like no others get worse as the fit gets better.
    model = train(replace(CONFIG, epochs=60, patience=2), held_out=-40 * HELD_OUT[:20])

    losses = model.history["val_loss"]
    best = losses.index(min(losses))
    scaled = model.scaling.apply(-40 * HELD_OUT[:20])
    kept = reconstruction_errors(scaled, model.decoder(model.encoder(scaled)).numpy()).mean()
    assert len(losses) == best + 1 + 2 < 60
    assert kept == pytest.approx(losses[best], rel=1e-4)


def test_each_epoch_is_told_with_the_seconds_left():
    told = []
    seconds = iter([100.0, 104.0, 106.0, 109.0])

    model = train(CONFIG, watch=Watch(on_epoch=lambda *epoch: told.append(epoch), clock=lambda: next(seconds)))

    losses = list(zip(model.history["loss"], model.history["val_loss"], strict=True))
    assert told == [(1, 3, *losses[0], 8.0), (2, 3, *losses[1], 3.0), (3, 3, *losses[2], 0.0)]


def test_a_linear_fit_is_one_epoch_and_without_a_clock_there_is_no_time_left():
    told = []

    model = train(LINEAR, watch=Watch(on_epoch=lambda *epoch: told.append(epoch)))

    [(epoch, epochs, loss, val_loss, seconds_left)] = told
    assert (epoch, epochs) == (1, 1)
    assert (loss, val_loss) == (model.history["loss"][0], model.history["val_loss"][0])
    assert math.isnan(seconds_left)


def test_linear_fit_copies_data_that_has_no_more_dimensions_than_its_code():
    # Each frame is two sines of one phase and a constant: two dimensions in all.
    model = train(LINEAR)

    assert model.infer(HELD_OUT).errors.max() < 1e-6


def test_linear_fit_is_the_same_for_any_batches():
    scaling = make_scaling(FRAMES)
    one = fit(CONTRACT, LINEAR, scaling, batches(FRAMES, 300), batches(HELD_OUT))
    many = fit(CONTRACT, LINEAR, scaling, batches(FRAMES, 7), batches(HELD_OUT, 1))

    np.testing.assert_allclose(many.infer(HELD_OUT).frames, one.infer(HELD_OUT).frames, rtol=1e-5, atol=1e-6)


def test_no_network_beats_the_linear_one_at_its_own_loss():
    noise = np.random.default_rng(4).normal(size=(300, 4, 3)).astype(np.float32)

    exact = train(LINEAR, noise, noise)
    descended = train(replace(CONFIG, hidden=(), epochs=5), noise, noise)

    assert exact.history["val_loss"][0] < min(descended.history["val_loss"])


def test_cross_entropy_trains_on_minmax_even_when_held_out_frames_leave_the_range():
    model = train(replace(CONFIG, loss="bce", scaling="minmax"), held_out=1.1 * HELD_OUT)

    assert all(math.isfinite(loss) and loss > 0 for loss in model.history["val_loss"])
    assert model.infer(FRAMES).frames[:, :, 0].max() <= FRAMES[:, :, 0].max() + 1e-3


def test_cross_entropy_on_samples_outside_zero_and_one_is_refused():
    with pytest.raises(TrainingError, match=r"scaled samples in \[0, 1\]. Received: .*minmax"):
        train(replace(CONFIG, loss="bce", scaling="none"))


@pytest.mark.parametrize(("frames", "held_out", "purpose"), [(0, 5, "training"), (5, 0, "validation")])
def test_no_frames_are_refused_by_purpose(frames, held_out, purpose):
    with pytest.raises(TrainingError, match=f"{purpose} frames: expected at least one"):
        fit(CONTRACT, CONFIG, make_scaling(FRAMES), batches(FRAMES[:frames]), batches(HELD_OUT[:held_out]))


@pytest.mark.parametrize("config", [CONFIG, LINEAR], ids=["dense", "linear"])
def test_a_frame_that_is_not_finite_is_refused(config):
    broken = FRAMES.copy()
    broken[7, 0, 0] = np.nan

    with pytest.raises(TrainingError, match="training frames: expected finite samples"):
        fit(CONTRACT, config, make_scaling(FRAMES), batches(broken), batches(HELD_OUT))


def test_frames_of_another_shape_are_refused():
    with pytest.raises(TrainingError, match=r"expected \(n, \*\(4, 3\)\). Received: shape=\(50, 3, 3\)"):
        fit(CONTRACT, CONFIG, make_scaling(FRAMES), batches(FRAMES[:, :3]), batches(HELD_OUT))


def test_a_loss_that_diverges_is_an_error_and_not_a_model():
    wild = NetworkConfig(latent=2, optimizer="sgd", learning_rate=1e30, epochs=3, scaling="none", batch_frames=32)

    with pytest.raises(TrainingError, match=r"epoch \d: expected a finite loss.*Lower learning_rate"):
        fit(CONTRACT, wild, Scaling("none", (0.0,) * 3, (1.0,) * 3), batches(FRAMES), batches(HELD_OUT))


def test_training_changes_no_frame():
    frames = FRAMES.copy()

    train(replace(CONFIG, epochs=1), frames)

    assert frames.tolist() == FRAMES.tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_fitted_model_infers_any_number_of_frames(count):
    inference = fitted().infer(FRAMES[:count])

    assert {name: values.shape for name, values in vars(inference).items()} == {
        "codes": (count, 3),
        "frames": (count, 4, 3),
        "errors": (count,),
        "channel_errors": (count, 3),
        "latent_distance": (count,),
        "scores": (count,),
    }
