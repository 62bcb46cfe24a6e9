from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry
from test_frame_batch import make_raw

from ae_model.codes import make_format
from ae_model.config import CorruptionConfig, FrameContract, NetworkConfig
from ae_model.exceptions import ConfigError
from ae_model.networks import build
from ae_model.scaling import Statistics
from ae_model.verify import ALLOWED_OPS, SAVER_OPS
from pipelines.formats import make_decoder
from pipelines.model_calls import infer_surely

FAMILIES = {
    "dense": NetworkConfig("dense", hidden=(6, 5)),
    "conv1d": NetworkConfig("conv1d", hidden=(6, 5)),
    "conv2d": NetworkConfig("conv2d", hidden=(6, 5)),
    "lstm": NetworkConfig("recurrent", hidden=(6, 5)),
    "gru": NetworkConfig("recurrent", hidden=(6, 5), cell="gru"),
}
FRAMES = zoo.make_frames(60, seed=3)


def shapes(model: Any) -> list[tuple[int, ...]]:
    """What comes out of each layer that has weights, without the number of frames."""
    return [layer.output.shape[1:] for layer in model.layers if layer.weights]


def weights(model: Any) -> list[Any]:
    return [array.tolist() for array in [*model.encoder.get_weights(), *model.decoder.get_weights()]]


def test_convolutions_halve_the_length_and_mirror_back() -> None:
    contract = FrameContract(length=50, hop=50, channels=("a", "b", "c"))

    encoder, decoder = build(contract, NetworkConfig("conv1d", latent=4, hidden=(16, 32)))

    assert shapes(encoder) == [(25, 16), (13, 32), (4,)]
    # 13 doubles to 26, of which one sample is cropped.
    assert shapes(decoder) == [(416,), (26, 16), (50, 3)]
    assert decoder.output_shape == (None, 50, 3)


def test_convolutions_over_images_halve_both_sides_and_mirror_back() -> None:
    contract = FrameContract(length=28, hop=28, channels=tuple(f"column{i}" for i in range(15)))

    encoder, decoder = build(contract, NetworkConfig("conv2d", latent=4, hidden=(16, 32)))

    assert shapes(encoder) == [(14, 8, 16), (7, 4, 32), (4,)]
    assert shapes(decoder) == [(896,), (14, 8, 16), (28, 16, 1)]
    assert decoder.output_shape == (None, 28, 15)


@pytest.mark.parametrize(("cell", "kind"), [("lstm", keras.layers.LSTM), ("gru", keras.layers.GRU)])
def test_cells_read_to_the_last_state_and_write_every_sample(cell: Any, kind: type) -> None:
    encoder, decoder = build(zoo.CONTRACT, NetworkConfig("recurrent", latent=4, hidden=(9, 8), cell=cell))

    assert shapes(encoder) == [(7, 9), (8,), (4,)]
    assert shapes(decoder) == [(7, 8), (7, 9), (7, 3)]
    assert [type(layer) for layer in encoder.layers[:2]] == [kind, kind]


@settings(max_examples=12)
@given(length=st.integers(1, 9), channels=st.integers(1, 9), family=st.sampled_from(sorted(FAMILIES)))
def test_frames_of_any_shape_come_back_in_it(length: int, channels: int, family: str) -> None:
    contract = FrameContract(length, length, tuple(f"ch{i}" for i in range(channels)))
    # One sample of one channel leaves no room for a smaller code.
    config = replace(FAMILIES[family], latent=1, corruption=CorruptionConfig("masking", 0.5))

    encoder, decoder = build(contract, config)
    codes = encoder(np.ones((2, length, channels), np.float32))

    assert codes.shape == (2, 1)
    assert decoder(codes).shape == (2, length, channels)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_in_the_middle_of_others_gets_its_own_code(family: str) -> None:
    encoder, _ = build(zoo.CONTRACT, FAMILIES[family])
    scaled = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)

    together = encoder(scaled).numpy()
    alone = np.concatenate([encoder(scaled[i : i + 1]).numpy() for i in range(5)])

    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("family", ["lstm", "gru"])
def test_recurrent_networks_know_the_order_of_samples(family: str) -> None:
    encoder, _ = build(zoo.CONTRACT, FAMILIES[family])
    scaled = np.random.default_rng(0).normal(size=(1, 7, 3)).astype(np.float32)

    forward, backward = encoder(scaled).numpy(), encoder(scaled[:, ::-1]).numpy()

    assert np.abs(forward - backward).max() > 0.01


@pytest.mark.parametrize("family", ["conv1d", "conv2d"])
def test_every_convolution_has_the_kernel_asked_for(family: str) -> None:
    pair = build(zoo.CONTRACT, replace(FAMILIES[family], kernel=5))

    sizes = {layer.kernel_size for model in pair for layer in model.layers if hasattr(layer, "kernel_size")}

    assert sizes == {(5,) * int(family[4])}


