"""Frames of many keys in one batch get what each one's model says of them alone, in any order and any pieces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keyed_models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyed_models import KEYS, NAMES
from numpy.typing import NDArray
from small_batches import make_raw
from small_models import make_frames

from ae_model.exceptions import ArtifactError
from ae_model.model import Detector
from ae_model.scopes import EVERY_KEY
from ae_model.scoring import Inference
from ae_model.verify import describe
from pipelines.detectors import DetectorCache
from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome
from pipelines.inference import bury
from pipelines.key_inference import group_rows, infer_by_key
from pipelines.routes import Candidate, Routes, find_routes

FIELDS = ("codes", "denoised", "errors", "channel_errors", "latent_distance", "scores")
FRAMES = make_frames(40, seed=6)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keyed_models.publish_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def alone(models: Path) -> dict[str, tuple[Detector, Inference]]:
    """What each model says of all frames."""
    return {name: (detector, detector.infer(FRAMES)) for name, detector in keyed_models.load_all(models).items()}


def make_batch(keys: Sequence[bytes | None], first: int = 0, frames: NDArray[np.float32] = FRAMES) -> FrameBatch:
    part = frames[first : first + len(keys)]
    return FrameBatch(make_raw([frame.tobytes() for frame in part], first, keys=keys), part)


def check(
    inferred: InferredBatch, keys: Sequence[bytes | None], first: int, alone: dict[str, tuple[Detector, Inference]]
) -> None:
    """Each row is what the model of its key says of that frame alone."""
    for row, key in enumerate(keys):
        detector, said = alone[NAMES[key]]
        scorer, manifest = inferred.scorer(row), detector.manifest
        assert (scorer.model, scorer.version, scorer.layer) == (manifest.name, 1, manifest.scope.layer)
        assert scorer.threshold == manifest.threshold.value
        for name in FIELDS:
            expected = getattr(said, "frames" if name == "denoised" else name)[first + row]
            np.testing.assert_allclose(getattr(inferred, name)[row], expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=40),
    st.lists(st.integers(1, 39), max_size=4),
    st.sampled_from([1, 1 << 30]),
)
def test_any_interleaving_and_chunking_gives_what_each_model_says_alone(
    models: Path,
    alone: dict[str, tuple[Detector, Inference]],
    keys: list[bytes | None],
    cuts: list[int],
    limit_bytes: int,
) -> None:
    routes, cache = keyed_models.routes(models), CACHES.setdefault(limit_bytes, DetectorCache(limit_bytes))
    whole = make_batch(keys)

    for start, stop in pairwise([0, *sorted({cut for cut in cuts if cut < len(keys)}), len(keys)]):
        [outcome] = infer_by_key(routes, whole.slice(start, stop), cache)

        assert outcome.inferred is not None
        assert outcome.inferred.records.offsets.tolist() == list(range(start, stop))
        assert outcome.inferred.records.answers_for == (start, stop - 1)
        check(outcome.inferred, keys[start:stop], start, alone)


# By limit: with 1 byte each model that is loaded drives out the one before it.
CACHES: dict[int, DetectorCache] = {}


def test_rows_that_ask_the_same_models_are_one_call(models: Path) -> None:
    groups = group_rows(keyed_models.routes(models), make_batch([b"c", b"a-1", None, b"new", b"a-1"]).records.keys)

    assert [(candidates[0].model, rows.tolist()) for candidates, rows in groups] == [
        ("small", [0, 2, 3]),
        ("small.own.a-1", [1, 4]),
    ]


def test_no_frames_are_no_outcome(models: Path) -> None:
    assert infer_by_key(keyed_models.routes(models), make_batch([]), DetectorCache()) == []


def test_alerts_are_by_each_model_s_own_threshold(models: Path, alone: dict[str, tuple[Detector, Inference]]) -> None:
    keys = [b"a-1", b"c"] * 20

    [outcome] = infer_by_key(keyed_models.routes(models), make_batch(keys), DetectorCache())

    assert outcome.inferred is not None
    expected = [
        bool(alone[NAMES[key]][1].scores[row] >= np.float32(alone[NAMES[key]][0].manifest.threshold.value))
        for row, key in enumerate(keys)
    ]
    assert outcome.inferred.alerting.tolist() == expected
    assert outcome.inferred.count_layers() == {"own": 20, "global": 20}


def spoil_golden(folder: Path) -> None:
    """Let a model compute something else than it says it did, with all hashes in order."""
    golden = folder / "assets" / "golden.npz"
    with np.load(golden) as archive:
        arrays = dict(archive)
    np.savez(golden, **{**arrays, "expected_scores": arrays["expected_scores"] + 1})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["assets/golden.npz"] = vars(describe(golden))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_model_that_is_refused_when_it_is_loaded_leaves_its_key_to_the_next_layer(
    models: Path, alone: dict[str, tuple[Detector, Inference]], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(models, tmp_path / "models"))
    spoil_golden(copy / "small.own.a-1" / "1")
    routes, cache = find_routes(keyed_models.make_stream(), copy), DetectorCache()

    for _ in range(2):
        [outcome] = infer_by_key(routes, make_batch([b"a-1", b"a-2", b"c"]), cache)

    assert outcome.inferred is not None
    assert [outcome.inferred.scorer(row).layer for row in range(3)] == ["cohort", "cohort", "global"]
    # One model for two keys is named once.
    assert len(outcome.inferred.scorers) == 2


def test_no_model_that_can_be_loaded_stops_the_run(models: Path, tmp_path: Path) -> None:
    routes = Routes(str(tmp_path), (Candidate("global", "gone", 1),), keyed=True)

    with pytest.raises(ArtifactError, match="gone/1"):
        infer_by_key(routes, make_batch([b"c"]), DetectorCache())


class Fussy:
    """Says the sum of a frame's samples, and fails where it is negative."""

    def __init__(self, name: str) -> None:
        self.manifest = SimpleNamespace(
            name=name, version=1, scope=EVERY_KEY, threshold=SimpleNamespace(value=1.0), batch_frames=3
        )

    def infer(self, frames: NDArray[np.float32]) -> Inference:
        sums = frames.sum(axis=(1, 2))
        if (sums < 0).any():
            raise RuntimeError("kernel said no")
        return Inference(sums[:, None], frames, sums, sums[:, None], sums, sums)


