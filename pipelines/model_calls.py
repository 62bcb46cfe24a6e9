"""Calls of one model on many frames: whole where it can be, in halves where a frame makes it fail. No Beam."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.model import Detector
from ae_model.scoring import Inference
from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome, Scorer


def infer_surely(detector: Detector, batch: FrameBatch) -> list[Outcome]:
    """Infer a batch; where the model fails, halve it until the failing frames stand alone.

    Returns:
        Outcomes in frame order; together they hold every frame of the batch once.
    """
    scorer = as_scorer(detector)
    outcomes, start = [], 0
    for count, result in try_parts(detector, batch.frames):
        part = batch if count == len(batch) else batch.slice(start, start + count)
        start += count
        if isinstance(result, str):
            outcomes.append(Outcome(failed=part, reason=result))
        else:
            scored_by = np.zeros(count, np.int32)
            outcomes.append(Outcome(inferred=make_inferred(part, vars(result), (scorer,), scored_by)))
    return outcomes


def try_parts(detector: Detector, frames: NDArray[np.float32]) -> Iterator[tuple[int, Inference | str]]:
    """Parts of frames in order: how many, and what the model says of them, or why it cannot take the one."""
    try:
        yield len(frames), detector.infer(frames)
        return
    except Exception as exc:  # TensorFlow raises classes that share no root.
        if len(frames) == 1:
            yield 1, f"{type(exc).__name__}: {exc}"
            return
    middle = len(frames) // 2
    yield from try_parts(detector, frames[:middle])
    yield from try_parts(detector, frames[middle:])


def as_scorer(detector: Detector) -> Scorer:
    """A detector as results name it."""
    manifest = detector.manifest
    return Scorer(manifest.name, manifest.version, manifest.scope.layer, manifest.threshold.value)


def make_inferred(
    batch: FrameBatch, arrays: dict[str, NDArray[Any]], scorers: tuple[Scorer, ...], scored_by: NDArray[np.int32]
) -> InferredBatch:
    """Frames with the fields of an Inference of them."""
    return InferredBatch(
        batch=batch,
        codes=arrays["codes"],  # (n, latent)
        denoised=arrays["frames"],  # (n, length, channels)
        errors=arrays["errors"],  # (n,)
        channel_errors=arrays["channel_errors"],  # (n, channels)
        latent_distance=arrays["latent_distance"],  # (n,)
        scores=arrays["scores"],  # (n,)
        scorers=scorers,
        scored_by=scored_by,
    )
