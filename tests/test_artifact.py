import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_models
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONFIG, CONTRACT, THRESHOLD, export, facts, fitted, make_frames
from tensorflow_metadata.proto.v0 import schema_pb2

from ae_model import artifact, manifest
from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.manifest import Manifest, TrainingRecord, schema_text
from ae_model.verify import verify

FILES = [
    "README.md",
    "assets/golden.npz",
    "fingerprint.pb",
    "saved_model.pb",
    "schema.pbtxt",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_models.publish(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original, tmp_path):
    """A published version that a test may damage."""
    return shutil.copytree(original, tmp_path / "small" / "1")


def test_a_published_folder_verifies_and_says_all_that_can_change_a_score(original):
    found = verify(original)

    assert (found.format, found.name, found.version) == (1, "small", 1)
    assert found.created == "2026-11-21T10:00:00Z"
    assert (found.contract, found.network, found.threshold) == (CONTRACT, CONFIG, THRESHOLD)
    assert (found.codes.latent, found.codes.dtype) == (3, "float32")
    assert found.scaling == fitted().scaling
    assert found.training == TrainingRecord(
        "two sines", {"training": 300, "validation": 60, "calibration": 50}, fitted().history
    )
    assert found.metrics == {"model": {"mse": 0.25}, "baseline": {"mse": 0.5}}
    assert found.batch_frames == 64
    assert sorted(found.libraries) == ["keras", "numpy", "python", "tensorflow"]
    assert list(found.files) == FILES


def test_the_manifest_is_the_same_text_after_a_round_trip(original):
    text = (original / "manifest.json").read_text()

    assert Manifest.from_json(text).to_json() == text
    assert '"channels": ["flow", "heat", "idle"],' in text


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.text())
def test_any_names_survive_the_manifest(original, channels, data):
    found = manifest.read(original)
    strange = replace(
        found,
        contract=replace(found.contract, channels=tuple(channels), units=()),
        training=replace(found.training, data=data),
    )

    assert Manifest.from_json(strange.to_json()) == strange


def test_a_metric_that_is_not_finite_is_not_written(tmp_path):
    broken = replace(facts(), metrics={"model": {"recall": float("nan")}})

    with pytest.raises(ArtifactError, match="expected finite numbers"):
        artifact.export(tmp_path / "candidate", fitted(), broken, make_frames(2))


def test_export_never_mixes_with_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ArtifactError, match="absent or empty folder"):
        artifact.export(tmp_path, fitted(), facts(), make_frames(2))


@pytest.mark.parametrize("golden", [make_frames(0), make_frames(2) * np.float32(np.nan)], ids=["none", "nan"])
def test_export_wants_usable_golden_frames(tmp_path, golden):
    with pytest.raises(ArtifactError, match="usable golden frames"):
        artifact.export(tmp_path / "candidate", fitted(), facts(), golden)


def test_the_card_tells_what_the_model_is(original):
    card = (original / "README.md").read_text()

    assert "# small\n\nDense autoencoder 4x3 - 8 - 3 - 8 - 4x3, created 2026-11-21T10:00:00Z." in card
    assert "4 samples x 3 channels of float32, a new frame every 4 samples, 2 samples per second." in card
    assert "Channels: flow (l/s), heat (K), idle." in card
    assert "Codes of 3 float32, 12 bytes a frame where the frame has 48." in card
    assert "At or above 0.5 it is an alert:\nquantile, 0.99, from 50 calibration frames that training" in card
    assert "Data: two sines. Frames: training 300, validation 60, calibration 50." in card
    assert "| metric | model | baseline |\n| --- | --- | --- |\n| mse | 0.25 | 0.5 |" in card
    assert "## Intended use and limits" in card


def test_the_schema_is_one_that_tensorflow_metadata_reads():
    schema = text_format.Parse(schema_text(CONTRACT), schema_pb2.Schema())

    [feature] = schema.feature
    tensor = schema.tensor_representation_group[""].tensor_representation["frame"].dense_tensor
    assert (feature.name, feature.type) == ("frame", schema_pb2.FLOAT)
    assert [dim.size for dim in feature.shape.dim] == [12]
    assert (tensor.column_name, [dim.size for dim in tensor.shape.dim]) == ("frame", [4, 3])


def test_versions_count_up_and_the_last_published_is_current(tmp_path):
    candidate = export(tmp_path / "candidate")
    models = tmp_path / "models"

    published = [artifact.publish(candidate, models, "small") for _ in range(3)]

    assert published == [1, 2, 3]
    assert artifact.versions(models, "small") == [1, 2, 3]
    assert artifact.current(models, "small") == 3
    assert artifact.resolve(models, "small") == models / "small" / "3"
    assert [verify(models / "small" / str(version)).version for version in published] == published
    assert sorted(entry.name for entry in (models / "small").iterdir()) == ["1", "2", "3", "CURRENT"]