class FussyCache:
    def has_refused(self, path: str) -> bool:
        return False

    def get(self, path: str) -> Any:
        return Fussy(path.split("/")[-2])


@given(st.lists(st.tuples(st.sampled_from([b"x", b"y", b"z"]), st.booleans()), min_size=1, max_size=12))
def test_frames_that_a_model_cannot_take_are_dead_and_the_rest_is_one_result(rows: list[tuple[bytes, bool]]) -> None:
    routes = Routes("m", (Candidate("global", "all", 1),), keyed=True, own={"x": Candidate("own", "x", 1)})
    samples = np.array([-1.0 if bad else 1.0 + i for i, (_, bad) in enumerate(rows)], np.float32)
    batch = make_batch([key for key, _ in rows], frames=samples.reshape(-1, 1, 1))

    outcomes: list[Outcome] = infer_by_key(routes, batch, FussyCache())  # type: ignore[arg-type]

    good = [outcome.inferred for outcome in outcomes if outcome.inferred is not None]
    letters = [letter for outcome in outcomes for letter in bury(outcome)]
    assert len(good) == (not all(bad for _, bad in rows))
    assert [int(o) for part in good for o in part.records.offsets] == [i for i, (_, bad) in enumerate(rows) if not bad]
    assert [float(s) for part in good for s in part.scores] == [s for s in samples.tolist() if s > 0]
    assert [letter.offset for letter in letters] == [i for i, (_, bad) in enumerate(rows) if bad]
    assert all("kernel said no" in letter.message for letter in letters)
