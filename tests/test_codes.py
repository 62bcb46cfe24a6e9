"""Codes of one byte: how steps are fitted, what is a code and what is not, and that all paths give the same ones."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import small_models
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_models import batches, make_frames, make_scaling

from ae_model import artifact, receiver
from ae_model.codes import CodeFormat, count_clipped, make_format
from ae_model.config import FrameContract, NetworkConfig
from ae_model.exceptions import ArtifactError, ConfigError, RecordError
from ae_model.manifest import GOLDEN, MANIFEST
from ae_model.model import Detector
from ae_model.networks.rounding import widen
from ae_model.scaling import Statistics
from ae_model.training import Fitted, fit
from ae_model.verify import describe

INT8 = CodeFormat(2, "int8", (1.0, -2.0), (0.5, 0.25))
WIDE = FrameContract(length=16, hop=16, channels=tuple(f"ch{i}" for i in range(16)))


def statistics(rows: Any) -> Statistics:
    return Statistics.of(np.array(rows, np.float64)[:, None, :])


@pytest.fixture(scope="module")
def fitted() -> Any:
    return small_models.fitted("int8")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector.load(small_models.publish(tmp_path_factory.mktemp("int8"), codes="int8"))


def test_training_codes_span_64_steps_to_each_side_of_the_center() -> None:
    found = make_format("int8", statistics([[0, -1], [50, 3], [128, 1]]))

    assert found == CodeFormat(2, "int8", (64.0, 1.0), (1.0, 0.03125))
    assert found.bytes == 2


def test_a_lone_wild_training_code_does_not_make_the_steps_coarse() -> None:
    # 9,999 codes of -1 and 1 in turn, and one of 10,000: deviation 100, so the range ends at 12 of them.
    rows = np.where(np.arange(10_000) % 2, 1.0, -1.0)[:, None]
    rows[7] = 10_000

    [step] = make_format("int8", statistics(rows)).step

    assert step == pytest.approx((12 * 100 + 2) / 128, rel=0.01)


def test_dimensions_that_never_moved_get_steps_above_zero() -> None:
    assert make_format("int8", statistics([[5, 5], [5, 5]])).step == (1.0, 1.0)
    assert make_format("int8", statistics([[5, 0], [5, 128]])).step == (1e-6, 1.0)


def test_float32_needs_no_steps() -> None:
    assert make_format("float32", statistics([[0, 1], [2, 3]])) == CodeFormat(2)
    assert CodeFormat(2).bytes == 8


@pytest.mark.parametrize(
    "changes", [{"step": (0.5, 0.0)}, {"step": ()}, {"center": (1.0,)}, {"dtype": "float32"}, {"dtype": "int4"}]
)
def test_a_format_that_cannot_be_decoded_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        replace(INT8, **changes)


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
def test_whole_numbers_are_codes_in_any_type_that_holds_them(dtype: type) -> None:
    codes = np.array([[-127, 0], [127, 5]], dtype)

    checked = INT8.check(codes)

    assert checked.dtype == np.int8
    assert checked.tolist() == [[-127, 0], [127, 5]]


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((3, 3), np.int8),
        np.zeros(2, np.int8),
        np.full((3, 2), -128, np.int8),
        np.full((3, 2), 0.5, np.float32),
        np.full((3, 2), 128, np.float32),
        np.full((3, 2), np.nan, np.float32),
        np.zeros((3, 2), np.int64),
    ],
)
def test_what_is_no_code_of_int8_is_refused(codes: NDArray[Any]) -> None:
    with pytest.raises(RecordError, match=r"codes: expected \(n, 2\) of int8") as raised:
        INT8.check(codes)

    assert raised.value.code == "schema.incompatible"


def test_codes_at_the_limit_are_counted_by_frame() -> None:
    assert count_clipped(np.array([[127, -127], [126, 0], [0, -127]], np.int8)) == 2
    assert count_clipped(np.zeros((0, 2), np.int8)) == 0
    assert count_clipped(np.full((3, 2), 500, np.float32)) == 0


def test_the_artifact_says_what_a_code_is_and_its_tensors_are_of_that_type(fitted: Fitted, detector: Detector) -> None:
    codes = detector.encode(make_frames(50, seed=3))

    assert detector.manifest.codes == fitted.code_format
    assert detector.manifest.codes.dtype == "int8"
    assert (codes.dtype, codes.shape) == (np.int8, (50, 3))
    assert "Codes of 3 int8, 3 bytes a frame where the frame has 48." in (detector.path / "README.md").read_text()


def test_training_frames_use_half_of_the_range_and_are_not_clipped(fitted: Fitted) -> None:
    codes = fitted.infer(make_frames(300)).codes

    assert codes.min(axis=0).tolist() == [-64, -64, -64]
    assert codes.max(axis=0).tolist() == [64, 64, 64]


def test_errors_and_frames_are_those_that_the_receiver_will_see(detector: Detector) -> None:
    frames = make_frames(70, seed=5)
    said = detector.infer(frames)

    received = receiver.decode(said.codes, detector)

    scaled, decoded = detector.manifest.scaling.apply(frames), detector.manifest.scaling.apply(received)
    np.testing.assert_allclose(received, said.frames, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.square(scaled - decoded).mean(axis=(1, 2)), said.errors, rtol=1e-3, atol=1e-6)


def test_a_code_of_one_byte_costs_little(detector: Detector) -> None:
    frames = make_frames(200, seed=6)
    exact = small_models.fitted().infer(frames).errors

    rounded = detector.infer(frames).errors

    # Training is the same with both; only the rounding differs.
    assert 0 < abs(rounded.mean() / exact.mean() - 1) < 0.01


def test_a_wild_frame_is_clipped_and_keeps_its_distance_and_its_error(detector: Detector) -> None:
    frames = make_frames(3, seed=7)
    frames[1] = 1e9

    said = detector.infer(frames)

    assert np.abs(said.codes[1]).max() == 127
    assert count_clipped(said.codes) == 1
    assert said.latent_distance[1] > 20 * said.latent_distance[[0, 2]].max()
    assert said.errors[1] > 100 * said.errors[[0, 2]].max()


def test_a_model_whose_codes_are_one_step_off_is_refused(fitted: Fitted, detector: Detector, tmp_path: Path) -> None:
    # The golden frames and the graph disagree by one step, as after a change of the arithmetic.
    moved = np.add(fitted.code_format.center, fitted.code_format.step)
    shifted = replace(fitted, code_format=replace(fitted.code_format, center=tuple(moved.tolist())))
    manifest = artifact.export(tmp_path / "other", shifted, small_models.facts(), make_frames(8, seed=2))
    shutil.copy(detector.path / GOLDEN, tmp_path / "other" / GOLDEN)
    files = {**manifest.files, GOLDEN: describe(detector.path / GOLDEN)}
    (tmp_path / "other" / MANIFEST).write_text(replace(manifest, files=files).to_json())

    with pytest.raises(ArtifactError, match=r"expected codes of the golden frames .* a difference of 1"):
        Detector.load(tmp_path / "other")


@pytest.fixture(scope="module")
def wide() -> tuple[Fitted, NDArray[np.float32], NDArray[Any]]:
    """A net wide enough for its sums to depend on the number of rows, frames, and their codes together."""
    frames = np.random.default_rng(3).normal(size=(2000, *WIDE.shape)).astype(np.float32)
    config = NetworkConfig(latent=32, hidden=(64,), epochs=1, batch_frames=500, codes="int8")
    fitted = fit(WIDE, config, make_scaling(frames), batches(frames, 500), batches(frames[:100]))
    return fitted, frames, fitted.infer(frames).codes


@settings(max_examples=15)
@given(st.lists(st.integers(1, 1999), max_size=60))
def test_any_split_of_the_frames_gives_the_same_codes(
    wide: tuple[Fitted, NDArray[np.float32], NDArray[Any]], cuts: list[int]
) -> None:
    fitted, frames, together = wide

    parts = [fitted.infer(part).codes for part in np.split(frames, sorted(cuts))]

    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_frames_one_by_one_get_the_codes_that_they_get_together(
    wide: tuple[Fitted, NDArray[np.float32], NDArray[Any]],
) -> None:
    fitted, frames, together = wide

    alone = [fitted.infer(frames[i : i + 1]).codes for i in range(len(frames))]

    np.testing.assert_array_equal(np.concatenate(alone), together)


def test_a_widened_network_computes_the_same_in_64_bits_however_its_layers_are_nested() -> None:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((6, 2)), keras.layers.Bidirectional(keras.layers.GRU(3)), keras.layers.Dense(2)]
    encoder = keras.Sequential(layers)
    frames = np.random.default_rng(1).normal(size=(5, 6, 2)).astype(np.float32)

    twin = widen(encoder)

    assert {str(weight.dtype) for weight in twin.weights} == {"float64"}
    assert {str(weight.dtype) for weight in encoder.weights} == {"float32"}
    assert twin(frames).numpy().dtype == np.float64
    np.testing.assert_allclose(twin(frames), encoder(frames), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["conv1d", "conv2d", "lstm", "gru", "sparse by mean activity", "variational"])
def test_any_family_gives_codes_of_one_byte_that_load_and_do_not_depend_on_company(family: str, tmp_path: Path) -> None:
    frames = zoo.make_frames(64, seed=4)
    numbers = zoo.fitted(family).infer(frames).codes
    code_format = make_format("int8", Statistics.of(numbers[:, None, :]))
    rounded = replace(zoo.fitted(family), config=zoo.make_config(family, codes="int8"), code_format=code_format)

    artifact.export(tmp_path / "int8", rounded, small_models.facts("zoo"), frames[:8])
    detector = Detector.load(tmp_path / "int8")

    together, alone = detector.encode(frames), [detector.encode(frames[i : i + 1]) for i in range(64)]
    np.testing.assert_array_equal(np.concatenate(alone), together)
    np.testing.assert_allclose(
        together * np.float32(code_format.step) + code_format.center, numbers, atol=0.6 * max(code_format.step)
    )