def test_refused_version_is_published_and_current_never_names_it(tmp_path: Path) -> None:
    candidate = export(tmp_path / "candidate")
    artifact.publish(candidate, tmp_path, "small")

    version = artifact.publish(candidate, tmp_path, "small", promoted=False)

    assert (version, artifact.current(tmp_path, "small"), artifact.versions(tmp_path, "small")) == (2, 1, [1, 2])


def test_promote_moves_the_pointer_and_the_next_version_is_still_the_highest(tmp_path):
    candidate = export(tmp_path / "candidate")
    for _ in range(2):
        artifact.publish(candidate, tmp_path, "small")

    artifact.promote(tmp_path, "small", 1)

    assert artifact.resolve(tmp_path, "small") == tmp_path / "small" / "1"
    assert (tmp_path / "small" / "CURRENT").read_text() == "1\n"
    assert artifact.publish(candidate, tmp_path, "small") == 3


def test_models_that_are_not_there_are_named_with_those_that_are(tmp_path, original):
    models = original.parent.parent

    assert artifact.versions(tmp_path, "small") == []
    with pytest.raises(ArtifactError, match="version=9, versions=\\[1\\]"):
        artifact.resolve(models, "small", 9)
    with pytest.raises(ArtifactError, match="version=9, versions=\\[1\\]"):
        artifact.promote(models, "small", 9)
    with pytest.raises(ArtifactError, match="large/CURRENT"):
        artifact.resolve(models, "large")


def test_a_pointer_that_is_no_number_is_refused(folder):
    (folder.parent / "CURRENT").write_text("latest")

    with pytest.raises(ArtifactError, match=r"number of a version in small/CURRENT. Received: ValueError"):
        artifact.resolve(folder.parent.parent, "small")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../up", ".hidden"])
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="name: expected letters"):
        artifact.versions(tmp_path, name)


def test_a_damaged_candidate_is_not_published(tmp_path):
    candidate = export(tmp_path / "candidate")
    (candidate / "README.md").write_text("changed")

    with pytest.raises(ArtifactError, match=r"README\.md of"):
        artifact.publish(candidate, tmp_path / "models", "small")
    with pytest.raises(ArtifactError, match=r"expected name other. Received: name=small"):
        artifact.publish(export(tmp_path / "second"), tmp_path / "models", "other")
    assert not (tmp_path / "models").exists()


class Killed(BaseException):
    """The program ends here: nothing it would have done to the disk after it happens."""


def kill_after(monkeypatch, steps):
    """End the program at the given change to the disk; returns how many changes were made."""
    made = []

    def guard(function):
        def guarded(*arguments, **options):
            if len(made) >= steps:
                raise Killed
            made.append(function.__name__)
            return function(*arguments, **options)

        return guarded

    for name in ("mkdir", "fsync", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, guard(getattr(os, name)))
    return made


def test_killed_at_any_step_a_version_is_absent_or_complete(tmp_path, monkeypatch):
    candidate = export(tmp_path / "candidate")
    outcomes = []
    for steps in range(100):
        models = tmp_path / f"models-{steps}"
        artifact.publish(candidate, models, "small")
        with monkeypatch.context() as patches:
            kill_after(patches, steps)
            try:
                artifact.publish(candidate, models, "small")
            except Killed:
                finished = False
            else:
                finished = True

        versions = artifact.versions(models, "small")
        now = artifact.current(models, "small")

        assert [verify(models / "small" / str(version)).version for version in versions] == versions
        outcomes.append((versions, now))
        # Whatever was left behind, the next one goes through.
        assert artifact.publish(candidate, models, "small") == len(versions) + 1
        if finished:
            break

    assert finished
    # The version appears whole, and the pointer follows it.
    assert [outcome for i, outcome in enumerate(outcomes) if i == 0 or outcome != outcomes[i - 1]] == [
        ([1], 1),
        ([1, 2], 1),
        ([1, 2], 2),
    ]


def test_two_who_publish_at_once_get_two_versions(tmp_path, monkeypatch):
    candidate = export(tmp_path / "candidate")
    rename = os.rename
    seen = []

    def rename_late(source, target):
        if not seen:
            seen.append(target)
            seen.append(artifact.publish(candidate, tmp_path, "small"))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_late)
    version = artifact.publish(candidate, tmp_path, "small")

    assert seen == [tmp_path / "small" / "1", 1]
    assert version == 2
    assert [verify(tmp_path / "small" / str(number)).version for number in (1, 2)] == [1, 2]
