from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from ae_model.config import NetworkConfig
from ae_model.descent import Pairs, descend, make_loss
from ae_model.exceptions import ConfigError, TrainingError
from ae_model.watch import Watch

CONFIG = NetworkConfig(latent=2, epochs=4, batch_frames=16, learning_rate=0.01)
FRAMES = np.random.default_rng(0).normal(size=(64, 4, 3)).astype(np.float32)


def make_model():
    keras.utils.set_random_seed(3)
    layers = [keras.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(12), keras.layers.Reshape((4, 3))]
    return keras.Sequential(layers)


def pairs(target=FRAMES):
    return tf.data.Dataset.from_tensor_slices((FRAMES, target)).batch(16)


def descend_from(config, model=None, target=FRAMES, on_epoch=None):
    model = model or make_model()
    seen = Pairs(pairs(), pairs(target), tf.Variable(0, dtype=tf.int64), "")
    history = descend(model, config, seen, Watch(on_epoch=on_epoch))
    return model, history


def loss_of(target, output, **config):
    values = [np.reshape(np.array(side, np.float32), (1, 1, len(target))) for side in (target, output)]
    whole, masked = (make_loss(replace(CONFIG, scaling="none", **config), missing) for missing in ("refuse", "mask"))
    assert float(np.mean(masked(*values))) == pytest.approx(float(np.mean(whole(*values))))
    return float(np.mean(whole(*values)))


def test_losses_are_those_of_the_textbook():
    # Differences 0.5 and 3: squares 0.25 and 9; Huber takes 0.5 * 0.25 and 1 * (3 - 0.5).
    assert loss_of([0.5, 0.0], [0.0, 3.0], loss="mse") == pytest.approx((0.25 + 9) / 2)
    assert loss_of([0.5, 0.0], [0.0, 3.0], loss="huber", huber_delta=1.0) == pytest.approx((0.125 + 2.5) / 2)
    assert loss_of([0.5, 0.0], [0.0, 3.0], loss="huber", huber_delta=0.1) == pytest.approx((0.045 + 0.295) / 2)
    # -ln 0.8 for a one taken for 0.8, -ln 0.5 for a nought taken for 0.5.
    assert loss_of([1.0, 0.0], [0.8, 0.5], loss="bce") == pytest.approx((0.223144 + 0.693147) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "expected"),
    [({}, (0.25 + 4) / 2), ({"loss": "huber", "huber_delta": 1.0}, (0.125 + 1.5) / 2)],
    ids=["mse", "huber"],
)
def test_a_missing_sample_has_no_part_in_the_loss_of_its_frame(config, expected):
    target = np.array([[[0.5, np.nan, 2.0]], [[1.0, 1.0, 1.0]]], np.float32)
    output = np.array([[[0.0, 9.0, 0.0]], [[1.0, 1.0, 1.0]]], np.float32)

    losses = make_loss(replace(CONFIG, **config), "mask")(target, output)

    assert losses.numpy().tolist() == pytest.approx([expected, 0.0])


def test_an_outlier_pulls_less_with_huber_than_with_squares():
    assert loss_of([0.0], [20.0], loss="huber", huber_delta=1.0) == 19.5
    assert loss_of([0.0], [20.0], loss="mse") == 400.0


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, optimizer="sgd"),
        replace(CONFIG, optimizer="sgd", momentum=0.9),
        replace(CONFIG, loss="huber", huber_delta=0.5),
    ],
    ids=["adam", "sgd", "momentum", "huber"],
)
def test_the_loss_falls_with_every_optimizer(config):
    _, history = descend_from(config)

    assert history["loss"][3] < history["loss"][2] < history["loss"][1] < history["loss"][0]


def test_momentum_is_faster_than_none():
    plain, fast = (descend_from(replace(CONFIG, optimizer="sgd", momentum=momentum))[1] for momentum in (0.0, 0.9))

    assert fast["loss"][3] < 0.95 * plain["loss"][3]


def test_constant_rate_stays_and_cosine_ends_at_nothing():
    models = [descend_from(replace(CONFIG, schedule=name))[0] for name in ("constant", "cosine")]

    assert [float(model.optimizer.learning_rate) for model in models] == [
        pytest.approx(0.01),
        pytest.approx(0.0, abs=1e-9),
    ]


# Keras reads its own learning rate in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_plateau_halves_the_rate_before_patience_is_out():
    # To be like the negative of the frames becomes harder as the fit gets better.
    config = replace(CONFIG, schedule="plateau", patience=4, epochs=20)
    rates = []

    model = make_model()
    _, history = descend_from(config, model, -FRAMES, lambda *epoch: rates.append(float(model.optimizer.learning_rate)))

    best = int(np.argmin(history["val_loss"]))
    assert len(history["val_loss"]) == best + 1 + 4
    assert rates == [pytest.approx(0.01)] * (best + 3) + [pytest.approx(0.005)] * 2


@pytest.mark.parametrize("rate", [1e3, 1e12])
def test_a_finite_loss_that_went_up_is_no_model(rate):
    with pytest.raises(TrainingError, match=r"expected a loss below that of the untrained network, .*learning_rate"):
        descend_from(replace(CONFIG, learning_rate=rate, epochs=2))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"loss": "huber"}, "huber_delta: expected more than 0, in scaled units, with loss=huber. Received: .*None"),
        ({"loss": "huber", "huber_delta": 0.0}, "huber_delta: expected more than 0"),
        ({"huber_delta": 1.0}, "huber_delta: expected nothing unless loss=huber"),
        ({"momentum": 0.9}, "momentum: expected 0 unless optimizer=sgd"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum: expected 0 up to 1"),
        ({"network": "linear", "schedule": "cosine"}, "expected no momentum and schedule=constant with network=linear"),
    ],
)
def test_settings_that_nothing_uses_are_refused(settings, rule):
    with pytest.raises(ConfigError, match=rule):
        NetworkConfig(**settings)
