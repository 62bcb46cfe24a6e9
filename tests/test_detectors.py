"""Loaded models are bounded by bytes: the least recently used goes, and no call loses the one it uses."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyed_models
import numpy as np
import pytest
from keyed_models import SCOPES

from ae_model.exceptions import ArtifactError
from ae_model.manifest import read
from pipelines.detectors import DetectorCache, measure
from pipelines.meters import METERS


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    models = keyed_models.publish_all(tmp_path_factory.mktemp("models"))
    return [str(models / scope.name("small") / "1") for scope, _ in SCOPES]


@pytest.fixture(autouse=True)
def fresh_meters() -> None:
    METERS.reset()


def counts() -> tuple[int, int]:
    totals, _, _ = METERS.snapshot()
    return totals.get("model_loads", 0), totals.get("model_evictions", 0)


def room_for(paths: list[str], models: int) -> int:
    """Bytes for so many of these models, which are all about as large."""
    return int(models * max(measure(read(Path(path))) for path in paths))


def test_model_is_loaded_once(paths: list[str]) -> None:
    cache = DetectorCache()

    first, again = cache.get(paths[0]), cache.get(f"{paths[0]}/../1")

    assert again is first
    assert counts() == (1, 0)


def test_least_recently_used_goes_first(paths: list[str]) -> None:
    cache = DetectorCache(room_for(paths, 3))
    for path in (paths[0], paths[1], paths[2], paths[0], paths[3]):
        cache.get(path)
    before = counts()

    cache.get(paths[0])
    kept = counts()
    cache.get(paths[1])

    assert before == kept
    assert before[0] == 4
    assert before[1] >= 1
    assert counts()[0] == 5


def test_model_larger_than_the_limit_is_kept_alone(paths: list[str]) -> None:
    cache = DetectorCache(limit_bytes=1)

    first = cache.get(paths[0])

    assert cache.get(paths[0]) is first
    cache.get(paths[1])
    assert counts() == (2, 1)


def test_evicted_model_is_freed_and_one_in_use_goes_on(paths: list[str]) -> None:
    cache = DetectorCache(limit_bytes=1)
    held, gone = cache.get(paths[0]), weakref.ref(cache.get(paths[1]).loaded)
    frames = keyed_models.make_frames(5)
    expected = held.infer(frames).scores

    cache.get(paths[2])
    gc.collect()

    assert gone() is None
    np.testing.assert_array_equal(held.infer(frames).scores, expected)


def test_threads_that_ask_at_once_share_one_load(paths: list[str]) -> None:
    cache = DetectorCache()

    with ThreadPoolExecutor(4) as pool:
        detectors = list(pool.map(cache.get, [paths[0]] * 8))

    assert {id(detector) for detector in detectors} == {id(detectors[0])}
    assert counts() == (1, 0)


def test_threads_that_evict_each_other_s_models_get_what_each_says(paths: list[str]) -> None:
    cache = DetectorCache(limit_bytes=1)
    frames = keyed_models.make_frames(6, seed=4)
    expected = [DetectorCache().get(path).infer(frames).scores for path in paths]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda turn: cache.get(paths[turn % 5]).infer(frames).scores, range(15)))

    for turn, scores in enumerate(found):
        np.testing.assert_array_equal(scores, expected[turn % 5])
    assert counts()[1] > 0


def test_refused_model_is_not_tried_again_until_a_new_run(tmp_path: Path) -> None:
    cache = DetectorCache()
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            cache.get(str(tmp_path))
    keyed_models.publish(tmp_path / "models", *SCOPES[0])
    (tmp_path / "models" / "small.own.a-1" / "1").rename(tmp_path / "1")
    with pytest.raises(ArtifactError):
        cache.get(str(tmp_path))

    cache.forget_refused()

    assert cache.get(str(tmp_path / "1")).manifest.name == "small.own.a-1"
    assert counts() == (1, 0)


def test_measure_counts_weights_and_graph(paths: list[str]) -> None:
    manifest = read(Path(paths[0]))
    weights = sum(record.bytes for path, record in manifest.files.items() if path.startswith("variables/"))

    assert measure(manifest) == weights + 64 * manifest.files["saved_model.pb"].bytes
    assert measure(manifest) > 1 << 20
