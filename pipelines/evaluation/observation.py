"""What one model says of one recording, gathered block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model.metrics.distortion import Distortion, DistortionMeter

if TYPE_CHECKING:
    from ae_model.manifest import Manifest
    from ae_model.model import Detector

# Values of each recording that are kept for coders, probes and pictures: 4 MiB of float32.
KEPT_VALUES = 1 << 20


@dataclass(frozen=True, eq=False)
class Scores:
    """Scored frames of one recording.

    Args:
        numbers: (n,) int64, rising; of the frames within the recording.
        scores: (n,) float64.
        alerts: (n,) True where the frame alerts.
        threshold: the cut-off.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]
    alerts: NDArray[np.bool_]
    threshold: float


@dataclass(frozen=True, eq=False)
class Observation:
    """All that a report needs of a model and a recording.

    Args:
        manifest: of the model.
        scores: of all usable frames.
        meter: errors of the samples that each usable frame adds.
        codes: (k, latent) of the first frames, as many as are kept.
        seen: (k, hop, channels) the samples that each of them adds, in own units.
        made: (k, hop, channels) their reconstructions.
    """

    manifest: Manifest
    scores: Scores
    meter: DistortionMeter
    codes: NDArray[Any]
    seen: NDArray[np.float32]
    made: NDArray[np.float32]

    @cached_property
    def distortion(self) -> Distortion:
        """Errors of all usable frames."""
        return self.meter.read()

    @property
    def latent(self) -> NDArray[np.float64]:
        """(k, latent) the codes as the network's own numbers, but for where they are centred."""
        codes, step = self.codes.astype(np.float64), self.manifest.codes.step
        return codes * np.array(step) if step else codes

    @property
    def rows(self) -> NDArray[np.float32]:
        """(k * hop, channels) the samples that are kept; where one is missing, the center, as the network takes it."""
        rows = self.seen.reshape(-1, self.seen.shape[-1])
        return np.where(np.isnan(rows), np.array(self.manifest.scaling.center, np.float32), rows)


def join(first: Observation, second: Observation) -> Observation:
    """Two recordings of one model as one, for its codes; the scores are the first's."""
    hop, channels = first.seen.shape[1:]
    room = max(0, KEPT_VALUES // (hop * channels) - len(first.seen))
    codes, seen, made = (
        np.concatenate([getattr(first, name), getattr(second, name)[:room]]) for name in ("codes", "seen", "made")
    )
    return replace(first, meter=first.meter.merge(second.meter), codes=codes, seen=seen, made=made)


class Observer:
    """Asks one model about frames, a few at a time."""

    def __init__(self, detector: Detector) -> None:
        """Start with no frames."""
        self._detector = detector
        contract = detector.manifest.contract
        self._hop = contract.hop
        self._room = max(1, KEPT_VALUES // (contract.hop * len(contract.channels)))
        scaling = detector.manifest.scaling
        self._meter = DistortionMeter(np.array(scaling.center), np.array(scaling.scale))
        self._numbers: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._kept: list[tuple[NDArray[Any], ...]] = []

    def add(self, numbers: NDArray[np.int64], frames: NDArray[Any]) -> NDArray[np.float32]:
        """Infer usable frames (n, length, channels); returns their reconstructions."""
        step = self._detector.manifest.batch_frames
        parts = [self._infer(frames[start : start + step]) for start in range(0, len(frames), step)]
        self._numbers.append(numbers)
        return np.concatenate([np.empty((0, *frames.shape[1:]), np.float32), *parts])

    def read(self) -> Observation:
        """What was said so far."""
        contract = self._detector.manifest.contract
        nothing = np.empty((0, contract.hop, len(contract.channels)), np.float32)
        empty = np.empty((0, self._detector.manifest.codes.latent), np.float32), nothing, nothing
        codes, seen, made = (np.concatenate(arrays) for arrays in zip(*(self._kept or [empty]), strict=True))
        return Observation(self._detector.manifest, self._read_scores(), self._meter, codes, seen, made)

    def _infer(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        inference = self._detector.infer(frames)
        seen, made = frames[:, -self._hop :], inference.frames[:, -self._hop :]
        self._meter.add(seen, made)
        self._scores.append(inference.scores.astype(np.float64))
        if self._room:
            kept = min(self._room, len(frames))
            self._kept.append((inference.codes[:kept], seen[:kept].copy(), made[:kept].copy()))
            self._room -= kept
        return inference.frames

    def _read_scores(self) -> Scores:
        # In float32, as the stream compares: a score on the threshold alerts.
        threshold = float(np.float32(self._detector.manifest.threshold.value))
        scores = np.concatenate([np.empty(0), *self._scores])
        numbers = np.concatenate([np.empty(0, np.int64), *self._numbers])
        return Scores(numbers, scores, ~(scores < threshold), threshold)
