"""Fit an autoencoder: Keras does the work, from frames to the best weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ae_model.codes import CodeFormat, make_format
from ae_model.config import FrameContract, NetworkConfig, ScoreConfig
from ae_model.descent import Pairs, descend
from ae_model.exceptions import TrainingError
from ae_model.frames import as_input
from ae_model.latent import CodeUse, Prior
from ae_model.networks import build, graph, linear
from ae_model.networks.assembly import assemble
from ae_model.networks.graph import Graph
from ae_model.networks.variational import find_use
from ae_model.scaling import Scaling, Statistics
from ae_model.score_formula import ScoreFormula, UsualErrors, combine, find_observed
from ae_model.scoring import Inference, reconstruction_errors
from ae_model.watch import Reporter, Watch

# Every call gives a fresh pass over (n, length, channels) float32 frame batches in own units.
Batches: TypeAlias = Callable[[], Any]

# Frames that are shuffled among each other, or kept from epoch to epoch, take at most this much memory.
_HELD_BYTES = 64 * 2**20
# Scaled data may leave [0, 1] by rounding alone.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained pair with all that its graph needs.

    Args:
        contract: what a frame is.
        config: what was trained, and how.
        scaling: what the graph does to frames first.
        encoder: ``keras.Model``, scaled frames to codes.
        decoder: ``keras.Model``, codes to scaled frames.
        code_mean: (latent,) of the training codes.
        code_covariance: (latent, latent) likewise.
        code_format: what a code is.
        history: ``loss`` and ``val_loss`` per epoch.
        frames: how many frames it was fitted on.
        formula: how its errors become a score; the plain one until ``calibrated``.
        prior: what to draw codes from, of a variational model.
        code_use: how much of its code is used on validation frames, likewise.
    """

    contract: FrameContract
    config: NetworkConfig
    scaling: Scaling
    encoder: Any
    decoder: Any
    code_mean: NDArray[np.float64]
    code_covariance: NDArray[np.float64]
    code_format: CodeFormat
    history: dict[str, list[float]]
    frames: int
    formula: ScoreFormula
    prior: Prior | None = None
    code_use: CodeUse | None = None

    @cached_property
    def graph(self) -> Graph:
        """What an export of it computes."""
        codes = (self.code_mean, self.code_covariance, self.code_format)
        return Graph(self.contract, self.scaling, self.encoder, self.decoder, *codes, self.formula, self.prior)

    def infer(self, frames: NDArray[np.float32]) -> Inference:
        """What the exported detector will say of frames (n, length, channels)."""
        outputs = self._infer(frames=tf.constant(frames, tf.float32))
        return Inference(**{name: tensor.numpy() for name, tensor in outputs.items()})

    def calibrated(self, config: ScoreConfig, batches: Callable[[], Iterable[NDArray[np.float32]]]) -> Fitted:
        """The same pair with its formula fitted on calibration frames.

        Args:
            config: what to fit.
            batches: every call gives a fresh pass over the frames, (n, length, channels) at a time; nothing but
                two numbers is kept of each.

        Raises:
            TrainingError: there are no frames, or one has no finite errors.
        """
        plain, usual = ScoreFormula.plain(self.contract, config.newest), UsualErrors(len(self.contract.channels))
        model = replace(self, formula=plain)
        for frames in batches():
            said = model.infer(frames)
            usual.add(said.channel_errors, said.latent_distance, find_observed(frames, plain))
        model = replace(self, formula=usual.fit(config, self.contract))
        if config.latent == "ignored":
            return model
        pairs = [(said.scores, said.latent_distance) for said in map(model.infer, batches())]
        return replace(self, formula=combine(model.formula, *map(np.concatenate, zip(*pairs, strict=True))))

    def sample(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames in own units of standard normal noise (n, latent), by a variational model."""
        frames: NDArray[np.float32] = self.graph.sample(tf.constant(noise, tf.float32))["frames"].numpy()
        return frames

    @cached_property
    def _infer(self) -> Any:
        return self.graph.signatures()["infer"]


def fit(
    contract: FrameContract,
    config: NetworkConfig,
    scaling: Scaling,
    training: Batches,
    validation: Batches,
    watch: Watch | None = None,
) -> Fitted:
    """Train what ``config`` asks for, and keep the weights of the best epoch.

    The same seed, data and library versions give the same weights on a CPU.

    Args:
        contract: what a frame is.
        config: network, loss, optimizer, epochs, patience, seed.
        scaling: of the training frames.
        training: the frames to fit; shuffled and batched here.
        validation: frames kept apart, on which the best epoch is chosen.
        watch: who follows it, and what is kept of it.

    Raises:
        TrainingError: there are no frames, they do not suit the loss, or the loss diverged.
    """
    keras.utils.set_random_seed(config.seed)
    encoder, decoder = build(contract, config)
    fitted_on = _survey(_Frames(contract, scaling, training, "training"), config)
    judged_on = _survey(_Frames(contract, scaling, validation, "validation"), config)
    model = assemble(encoder, decoder, config)
    if config.solved:
        history = _solve(encoder, decoder, config, fitted_on, judged_on, watch or Watch())
    else:
        history = _descend(model, config, fitted_on, judged_on, watch or Watch())
    statistics, moments = _survey_codes(encoder, fitted_on)
    about_codes = (moments.mean, moments.covariance, make_format(config.codes, statistics))
    parts = (contract, config, scaling, encoder, decoder, *about_codes)
    fitted = Fitted(*parts, history, fitted_on.count, ScoreFormula.plain(contract))
    if config.variational is None:
        return fitted
    return replace(
        fitted, prior=model.get_layer("draw").prior(), code_use=find_use(model, (seen for seen, _ in judged_on.seen()))
    )


@dataclass(frozen=True)
class _Frames:
    """The frames for one purpose; how many there are and their fingerprint, once they were counted."""

    contract: FrameContract
    scaling: Scaling
    batches: Batches
    purpose: str
    count: int = 0
    fingerprint: str = ""

    def scaled(self) -> Iterator[NDArray[np.float32]]:
        """One pass, scaled, (n, length, channels) at a time."""
        for batch in self.batches():
            frames = np.asarray(batch)
            if frames.shape[1:] != self.contract.shape:
                raise TrainingError(
                    f"{self.purpose} frames: expected (n, *{self.contract.shape}). Received: shape={frames.shape}."
                )
            yield self.scaling.apply(frames)

    def seen(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """One pass of what a network sees and what it is to give back, each (n, length, ...) at a time."""
        for scaled in self.scaled():
            yield as_input(scaled, self.contract.missing), scaled

    def pairs(self, config: NetworkConfig, epoch: Any = None) -> Any:
        """Scaled frames as input and target, in batches of ``config.batch_frames``.

        Args:
            config: how many, and the seed of their order.
            epoch: ``tf.Variable`` that the order follows from too; without it they stay as they are.
        """
        shape = (None, *self.contract.shape)
        frames = self.batches().map(lambda batch: tf.ensure_shape(batch, shape))
        held = max(_HELD_BYTES // (4 * math.prod(self.contract.shape)), config.batch_frames)
        if self.count <= held:
            frames = frames.cache()
        if epoch is not None:
            frames = _shuffle(frames, min(held, self.count), config.seed, epoch)
        pairs = frames.rebatch(config.batch_frames).map(self._pair).prefetch(tf.data.AUTOTUNE)
        # Without its length Keras warns at the end of the first epoch that the data ran out.
        return pairs.apply(tf.data.experimental.assert_cardinality(math.ceil(self.count / config.batch_frames)))

    def _pair(self, frames: Any) -> tuple[Any, Any]:
        scaled, present = graph.scale_present(self.scaling, self.contract, frames)
        target = scaled if present is None else tf.where(present > 0, scaled, np.float32(np.nan))
        return graph.as_input(scaled, present), target


def _shuffle(frames: Any, held: int, seed: int, epoch: Any) -> Any:
    """Shuffle ``held`` frames among each other, then the next; the order follows from seed and epoch alone."""

    def shuffle(numbered: Any, window: Any) -> Any:
        return tf.random.experimental.stateless_shuffle(window, seed=tf.stack([seed + epoch, numbered]))

    # Read when an epoch begins, and not when this is built.
    return tf.data.Dataset.range(1).flat_map(lambda _: frames.rebatch(held).enumerate().map(shuffle))


def _survey(frames: _Frames, config: NetworkConfig) -> _Frames:
    """Count the frames, and refuse what no training can use."""
    count, digest = 0, hashlib.sha256()
    for scaled in frames.scaled():
        count += len(scaled)
        digest.update(scaled.tobytes())
        if not _is_whole(scaled, frames.contract):
            raise TrainingError(
                f"{frames.purpose} frames: expected finite samples. Received: a NaN or infinite one in the first "
                f"{count} frames. Leave out frames that are not usable."
            )
        if config.in_unit_range and frames.purpose == "training":
            _check_range(scaled, config)
    if count == 0:
        raise TrainingError(f"{frames.purpose} frames: expected at least one. Received: 0. Give more data.")
    return replace(frames, count=count, fingerprint=digest.hexdigest())


def _is_whole(scaled: NDArray[np.float32], contract: FrameContract) -> bool:
    missing = np.isnan(scaled)
    allowed = contract.missing == "mask" and not missing.all(axis=(1, 2)).any()
    return bool(np.isfinite(scaled).all() or (allowed and np.isfinite(scaled[~missing]).all()))


def _check_range(scaled: NDArray[np.float32], config: NetworkConfig) -> None:
    low, high = (float(extreme.reduce(scaled, axis=None, initial=0.0)) for extreme in (np.fmin, np.fmax))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        setting = "loss bce" if config.loss == "bce" else "corruption salt_pepper"
        raise TrainingError(
            f"{setting}: expected scaled samples in [0, 1]. Received: {low:g}..{high:g}. "
            "Use scaling=minmax, or another one."
        )


def _solve(
    encoder: Any, decoder: Any, config: NetworkConfig, training: _Frames, validation: _Frames, watch: Watch
) -> dict[str, list[float]]:
    """Principal components, of which one pass gathers the moments, or nothing at all: there is nothing to descend."""
    if config.network == "linear":
        moments = linear.Moments(math.prod(training.contract.shape))
        fill = _mean_frame(training) if training.contract.missing == "mask" else np.zeros(training.contract.shape)
        for scaled in training.scaled():
            moments.add(np.where(np.isnan(scaled), fill, scaled))
        linear.solve(encoder, decoder, moments.mean, moments.covariance)
    logs = {
        "loss": _mean_error(encoder, decoder, training),
        "val_loss": _mean_error(encoder, decoder, validation),
    }
    Reporter(watch, epochs=1).on_epoch_end(0, logs)
    return {name: [value] for name, value in logs.items()}


def _mean_error(encoder: Any, decoder: Any, frames: _Frames) -> float:
    batches = ((scaled, decoder(encoder(seen)).numpy()) for seen, scaled in frames.seen())
    return sum(float(reconstruction_errors(*pair).sum(dtype=np.float64)) for pair in batches) / frames.count


def _mean_frame(frames: _Frames) -> NDArray[np.float64]:
    """(length, channels): the mean of the samples that are there."""
    width = math.prod(frames.contract.shape)
    statistics = Statistics.empty(width)
    for scaled in frames.scaled():
        statistics = statistics.merge(Statistics.of(scaled.reshape(len(scaled), width)))
    return statistics.mean.reshape(frames.contract.shape)


def _descend(
    model: Any, config: NetworkConfig, training: _Frames, validation: _Frames, watch: Watch
) -> dict[str, list[float]]:
    """Gradient descent, by Keras."""
    epoch = tf.Variable(0, dtype=tf.int64)
    parts = (training.pairs(config, epoch), validation.pairs(config), epoch)
    fingerprint = _fingerprint(config, training, validation)
    return descend(model, config, Pairs(*parts, fingerprint, training.contract.missing), watch)


def _fingerprint(config: NetworkConfig, *frames: _Frames) -> str:
    """The same for the same frames, settings and libraries, which give the same weights."""
    settings = [repr(config), repr(frames[0].contract)]
    parts = [*settings, *(each.fingerprint for each in frames), keras.__version__, tf.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _survey_codes(encoder: Any, frames: _Frames) -> tuple[Statistics, linear.Moments]:
    latent = encoder.output_shape[-1]
    statistics, moments = Statistics.empty(latent), linear.Moments(latent)
    for seen, _ in frames.seen():
        codes = encoder(seen).numpy()  # (n, latent)
        statistics = statistics.merge(Statistics.of(codes))
        moments.add(codes)
    return statistics, moments