@pytest.mark.parametrize("family", FAMILIES)
def test_overcomplete_codes_need_a_regulariser(family: str) -> None:
    config = replace(FAMILIES[family], latent=21)

    with pytest.raises(ConfigError, match=r"less than the 21 values of a frame \(7 x 3\). Received: latent=21"):
        build(zoo.CONTRACT, config)
    encoder, _ = build(zoo.CONTRACT, replace(config, contractive=0.1))

    assert encoder.output_shape == (None, 21)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_training_beats_the_mean_of_the_frames(name: str) -> None:
    model = zoo.fitted(name)
    scaled = model.scaling.apply(FRAMES)

    error = model.infer(FRAMES).errors.mean()

    assert error < 0.5 * np.square(scaled - scaled.mean(axis=(0, 1))).mean()


@pytest.mark.parametrize("name", zoo.ZOO)
def test_exported_models_verify_load_and_say_what_was_fitted(name: str, zoo_folder: Path) -> None:
    expected = zoo.fitted(name).infer(FRAMES)

    detector = zoo.loaded(name, zoo_folder)

    assert detector.manifest.network == zoo.make_config(name)
    for field, values in vars(detector.infer(FRAMES)).items():
        np.testing.assert_allclose(values, vars(expected)[field], rtol=1e-5, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_loaded_model_says_the_same_twice_and_for_any_size_of_batch(name: str, zoo_folder: Path) -> None:
    detector = zoo.loaded(name, zoo_folder)

    once, again = detector.infer(FRAMES), detector.infer(FRAMES)
    parts = [detector.infer(part) for part in np.split(FRAMES, [1, 2, 30, 30])]

    for field, values in vars(once).items():
        assert vars(again)[field].tolist() == values.tolist()
        joined = np.concatenate([vars(part)[field] for part in parts])
        np.testing.assert_allclose(joined, values, rtol=1e-4, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", ["conv2d", "lstm", "denoising variational conv1d with a learned prior"])
def test_records_of_a_topic_get_the_codes_and_scores_of_the_model(name: str, zoo_folder: Path) -> None:
    detector = zoo.loaded(name, zoo_folder)
    raw = make_raw([(b"pump", frame.tobytes(), []) for frame in FRAMES])

    decoded = make_decoder("raw", zoo.CONTRACT).decode(raw)
    [outcome] = infer_surely(detector, decoded.good)

    said = detector.infer(FRAMES)
    assert outcome.inferred is not None
    assert outcome.inferred.codes.tolist() == said.codes.tolist()
    assert outcome.inferred.denoised.tolist() == said.frames.tolist()
    assert outcome.inferred.scores.tolist() == said.scores.tolist()


@pytest.mark.parametrize("name", ["conv2d", "lstm"])
def test_codes_of_one_byte_are_the_same_for_any_size_of_batch(name: str) -> None:
    wide = zoo.fitted(name)
    model = replace(wide, code_format=make_format("int8", Statistics.of(wide.infer(FRAMES).codes)))

    together = model.infer(FRAMES).codes
    parts = [model.infer(part).codes for part in np.split(FRAMES, [1, 2, 30])]

    assert together.dtype == np.int8
    assert np.concatenate(parts).tolist() == together.tolist()


@pytest.mark.parametrize("name", ["lstm", "denoising variational conv1d with a learned prior"])
def test_same_seed_gives_same_weights_whatever_is_drawn_in_training(name: str) -> None:
    again = zoo.fit(zoo.make_config(name))

    assert weights(again) == weights(zoo.fitted(name))


def test_another_seed_draws_other_corruption() -> None:
    other = zoo.fit(zoo.make_config("overcomplete", seed=8))

    assert weights(other) != weights(zoo.fitted("overcomplete"))


def served_operations(path: Path) -> set[str]:
    """Names of all operations in a SavedModel."""
    graph = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in [*graph.node, *functions]}


def test_the_list_of_operations_has_none_that_no_network_needs(zoo_folder: Path) -> None:
    used = set().union(*(served_operations(zoo.exported(name, zoo_folder)) for name in zoo.ZOO))

    # The rest belongs to codes of one byte and to frames with missing samples.
    assert sorted(ALLOWED_OPS - used) == ["DivNoNan", "Greater", "IsNan", "LogicalNot", "Round", "SelectV2"]
    assert sorted(used - ALLOWED_OPS - SAVER_OPS) == []


def test_no_operation_of_the_list_keeps_a_state_but_variables_calls_and_loops() -> None:
    stateful = [name for name in sorted(ALLOWED_OPS) if op_def_registry.get(name).is_stateful]

    assert stateful == ["ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp", "While"]
