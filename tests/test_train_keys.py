"""One Beam run trains a model per key and the layers below it; one that cannot be trained fails nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_train import SMALL, make_samples, make_stream

from ae_model import artifact
from ae_model.exceptions import TrainingError
from ae_model.keras_hooks import forgetting
from ae_model.model import Detector
from ae_model.scopes import Scope
from pipelines.model_plans import plan_models
from pipelines.stream_file import StreamFile
from pipelines.train import train_stream
from pipelines.train_keys import KeysSummary, train_keys

COHORT = r"^(hall-\d)"


def make_keyed(cohort: str | None = COHORT, **changes: Any) -> StreamFile:
    stream = make_stream(replace(SMALL, **changes))
    return stream.model_copy(update={"key": "pump", "cohort": cohort})


def save_keys(folder: Path, **samples: NDArray[np.float32]) -> str:
    """A file per key, whose name has a - for each _."""
    folder.mkdir()
    for key, rows in samples.items():
        np.savez(folder / f"{key.replace('_', '-')}.npz", train=rows)
    return f"{folder}::train"


def train(tmp_path: Path, data: str, stream: StreamFile | None = None) -> tuple[KeysSummary, list[str]]:
    lines: list[str] = []
    return train_keys(stream or make_keyed(), data, tmp_path / "models", (), lines.append), lines


def load(tmp_path: Path, name: str) -> Detector:
    return Detector.load(artifact.resolve(tmp_path / "models", name))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeysSummary, list[str]]:
    """A key with enough data, one with too little, and one of no cohort that stands still."""
    folder = tmp_path_factory.mktemp("keys")
    still = np.ones((200, 4), np.float32)
    data = save_keys(
        folder / "data", hall_1_a=make_samples(400, seed=1), hall_1_b=make_samples(60, seed=2), still=still
    )
    return folder, *train(folder, data)


def test_each_key_with_enough_data_has_a_model_and_each_cohort_and_all_have_one(
    trained: tuple[Path, KeysSummary, list[str]],
) -> None:
    _, summary, _ = trained

    assert [(line.model, line.layer, line.key, line.keys, line.state) for line in summary.models] == [
        ("pump.own.hall-1-a", "own", "hall-1-a", 1, "current"),
        ("pump.own.hall-1-b", "own", "hall-1-b", 1, "failed"),
        ("pump.own.still", "own", "still", 1, "failed"),
        ("pump.cohort.hall-1", "cohort", "hall-1", 2, "current"),
        ("pump", "global", None, 3, "current"),
        ("pump.statistics", "statistics", None, 3, "current"),
    ]
    assert [line.frames for line in summary.models] == [400, 60, 200, 460, 660, 660]


def test_models_that_failed_are_named_with_the_reason_and_leave_nothing(
    trained: tuple[Path, KeysSummary, list[str]],
) -> None:
    folder, summary, lines = trained

    reasons = {line.model: line.reason for line in summary.models if line.state == "failed"}
    assert "training=43" in reasons["pump.own.hall-1-b"]
    assert "all 4 constant" in reasons["pump.own.still"]
    assert [line for line in lines if line.startswith("note: ")] == [
        f"note: {model} failed: {reason}" for model, reason in reasons.items()
    ]
    assert lines[-1].startswith("pump: 6 models, 4 current, 0 refused, 2 failed (")
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "pump",
        "pump.cohort.hall-1",
        "pump.cohort.hall-1.pca",
        "pump.own.hall-1-a",
        "pump.own.hall-1-a.pca",
        "pump.pca",
        "pump.statistics",
    ]


def test_each_manifest_says_for_which_keys_it_is(trained: tuple[Path, KeysSummary, list[str]]) -> None:
    folder, summary, _ = trained

    for line in summary.models:
        if line.state == "current":
            manifest = load(folder, line.model).manifest
            assert (manifest.name, manifest.version) == (line.model, line.version)
            assert manifest.scope == Scope(line.layer, line.key, COHORT if line.layer == "cohort" else None)  # type: ignore[arg-type]
            assert manifest.threshold.value == line.threshold


def test_own_model_is_the_one_that_its_data_alone_would_give(
    tmp_path: Path, trained: tuple[Path, KeysSummary, list[str]]
) -> None:
    folder, _, _ = trained
    frames = make_samples(seed=9)[:, None, :]

    train_stream(make_stream(), f"{folder}/data/hall-1-a.npz::train", tmp_path / "models", (), lambda line: None)

    alone, among = load(tmp_path, "pump"), load(folder, "pump.own.hall-1-a")
    np.testing.assert_array_equal(alone.infer(frames).scores, among.infer(frames).scores)
    np.testing.assert_array_equal(alone.encode(frames), among.encode(frames))
    assert alone.manifest.threshold == among.manifest.threshold
    assert alone.manifest.metrics == among.manifest.metrics


def test_statistics_expect_the_median_and_have_codes_like_the_others(
    trained: tuple[Path, KeysSummary, list[str]],
) -> None:
    folder, _, _ = trained
    frames = make_samples(seed=9)[:, None, :]

    statistics = load(folder, "pump.statistics")
    inference = statistics.infer(frames)

    center = np.array(statistics.manifest.scaling.center, np.float32)
    np.testing.assert_allclose(inference.frames, np.broadcast_to(center, frames.shape), rtol=1e-6)
    # Of all keys, each its first 72 %.
    pooled = np.concatenate([make_samples(400, seed=1)[:288], make_samples(60, seed=2)[:43], np.ones((144, 4))])
    ranks = (pooled <= center).mean(axis=0)
    assert ((ranks > 0.47) & ((pooled < center).mean(axis=0) < 0.53)).all()
    assert inference.codes.shape == (len(frames), SMALL.latent)
    assert not inference.codes.any()
    assert statistics.decode(inference.codes[:3]).tolist() == inference.frames[:3].tolist()


def test_summary_is_json(trained: tuple[Path, KeysSummary, list[str]]) -> None:
    _, summary, _ = trained

    document = json.loads(json.dumps(summary.as_json(), allow_nan=False))

    assert (document["stream"], document["key"], len(document["models"])) == ("pump", "pump", 6)
    assert document["models"][-1]["pca_error"] is None


def test_trained_again_each_passes_the_gate_for_itself(
    tmp_path: Path, trained: tuple[Path, KeysSummary, list[str]]
) -> None:
    folder, _, _ = trained
    shutil.copytree(folder / "models", tmp_path / "models")
    data = save_keys(tmp_path / "data", hall_1_a=make_samples(400, seed=1))

    summary, _ = train(tmp_path, data, make_keyed(cohort=None, latent=1, epochs=1))

    found = {line.model: (line.state, line.version) for line in summary.models}
    assert found["pump.own.hall-1-a"] == ("refused", 2)
    assert found["pump.statistics"] == ("current", 2)
    assert artifact.current(tmp_path / "models", "pump.own.hall-1-a") == 1
    assert [entry.name for entry in (tmp_path / "models").iterdir() if entry.name.startswith(".")] == []


def test_data_from_which_nothing_can_be_made_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    data = save_keys(tmp_path / "data", a=np.ones((400, 4), np.float32), b=np.full((9, 4), np.nan, np.float32))

    with pytest.raises(TrainingError, match="all 4 constant"):
        train(tmp_path, data)

    assert list((tmp_path / "models").iterdir()) == []


def test_without_a_cohort_there_are_three_layers() -> None:
    plans = plan_models(make_keyed(cohort=None), ["b", "a", "b"])

    assert [(plan.name, plan.keys) for plan in plans] == [
        ("pump.own.a", ("a",)),
        ("pump.own.b", ("b",)),
        ("pump", ("a", "b")),
        ("pump.statistics", ("a", "b")),
    ]


def test_key_of_no_cohort_is_in_none() -> None:
    plans = plan_models(make_keyed(), ["hall-1-a", "yard"])

    assert [plan.keys for plan in plans if plan.scope.layer == "cohort"] == [("hall-1-a",)]


@pytest.mark.slow
def test_a_fit_leaves_nothing_behind() -> None:
    """What is left of a fit adds up over a thousand keys; without ``forgetting`` it is 2 to 7 MiB each."""
    import small_models

    from ae_model.training import fit

    def rss_mib() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    frames = small_models.make_frames(300)
    sizes = []
    for _ in range(20):
        with forgetting():
            parts = (small_models.CONTRACT, small_models.CONFIG, small_models.make_scaling(frames))
            fit(*parts, small_models.batches(frames), small_models.batches(frames[:60]))
        sizes.append(rss_mib())

    assert sizes[-1] - sizes[5] < 10
