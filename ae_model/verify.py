"""Is a model folder what it says it is? Asked before any of it is run.

A SavedModel is a program: it can write files as well as multiply matrices. So
the order is: files and hashes against the manifest, then the operations in its
graph against a list of harmless ones, then its signatures. The golden frames
are the last check, and need the loaded model: ``Detector.load`` runs them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ae_model.exceptions import ArtifactError
from ae_model.manifest import MANIFEST, SAVED_MODEL, UNPUBLISHED, FileRecord, Manifest, read

# What the networks need, and nothing that reads or writes beyond tensors; weights are only read.
ALLOWED_OPS = frozenset(
    {"AddV2", "BiasAdd", "Cast", "Const", "Identity", "MatMul", "Maximum", "Mean", "Minimum", "Mul", "NoOp", "Pack"}
    | {"ParseExampleV2", "Placeholder", "ReadVariableOp", "RealDiv", "Relu", "Reshape", "Round", "Shape", "Sigmoid"}
    | {"Square", "SquaredDifference", "StatefulPartitionedCall", "StridedSlice", "Sub", "Sum", "VarHandleOp"}
    # Activations; convolutions; recurrent cells, which loop over the samples of a frame; samples of a learned prior.
    | {"Elu", "Erfc", "Neg", "Tanh"}
    | {"ConcatV2", "Conv2D", "Conv2DBackpropInput", "ExpandDims", "Squeeze"}
    | {"Fill", "Less", "LogicalAnd", "Max", "Prod", "Range", "Split", "TensorListFromTensor", "Transpose"}
    | {"TensorListGetItem", "TensorListReserve", "TensorListSetItem", "TensorListStack", "Tile", "While"}
    | {"Erf", "GatherV2", "GreaterEqual", "Ndtri"}
    # Where samples may be missing.
    | {"DivNoNan", "Greater", "IsNan", "LogicalNot", "SelectV2"}
)
# The saver's own, which restore the weights at load; nothing that is served may reach them.
SAVER_OPS = frozenset(
    {"AssignVariableOp", "DisableCopyOnRead", "MergeV2Checkpoints", "RestoreV2", "SaveV2", "Select"}
    | {"ShardedFilename", "StaticRegexFullMatch", "StringJoin"}
)
# Other kinds, such as resources and assets, run code or read files while they load.
_ALLOWED_OBJECTS = frozenset(["user_object", "variable", "bare_concrete_function", "function", "constant"])
_CHUNK_BYTES = 2**20


def verify(folder: Path) -> Manifest:
    """Check files, operations and signatures of a model folder, without running it.

    Raises:
        ArtifactError: the folder is absent, changed since it was written, could reach beyond its
            tensors, or lacks a signature.
    """
    folder = Path(folder)
    manifest = read(folder)
    _check_version(folder, manifest)
    _check_files(folder, manifest)
    graph = _read_graph(folder)
    _check_operations(folder, graph)
    _check_signatures(folder, graph, manifest)
    return manifest


def describe(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(digest.hexdigest(), size)


def files(folder: Path) -> Iterator[str]:
    """The paths of all that is in a folder but folders and the manifest, in order.

    Raises:
        ArtifactError: something is neither a file nor a folder, such as a link.
    """
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from (f"{entry.name}/{path}" for path in files(Path(entry.path)))
        elif not stat.S_ISREG(mode):
            raise _refusal(folder, "plain files and folders only", entry=entry.name, mode=stat.filemode(mode))
        elif entry.name != MANIFEST:
            yield entry.name


def _check_version(folder: Path, manifest: Manifest) -> None:
    # Rows carry the version as part of their id, so a copied folder must not go by another number.
    if manifest.version != UNPUBLISHED and folder.name.isdigit() and int(folder.name) != manifest.version:
        raise _refusal(folder, f"version {folder.name} in {MANIFEST}", version=manifest.version)


def _check_files(folder: Path, manifest: Manifest) -> None:
    found = set(files(folder))
    for path in sorted(found ^ set(manifest.files)):
        received = "missing" if path in manifest.files else "not in the manifest"
        raise _refusal(folder, f"exactly the files in {MANIFEST}", **{path: received})
    # Some loaders also read a graph in other spellings (.cpb, .pbtxt), which are not checked here.
    graphs = sorted(path for path in found if path.startswith("saved_model."))
    if graphs != [SAVED_MODEL] or manifest.golden not in found:
        raise _refusal(folder, f"{SAVED_MODEL} as the only graph, and {manifest.golden}", graphs=graphs)
    for path, expected in manifest.files.items():
        # Size first: a file of another size needs no reading.
        size = (folder / path).stat().st_size
        if size != expected.bytes:
            raise _refusal(folder, f"{path} of {expected.bytes} bytes", bytes=size)
        received = describe(folder / path).sha256
        if received != expected.sha256:
            raise _refusal(folder, f"{path} with sha256 {expected.sha256}", sha256=received)


def _read_graph(folder: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        graphs = SavedModel.FromString((folder / SAVED_MODEL).read_bytes()).meta_graphs
    except DecodeError as exc:
        raise _refusal(folder, f"a readable {SAVED_MODEL}", error=str(exc)) from exc
    if len(graphs) != 1:
        raise _refusal(folder, "one graph", graphs=len(graphs))
    return graphs[0]


def _check_operations(folder: Path, graph: Any) -> None:
    functions = {function.signature.name: list(function.node_def) for function in graph.graph_def.library.function}
    entries = {graph.saver_def.save_tensor_name.split(":")[0], graph.saver_def.restore_op_name}
    nodes = {node.name: node for node in graph.graph_def.node}
    saver = _reachable([nodes[name] for name in entries if name in nodes], functions)

    served = [node for name, node in nodes.items() if name not in entries]
    for name, body in functions.items():
        if name in saver:
            _check_nodes(folder, body, ALLOWED_OPS | SAVER_OPS, set())
        else:
            served.extend(body)
    _check_nodes(folder, served, ALLOWED_OPS, saver)
    _check_objects(folder, graph.object_graph_def, saver)


def _check_nodes(folder: Path, nodes: list[Any], allowed: frozenset[str], forbidden: set[str]) -> None:
    for node in nodes:
        if node.op not in allowed:
            raise _refusal(folder, "operations on tensors alone", op=node.op, node=node.name)
        if forbidden.intersection(_called(node)):
            raise _refusal(folder, "no call of the saver from what is served", node=node.name)


def _check_objects(folder: Path, objects: Any, saver: set[str]) -> None:
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _ALLOWED_OBJECTS:
            raise _refusal(folder, "variables and functions alone", object=kind)
    for name in sorted(saver.intersection(objects.concrete_functions)):
        raise _refusal(folder, "no call of the saver from what is served", function=name)


def _reachable(nodes: list[Any], functions: dict[str, list[Any]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name for node in nodes for name in _called(node)]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached.add(name)
            waiting += [called for node in functions[name] for called in _called(node)]
    return reached


def _called(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        yield from (function.name for function in (attribute.func, *attribute.list.func) if function.name)


def _check_signatures(folder: Path, graph: Any, manifest: Manifest) -> None:
    for name, (inputs, outputs) in _signatures(manifest).items():
        if name not in graph.signature_def:
            raise _refusal(folder, f"signature {name}", signatures=sorted(graph.signature_def))
        signature = graph.signature_def[name]
        for side, expected, tensors in (("inputs", inputs, signature.inputs), ("outputs", outputs, signature.outputs)):
            received = {key: _tensor(tensor) for key, tensor in tensors.items()}
            if received != expected:
                raise _refusal(folder, f"signature {name} with {side} {expected}", **{side: received})


def _signatures(manifest: Manifest) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    length, channels = manifest.contract.shape
    frames = {"frames": f"FLOAT[-1,{length},{channels}]"}
    kinds = {"float32": "FLOAT", "int8": "INT8"}
    codes = {"codes": f"{kinds[manifest.codes.dtype]}[-1,{manifest.codes.latent}]"}
    numbers = dict.fromkeys(("errors", "latent_distance", "scores"), "FLOAT[-1]")
    everything = {**frames, **codes, **numbers, "channel_errors": f"FLOAT[-1,{channels}]"}
    sample = {"sample": ({"noise": f"FLOAT[-1,{manifest.codes.latent}]"}, frames)}
    return {
        **(sample if manifest.network.variational else {}),
        "infer": (frames, everything),
        "encode": (frames, codes),
        "decode": (codes, frames),
        "reconstruct": (frames, frames),
        "serving_default": ({"examples": "STRING[-1]"}, everything),
    }


def _tensor(tensor: Any) -> str:
    from tensorflow.core.framework.types_pb2 import DataType

    sizes = ",".join(str(dim.size) for dim in tensor.tensor_shape.dim)
    return f"{DataType.Name(tensor.dtype).removeprefix('DT_')}[{sizes}]"


def _refusal(folder: Path, expected: str, **received: object) -> ArtifactError:
    values = ", ".join(f"{name}={value}" for name, value in received.items())
    return ArtifactError(
        f"model {folder}: expected {expected}. Received: {values}. Publish it again, or go back to another version."
    )
