"""Gradient descent, by Keras: the losses, the optimisers, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from ae_model.config import NetworkConfig
from ae_model.exceptions import TrainingError

# What ``schedule: plateau`` multiplies the learning rate by.
_PLATEAU_FACTOR = 0.5
# Batches that tell what the loss was before training.
_FIRST_BATCHES = 64
# A loss this many times that of the untrained network was never on its way down.
_DIVERGED = 2.0


def descend(
    model: Any,
    config: NetworkConfig,
    training: Any,
    validation: Any,
    on_epoch_end: Callable[[int, dict[str, float]], None],
) -> dict[str, list[float]]:
    """Train a model to give back its input, and keep the weights of the epoch with the lowest ``val_loss``.

    Args:
        model: ``keras.Model``, scaled frames to scaled frames.
        config: loss, optimizer, schedule, epochs, patience.
        training: ``tf.data.Dataset`` of (input, target) batches, of known length.
        validation: likewise.
        on_epoch_end: told epoch (from 0) and logs.

    Returns:
        ``loss`` and ``val_loss`` per epoch.

    Raises:
        TrainingError: the loss went up and not down.
    """
    model.compile(optimizer=_make_optimizer(config, len(training)), loss=make_loss(config))
    untrained = float(model.evaluate(training.take(_FIRST_BATCHES), verbose=0))
    history = model.fit(
        training,
        validation_data=validation,
        epochs=config.epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end), *_make_callbacks(config)],
        shuffle=False,
        verbose=0,
    ).history
    kept = {name: [float(value) for value in history[name]] for name in ("loss", "val_loss")}
    _check_descent(kept, untrained)
    return kept


def make_loss(config: NetworkConfig) -> Any:
    """The loss of targets and outputs (n, length, channels)."""
    losses = {"mse": keras.losses.mean_squared_error, "bce": _cross_entropy}
    return losses.get(config.loss) or keras.losses.Huber(config.huber_delta)


def _cross_entropy(target: Any, output: Any) -> Any:
    # Frames kept apart may leave the range of the training frames; the loss is only defined in [0, 1].
    return keras.losses.binary_crossentropy(keras.ops.clip(target, 0.0, 1.0), output)


def _make_optimizer(config: NetworkConfig, batches: int) -> Any:
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=config.epochs * batches)
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return keras.optimizers.Adam(rate)


def _make_callbacks(config: NetworkConfig) -> list[Any]:
    stop = keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True)
    if config.schedule != "plateau":
        return [stop]
    # Twice as impatient, so that a smaller step is tried before training stops.
    patience = max(1, config.patience // 2)
    return [keras.callbacks.ReduceLROnPlateau("val_loss", _PLATEAU_FACTOR, patience, min_delta=0.0), stop]


def _check_descent(history: dict[str, list[float]], untrained: float) -> None:
    best = min(range(len(history["val_loss"])), key=history["val_loss"].__getitem__)
    loss = history["loss"][best]
    if not loss <= _DIVERGED * untrained or math.isnan(untrained):
        raise TrainingError(
            f"training, epoch {best + 1}: expected a loss below that of the untrained network, {untrained:.4g}. "
            f"Received: loss={loss:.4g}. Lower learning_rate."
        )
