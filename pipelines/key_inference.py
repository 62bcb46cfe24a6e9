"""A frame batch of many keys: each key's frames to its own model, and all results back in their places.

::

    rows      a  b  a  c  a          a: own model    b, c: the global one
    calls     a a a        b c       one per model version, whatever the number of keys that share it
    result    a  b  a  c  a          one InferredBatch, which names what scored each row
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.exceptions import ArtifactError
from ae_model.model import Detector
from pipelines.detectors import DETECTORS, DetectorCache
from pipelines.frame_batch import FrameBatch, Outcome, Scorer
from pipelines.model_calls import as_scorer, make_inferred, try_parts
from pipelines.routes import Candidate, Routes

_LOG = logging.getLogger(__name__)


def infer_by_key(routes: Routes, batch: FrameBatch, cache: DetectorCache = DETECTORS) -> list[Outcome]:
    """Infer a batch, each frame by the first model that there is for its key.

    Args:
        routes: which model versions there are.
        batch: frames of any keys.
        cache: of loaded models.

    Returns:
        One Outcome with all frames that the models could take, and one for each that they could not.

    Raises:
        ArtifactError: no model at all can be loaded.
    """
    result = _Gathered(len(batch))
    for candidates, rows in group_rows(routes, batch.records.keys):
        detector = load_first(routes, candidates, cache)
        step = detector.manifest.batch_frames
        for start in range(0, len(rows), step):
            result.add(detector, rows[start : start + step], batch.frames)
    return result.outcomes(batch)


def group_rows(routes: Routes, keys: pa.BinaryArray) -> list[tuple[tuple[Candidate, ...], NDArray[np.int64]]]:
    """The rows that ask the same models, rising; together all rows once."""
    encoded = keys.dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    places: dict[tuple[Candidate, ...], int] = {}
    of_name = np.array([places.setdefault(routes.find(name), len(places)) for name in names])
    index = encoded.indices.fill_null(len(names) - 1).to_numpy()
    of_row = of_name[index]  # (n,)
    # The last name stands for records without a key, of which there may be none.
    return [(candidates, rows) for candidates, place in places.items() if len(rows := np.flatnonzero(of_row == place))]


def load_first(routes: Routes, candidates: tuple[Candidate, ...], cache: DetectorCache) -> Detector:
    """The first of the candidates that can be loaded.

    Raises:
        ArtifactError: none can; that of the last is raised.
    """
    for candidate in candidates[:-1]:
        path = routes.path(candidate)
        known = cache.has_refused(path)
        try:
            return cache.get(path)
        except ArtifactError as exc:
            # Named once; after that the result names the layer that took its place.
            if not known:
                _LOG.error("%s", exc)
    return cache.get(routes.path(candidates[-1]))


class _Gathered:
    """What the models say of the rows of one batch, in their places."""

    def __init__(self, count: int) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._scorers: dict[Scorer, int] = {}
        self._scored_by = np.full(count, -1, np.int32)
        self._reasons: dict[int, str] = {}

    def add(self, detector: Detector, rows: NDArray[np.int64], frames: NDArray[np.float32]) -> None:
        """Infer the frames of some rows by one model."""
        place = self._scorers.setdefault(as_scorer(detector), len(self._scorers))
        start = 0
        for count, said in try_parts(detector, frames[rows]):
            part = rows[start : start + count]
            start += count
            if isinstance(said, str):
                self._reasons[int(part[0])] = said
            else:
                self._put(part, vars(said))
                self._scored_by[part] = place

    def outcomes(self, batch: FrameBatch) -> list[Outcome]:
        """The batch as one result, but for frames that no model could take."""
        failed = [
            Outcome(failed=batch.take(np.array([row])), reason=reason) for row, reason in sorted(self._reasons.items())
        ]
        scorers = tuple(self._scorers)
        if not failed:
            return [Outcome(inferred=make_inferred(batch, self._arrays, scorers, self._scored_by))] if scorers else []
        good = self._scored_by >= 0
        if not good.any():
            return failed
        arrays = {name: array[good] for name, array in self._arrays.items()}
        return [Outcome(inferred=make_inferred(batch.take(good), arrays, scorers, self._scored_by[good])), *failed]

    def _put(self, rows: NDArray[np.int64], said: Mapping[str, NDArray[Any]]) -> None:
        for name, values in said.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((len(self._scored_by), *values.shape[1:]), values.dtype)
            self._arrays[name][rows] = values
