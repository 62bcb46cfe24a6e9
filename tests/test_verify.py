import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import CONTRACT, fitted, make_frames

from ae_model import manifest
from ae_model.exceptions import ArtifactError
from ae_model.model import Detector
from ae_model.networks.graph import Graph
from ae_model.verify import describe, files, verify

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


def reseal(folder, **changes):
    """What an attacker, or a careless person, does: write a manifest that fits the files."""
    records = {path: describe(folder / path) for path in files(folder)}
    (folder / "manifest.json").write_text(replace(manifest.read(folder), files=records, **changes).to_json())


def resave(folder, graph, signatures=None, **attributes):
    """Put another program in the place of the model."""
    module = tf.Module()
    module.weights = [variable.value for variable in [*fitted().encoder.variables, *fitted().decoder.variables]]
    for name, value in attributes.items():
        setattr(module, name, value)
    shutil.rmtree(folder / "variables")
    tf.saved_model.save(module, str(folder), signatures=signatures or graph.signatures())
    reseal(folder)


def rogue(infer):
    """The small model's graph with another ``infer``."""
    model = fitted()

    class Rogue(Graph):
        def infer(self, frames):
            return infer(super().infer(frames))

    codes = (model.code_mean, model.code_covariance, model.code_format)
    return Rogue(CONTRACT, model.scaling, model.encoder, model.decoder, *codes, model.formula)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected format 1. Received: format=2"),
        ({"format": None}, "expected format 1. Received: format=None"),
        ({"surprise": 1}, "unknown keys"),
        ({"network": {"latnet": 3}}, "Did you mean 'latent'"),
        ({"contract": {"length": 0}}, "length: expected"),
        ({"threshold": 3}, "expected a manifest of format 1"),
        ({"files": {"../secret": {"sha256": "", "bytes": 1}}}, "a path that leaves the folder"),
        ({"files": {"/etc/passwd": {"sha256": "", "bytes": 1}}}, "a path that leaves the folder"),
        ({"golden": "../golden.npz"}, "a path that leaves the folder"),
    ],
)
def test_a_manifest_of_another_make_is_refused(folder, change, message):
    mapping = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**mapping, **change}))

    with pytest.raises(ArtifactError, match=message):
        verify(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"])
def test_what_is_no_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)

    with pytest.raises(ArtifactError, match=r"manifest\.json: expected"):
        verify(folder)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"expected a folder with manifest.json. Received: FileNotFoundError"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize("path", FILES)
def test_one_flipped_bit_is_refused(folder, path):
    content = bytearray((folder / path).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / path).write_bytes(content)

    with pytest.raises(ArtifactError, match=f"{path} with sha256"):
        Detector.load(folder)


@pytest.mark.parametrize("path", FILES)
def test_a_truncated_file_is_refused(folder, path):
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(content[:-1])

    with pytest.raises(ArtifactError, match=f"{path} of {len(content)} bytes"):
        verify(folder)


@pytest.mark.parametrize("path", FILES)
def test_a_missing_file_is_refused(folder, path):
    (folder / path).unlink()

    with pytest.raises(ArtifactError, match=f"exactly the files in manifest.json. Received: {path}=missing"):
        verify(folder)


@pytest.mark.parametrize("path", ["extra.bin", "variables/variables.data-00001-of-00002", "saved_model.pbtxt"])
def test_a_file_too_many_is_refused(folder, path):
    (folder / path).write_text("")

    with pytest.raises(ArtifactError, match=f"{path}=not in the manifest"):
        verify(folder)


def test_a_second_spelling_of_the_graph_is_refused_even_when_listed(folder):
    (folder / "saved_model.cpb").write_text("")
    reseal(folder)

    with pytest.raises(ArtifactError, match=r"saved_model\.pb as the only graph"):
        verify(folder)


def test_links_are_refused(folder, tmp_path):
    (folder / "README.md").rename(tmp_path / "elsewhere.md")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere.md")

    with pytest.raises(ArtifactError, match="plain files and folders only"):
        verify(folder)


def test_a_linked_folder_is_refused(folder, tmp_path):
    (folder / "variables").rename(tmp_path / "variables")
    (folder / "variables").symlink_to(tmp_path / "variables")

    with pytest.raises(ArtifactError, match="plain files and folders only"):
        verify(folder)


