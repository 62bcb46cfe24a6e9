"""Batches made by hand, whose every number a test can foretell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame_batch import FrameBatch, InferredBatch, RawBatch, Scorer

TOPIC = "plant.pumps.frames.v1"
OWN, COHORT = Scorer("pumps.own.pump-7", 3, "own", 0.5), Scorer("pumps.cohort.hall", 2, "cohort", 2.0)
# 2026-11-21 04:00:00 UTC
START_MS = 1_795_233_600_000


def make_raw(
    values: Sequence[bytes | None],
    first: int = 0,
    *,
    keys: Sequence[bytes | None] | None = None,
    headers: Any = None,
    partition: int = 3,
    topic: str = TOPIC,
) -> RawBatch:
    """Records one second apart; the offset says the second."""
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return RawBatch(
        topic=topic,
        partition=partition,
        offsets=offsets,
        timestamps=START_MS + offsets * 1000,
        keys=pa.array([b"pump-1"] * len(values) if keys is None else keys, pa.binary()),
        values=pa.array(values, pa.binary()),
        headers=headers,
    )


def score_by(batch: InferredBatch, scorers: Sequence[Scorer], by: Sequence[int]) -> InferredBatch:
    """The same frames, scored by several models."""
    return replace(batch, scorers=tuple(scorers), scored_by=np.array(by, np.int32))


def make_inferred(
    offsets: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    version: int = 1,
    model: str = "pumps",
    shape: tuple[int, int] = (2, 2),
    latent: int = 2,
    partition: int = 3,
    topic: str = TOPIC,
) -> InferredBatch:
    """Frames whose samples, codes and errors all hold their offset; threshold 1, scores 0."""
    n = len(offsets)
    base = np.array(offsets, np.float32)
    frames = np.broadcast_to(base[:, None, None], (n, *shape)).astype(np.float32)
    raw = RawBatch(
        topic=topic,
        partition=partition,
        offsets=np.array(offsets, np.int64),
        timestamps=START_MS + np.array(offsets, np.int64) * 1000,
        keys=pa.array([b"pump-%d" % offset for offset in offsets], pa.binary()),
        values=pa.array([frame.tobytes() for frame in frames], pa.binary()),
    )
    return InferredBatch(
        batch=FrameBatch(raw, frames),
        codes=np.repeat(base[:, None], latent, axis=1),
        denoised=frames - 0.5,
        errors=base,
        channel_errors=np.ones((n, shape[1]), np.float32),
        latent_distance=base * 2,
        scores=np.array([0.0] * n if scores is None else scores, np.float32),
        scorers=(Scorer(model, version, "global", 1.0),),
        scored_by=np.zeros(n, np.int32),
    )
