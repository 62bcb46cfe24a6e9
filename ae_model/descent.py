"""Gradient descent, by Keras: the losses, the optimisers, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from ae_model.config import Missing, NetworkConfig
from ae_model.curves import Curves
from ae_model.exceptions import TrainingError
from ae_model.progress import Progress, Standing
from ae_model.watch import Reporter, Watch

# What ``schedule: plateau`` multiplies the learning rate by.
_PLATEAU_FACTOR = 0.5
# XLA takes some 4 s to compile a step, and makes one of a recurrent network 8 ms shorter. Others gain nothing.
_COMPILED_STEPS = 1000
# A loss this many times that of the untrained network was never on its way down.
_DIVERGED = 2.0


@dataclass(frozen=True)
class Pairs:
    """What a model is trained and judged on.

    Args:
        training: ``tf.data.Dataset`` of (input, target) batches, of known length.
        validation: likewise.
        epoch: ``tf.Variable`` that the order of the training batches follows from; set before each epoch.
        fingerprint: of both.
        missing: whether targets hold NaN for samples that are missing.
    """

    training: Any
    validation: Any
    epoch: Any
    fingerprint: str
    missing: Missing = "refuse"


def descend(model: Any, config: NetworkConfig, pairs: Pairs, watch: Watch) -> dict[str, list[float]]:
    """Train a model to give back its input, and keep the weights of the epoch with the lowest ``val_loss``.

    Args:
        model: ``keras.Model``, scaled frames to scaled frames.
        config: loss, optimizer, schedule, epochs, patience.
        pairs: what it sees.
        watch: who follows it, and the file that keeps how far it came.

    Returns:
        ``loss`` and ``val_loss`` per epoch.

    Raises:
        TrainingError: the loss is not finite, or went up and not down.
    """
    reporter = Reporter(watch, config.epochs)
    batches = len(pairs.training)
    compiles = config.network == "recurrent" and config.epochs * batches >= _COMPILED_STEPS
    loss = make_loss(config, pairs.missing)
    model.compile(_make_optimizer(config, batches), loss, jit_compile=compiles)
    callbacks = _make_callbacks(config)
    progress = Progress(watch.progress, pairs.fingerprint, callbacks)
    if progress.restore(model):
        reporter.on_resume(progress.standing.epochs)
    else:
        progress.start(float(model.evaluate(pairs.training, verbose=0)))
    curves = [Curves(watch.curves)] if watch.curves else []
    _fit(model, config, pairs, [_tell(reporter, pairs), *callbacks, *curves, progress])
    _check_descent(progress.standing)
    return progress.standing.history


def _tell(reporter: Reporter, pairs: Pairs) -> Any:
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: pairs.epoch.assign(epoch), on_epoch_end=reporter.on_epoch_end
    )


def _fit(model: Any, config: NetworkConfig, pairs: Pairs, callbacks: list[Any]) -> None:
    """Do the epochs that are left."""
    progress = callbacks[-1]
    if progress.standing.ended or progress.standing.epochs == config.epochs:
        progress.keep_best()
        return
    model.fit(
        pairs.training,
        validation_data=pairs.validation,
        initial_epoch=progress.standing.epochs,
        epochs=config.epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def make_loss(config: NetworkConfig, missing: Missing = "refuse") -> Callable[[Any, Any], Any]:
    """The loss of targets and outputs (n, length, channels), over the samples that are there."""
    of_samples: Callable[[Any, Any], Any] = {
        "mse": keras.losses.mean_squared_error,
        "bce": _cross_entropy,
        "huber": partial(keras.losses.huber, delta=config.huber_delta),
    }[config.loss]

    if missing == "refuse":
        return of_samples

    def loss(target: Any, output: Any) -> Any:
        # NaN is a sample that is missing. Keras means over a last axis, which is of one here.
        present = keras.ops.logical_not(keras.ops.isnan(target))
        known = keras.ops.where(present, target, 0.0)
        losses = of_samples(known[..., None], output[..., None])  # (n, length, channels)
        count = keras.ops.sum(keras.ops.cast(present, losses.dtype), axis=(1, 2))
        return keras.ops.sum(keras.ops.where(present, losses, 0.0), axis=(1, 2)) / count

    return loss


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
    return [stop, keras.callbacks.ReduceLROnPlateau("val_loss", _PLATEAU_FACTOR, patience, min_delta=0.0)]


def _check_descent(standing: Standing) -> None:
    losses = standing.history["val_loss"]
    best = losses.index(min(losses))
    loss = standing.history["loss"][best]
    if not loss <= _DIVERGED * standing.untrained:
        raise TrainingError(
            f"training, epoch {best + 1}: expected a loss below that of the untrained network, "
            f"{standing.untrained:.4g}. Received: loss={loss:.4g}. Lower learning_rate."
        )