def test_a_version_under_another_number_is_refused(folder):
    moved = folder.rename(folder.parent / "7")

    with pytest.raises(ArtifactError, match=r"expected version 7 in manifest.json. Received: version=1"):
        verify(moved)


def test_a_graph_that_is_not_a_graph_is_refused(folder):
    (folder / "saved_model.pb").write_bytes(b"\xff" * 64)
    reseal(folder)

    with pytest.raises(ArtifactError, match=r"a readable saved_model\.pb"):
        verify(folder)


def test_a_model_that_writes_files_is_refused_before_it_runs(folder, tmp_path):
    target = tmp_path / "written"

    def write(outputs):
        tf.io.write_file(str(target), "gotcha")
        return outputs

    resave(folder, rogue(write))

    with pytest.raises(ArtifactError, match=r"operations on tensors alone\. Received: op=WriteFile"):
        Detector.load(folder)
    assert not target.exists()
    # Without the check it does write, on the first call.
    tf.saved_model.load(str(folder)).signatures["infer"](frames=tf.constant(make_frames(1)))
    assert target.read_text() == "gotcha"


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda: tf.io.read_file("/etc/hostname"), "ReadFile"),
        (lambda: tf.raw_ops.SaveV2(prefix="/x", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]), "SaveV2"),
        (lambda: tf.print("hello"), "StringFormat"),
        (lambda: tf.py_function(lambda: 1.0, [], tf.float32), "EagerPyFunc"),
    ],
)
def test_operations_beyond_tensors_are_refused(folder, operation, name):
    def act(outputs):
        operation()
        return outputs

    resave(folder, rogue(act))

    with pytest.raises(ArtifactError, match=f"operations on tensors alone. Received: op={name}"):
        verify(folder)


def test_a_model_that_changes_its_weights_is_refused(folder):
    def drift(outputs):
        fitted().encoder.variables[0].value.assign_add(tf.zeros_like(fitted().encoder.variables[0].value))
        return outputs

    resave(folder, rogue(drift))

    with pytest.raises(ArtifactError, match="op=AssignAddVariableOp"):
        verify(folder)


class Resource(tf.saved_model.experimental.TrackableResource):
    """An object whose code runs while it loads, though all of its operations are harmless here."""

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _initialize(self):
        return tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.float32)


def make_table():
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), 0)


@pytest.mark.parametrize(
    ("make", "reason"), [(make_table, "op=HashTableV2"), (Resource, "object=resource")], ids=["table", "resource"]
)
def test_an_object_that_acts_while_it_loads_is_refused(folder, make, reason):
    resave(folder, fitted().graph, something=make())

    with pytest.raises(ArtifactError, match=f"Received: {reason}"):
        verify(folder)


@pytest.mark.parametrize("name", ["infer", "encode", "decode", "reconstruct", "serving_default"])
def test_a_missing_signature_is_refused(folder, name):
    signatures = {key: function for key, function in fitted().graph.signatures().items() if key != name}
    resave(folder, fitted().graph, signatures=signatures)

    with pytest.raises(ArtifactError, match=f"expected signature {name}"):
        verify(folder)


def test_signatures_that_do_not_fit_the_contract_are_refused(folder):
    reseal(folder, contract=replace(CONTRACT, length=5, hop=5))

    with pytest.raises(ArtifactError, match=r"signature infer with inputs .*FLOAT\[-1,5,3\].*FLOAT\[-1,4,3\]"):
        verify(folder)


def test_an_output_of_another_name_is_refused(folder):
    resave(folder, rogue(lambda outputs: {"surprise": outputs.pop("scores"), **outputs}))

    with pytest.raises(ArtifactError, match="signature infer with outputs"):
        verify(folder)


def test_a_model_that_computes_something_else_is_refused_by_its_golden_frames(folder):
    resave(folder, rogue(lambda outputs: {**outputs, "codes": outputs["codes"] * 1.001}))

    with pytest.raises(ArtifactError, match="expected codes of the golden frames within 1e-05"):
        Detector.load(folder)


@pytest.mark.parametrize("content", [{}, {"frames": make_frames(2)}, "no zip"], ids=["empty", "half", "garbage"])
def test_golden_frames_that_cannot_be_read_are_refused(folder, content):
    path = folder / "assets" / "golden.npz"
    path.write_text(content) if isinstance(content, str) else np.savez(path, **content)
    reseal(folder)

    with pytest.raises(ArtifactError, match=r"expected golden frames in assets/golden\.npz"):
        Detector.load(folder)
