"""Loaded models of this process, bounded by bytes: the least recently used goes first. No Beam.

A stream with a model per key has more models than fit in memory. Each is verified and loaded when
a frame first needs it, and given away when others need the room; a call that is using it keeps it.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from ae_model.exceptions import ArtifactError
from ae_model.manifest import SAVED_MODEL, Manifest
from ae_model.model import Detector
from pipelines.meters import METERS

DEFAULT_CACHE_MIB = 1024
# Resident bytes of a loaded graph per byte of its file, beside the weights: 33 to 64 were measured over all families.
_GRAPH_FACTOR = 64
# Room is made for several at once: what an evicted graph held comes back with a full collection, which takes 0.1 s.
_KEPT_SHARE = 0.8


class DetectorCache:
    """Detectors by path; threads may share it.

    Args:
        limit_bytes: of all together. One alone may be larger.
    """

    def __init__(self, limit_bytes: int = DEFAULT_CACHE_MIB << 20) -> None:
        """Start empty."""
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._detectors: OrderedDict[str, Detector] = OrderedDict()
        self._loading: dict[str, Future[Detector]] = {}
        self._refused: dict[str, ArtifactError] = {}
        self._count: Callable[[str, int], None] = METERS.add

    def get(self, path: str) -> Detector:
        """The artifact at ``path``, verified and loaded if it is not here; one that is refused stays so.

        The reference is the caller's: as long as it holds it, no eviction takes the model away.

        Raises:
            ArtifactError: the folder is absent, damaged or refused.
        """
        place = str(Path(path).resolve())
        with self._lock:
            if place in self._refused:
                raise self._refused[place]
            if place in self._detectors:
                self._detectors.move_to_end(place)
                return self._detectors[place]
            waiting = self._loading.get(place)
            mine: Future[Detector] = self._loading.setdefault(place, Future())
        # Outside of the lock: other threads go on with what is loaded.
        return self._load(place, mine) if waiting is None else waiting.result()

    def set_limit(self, limit_bytes: int) -> None:
        """Bound what is kept from now on."""
        with self._lock:
            self._limit_bytes = limit_bytes

    def tell(self, count: Callable[[str, int], None]) -> None:
        """Report ``model_loads`` and ``model_evictions`` to somebody else than this process' meters."""
        self._count = count

    def has_refused(self, path: str) -> bool:
        """Whether the artifact at ``path`` was refused before."""
        with self._lock:
            return str(Path(path).resolve()) in self._refused

    def forget_refused(self) -> None:
        """Try again what was refused, in a run to come."""
        with self._lock:
            self._refused.clear()

    def clear(self) -> None:
        """Keep nothing."""
        self.forget_refused()
        with self._lock:
            self._detectors.clear()

    def _load(self, place: str, waited_for: Future[Detector]) -> Detector:
        try:
            detector = Detector.load(Path(place))
        except BaseException as exc:
            with self._lock:
                del self._loading[place]
                if isinstance(exc, ArtifactError):
                    self._refused[place] = exc
            waited_for.set_exception(exc)
            raise
        with self._lock:
            del self._loading[place]
            self._detectors[place] = detector
            evicted = self._make_room()
        waited_for.set_result(detector)
        self._count("model_loads", 1)
        if evicted:
            self._count("model_evictions", evicted)
            # A graph is a cycle: it would stay until the collector comes by itself.
            gc.collect()
        return detector

    def _make_room(self) -> int:
        """Drop the least recently used, but for the newest, until there is room; how many."""
        total = sum(measure(detector.manifest) for detector in self._detectors.values())
        if total <= self._limit_bytes:
            return 0
        evicted = 0
        while total > self._limit_bytes * _KEPT_SHARE and len(self._detectors) > 1:
            _, dropped = self._detectors.popitem(last=False)
            total -= measure(dropped.manifest)
            evicted += 1
        return evicted


def measure(manifest: Manifest) -> int:
    """Bytes that a loaded model takes, near enough: its weights, and what TensorFlow makes of its graph."""
    weights = sum(record.bytes for path, record in manifest.files.items() if path.startswith("variables/"))
    return weights + _GRAPH_FACTOR * manifest.files[SAVED_MODEL].bytes


DETECTORS = DetectorCache()
