"""One model being made: its examples, its fits, its scores on frames that fit never saw, its export."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.calibration import Threshold, fit_threshold
from ae_model.codes import count_clipped
from ae_model.config import FrameContract, NetworkConfig, ScoreConfig, ThresholdConfig
from ae_model.scaling import Scaling, from_percentiles, from_statistics
from ae_model.scopes import EVERY_KEY, Scope
from ae_model.watch import Watch
from pipelines.batch_size import find_batch_frames
from pipelines.examples import read_examples
from pipelines.portraits import draw
from pipelines.shards import CALIBRATION, SPLITS, TRAINING, VALIDATION
from pipelines.statistics import Profile, find_percentiles
from pipelines.unfinished import progress_file

if TYPE_CHECKING:
    from ae_model.training import Fitted

Report: TypeAlias = Callable[[str], None]

MODEL, BASELINE = "model", "baseline"
# Frames that travel in the artifact to prove, at each load, that it computes what it did here.
GOLDEN_FRAMES = 16


@dataclass(frozen=True)
class FitRequest:
    """What to train; travels to the worker.

    Args:
        name: of the model; its baseline is ``<name>.pca``.
        contract: what a frame is.
        network: what to train, and how.
        score: how errors become the score.
        threshold: how to fit the cut-off on it.
        data: the data, as the person named it.
        created: when, ISO 8601 in UTC.
        models: folder of models, for the current version.
        work: folder for its candidates and the outcome.
        curves: folder for losses as TensorBoard reads them, or none.
        scope: for which keys it will answer.
    """

    name: str
    contract: FrameContract
    network: NetworkConfig
    score: ScoreConfig
    threshold: ThresholdConfig
    data: str
    created: str
    models: str
    work: str
    curves: str | None = None
    scope: Scope = EVERY_KEY


@dataclass(frozen=True)
class WrittenBlock:
    """One file of examples, and what was left out of it."""

    split: str
    path: str
    frames: int
    unusable: int
    faults: tuple[int, ...]
    example: str


@dataclass(frozen=True, eq=False)
class Judged:
    """A fitted pair with what it reaches on frames that fit never saw."""

    fitted: Fitted
    threshold: Threshold
    scores: NDArray[np.float64]
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class Trial:
    """All that the fits of one request share.

    Args:
        request: what to train.
        paths: files of examples by split.
        scaling: of the training frames; the model and its baseline have the same, so that their errors compare.
        report: told of progress, a line at a time.
    """

    request: FitRequest
    paths: dict[str, list[Path]]
    scaling: Scaling
    report: Report

    def frames(self, split: str) -> Iterator[NDArray[np.float32]]:
        """One pass over a split, (n, length, channels) at a time."""
        yield from read_examples(self.paths[split], self.request.contract).as_numpy_iterator()

    def run(self, network: NetworkConfig) -> Judged:
        """Fit a network, then its threshold."""
        return self._judge(self._fit(network))

    def run_baseline(self) -> Judged | None:
        """Fit the exact linear autoencoder of the same latent size; None where there is none, or nothing to compare."""
        from ae_model.networks.linear import MAX_WIDTH

        width = math.prod(self.request.contract.shape)
        if self.request.network.network == "constant":
            return None
        if width > MAX_WIDTH:
            self.report(
                f"no baseline: a frame has {width} values, more than the {MAX_WIDTH} that can be solved exactly"
            )
            return None
        network = self.request.network
        if network.latent >= width:
            self.report(f"no baseline: {network.latent} components copy a frame of {width} values")
            return None
        # Built anew: an exact solution refuses what only descent needs. Its codes take as many bytes.
        linear = NetworkConfig("linear", network.latent, scaling=network.scaling, codes=network.codes)
        return self.run(replace(linear, batch_frames=network.batch_frames, seed=network.seed))

    def export(
        self, folder: str, name: str, judged: Judged, frames: dict[str, int], metrics: dict[str, dict[str, float]]
    ) -> None:
        """Write a candidate under the request's folder, in place of one that an earlier try left."""
        path = Path(self.request.work) / folder
        shutil.rmtree(path, ignore_errors=True)
        facts = artifact.Facts(
            name=name,
            created=self.request.created,
            data=self.request.data,
            frames={split: frames[split] for split in SPLITS},
            threshold=judged.threshold,
            metrics=metrics,
            batch_frames=find_batch_frames(judged.fitted.infer, self.request.contract.shape),
            scope=self.request.scope,
        )
        golden = self._golden()
        pictures = draw(name, judged.fitted, judged.threshold, judged.scores, golden)
        artifact.export(path, judged.fitted, facts, golden, pictures)

    def _fit(self, network: NetworkConfig) -> Fitted:
        from ae_model.training import fit

        def batches(split: str) -> Callable[[], Any]:
            return lambda: read_examples(self.paths[split], self.request.contract)

        return fit(
            self.request.contract,
            network,
            self.scaling,
            batches(TRAINING),
            batches(VALIDATION),
            None if network.solved else self._watch(),
        )

    def _watch(self) -> Watch:
        name, curves = self.request.name, self.request.curves
        return Watch(
            on_epoch=self._say_epoch,
            on_resume=self._say_resume,
            clock=time.perf_counter,
            progress=progress_file(self.request.models, name),
            curves=Path(curves) / name if curves else None,
        )

    def _say_resume(self, epochs: int, of: int) -> None:
        self.report(f"going on after epoch {epochs}/{of}, where a training of the same was stopped")

    def _say_epoch(self, epoch: int, epochs: int, loss: float, val_loss: float, seconds_left: float) -> None:
        self.report(f"epoch {epoch}/{epochs}  loss {loss:.4g}  val_loss {val_loss:.4g}  {seconds_left:.0f} s left")

    def _judge(self, fitted: Fitted) -> Judged:
        fitted = fitted.calibrated(self.request.score, lambda: self.frames(CALIBRATION))
        validation, _, _ = self._infer(fitted, VALIDATION)
        calibration, scores, clipped = self._infer(fitted, CALIBRATION)
        threshold = fit_threshold(scores, self.request.threshold, self.request.contract)
        means = {"validation_error": float(validation.mean()), "calibration_error": float(calibration.mean())}
        about_codes = {**_latent_metrics(fitted), **({"clipped": clipped} if fitted.config.codes == "int8" else {})}
        return Judged(fitted, threshold, scores, {**means, "threshold": threshold.value, **about_codes})

    def _infer(self, fitted: Fitted, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Errors and scores of a split, each (n,), and the share of frames with a clipped code."""
        # Two numbers are kept of each frame; codes and reconstructions would grow with the data.
        said = map(fitted.infer, self.frames(split))
        kept = [(each.errors, each.scores, [count_clipped(each.codes)]) for each in said]
        errors, scores, clipped = (np.concatenate(column).astype(np.float64) for column in zip(*kept, strict=True))
        return errors, scores, float(clipped.sum()) / len(errors)

    def _golden(self) -> NDArray[np.float32]:
        first = next(self.frames(CALIBRATION))
        rows = np.unique(np.linspace(0, len(first) - 1, GOLDEN_FRAMES).astype(int))
        golden: NDArray[np.float32] = first[rows]
        return golden if self.request.contract.missing == "refuse" else _with_gaps(golden)


def _with_gaps(golden: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, and a frame of which only every other value is there: that path must be proved at each load too."""
    thinned = golden[:1].copy()
    thinned.reshape(-1)[1::2] = np.nan
    return np.concatenate([golden, thinned]) if not np.isnan(thinned).all() else golden


def _latent_metrics(fitted: Fitted) -> dict[str, float]:
    """What a variational model makes of its code: units in use, and nats a frame."""
    if fitted.code_use is None:
        return {}
    return {"active_units": float(fitted.code_use.active_units), "kl": sum(fitted.code_use.divergences)}


def make_scaling(request: FitRequest, profile: Profile, training: Sequence[Path]) -> Scaling:
    """The scaling of the training frames, whose files are read once more where it takes percentiles that nobody found.

    Args:
        request: what kind of scaling.
        profile: of the training frames.
        training: files of their examples.
    """
    if request.network.scaling != "robust":
        return from_statistics(request.network.scaling, **vars(profile.statistics))
    percentiles = profile.percentiles
    if percentiles is None:
        frames = read_examples(training, request.contract).as_numpy_iterator()
        percentiles = find_percentiles(frames, len(request.contract.channels))
    return from_percentiles(percentiles, profile.statistics)


def paths_by_split(blocks: Sequence[WrittenBlock]) -> dict[str, list[Path]]:
    """Files that hold any frame."""
    return {split: [Path(each.path) for each in blocks if each.split == split and each.frames] for split in SPLITS}
