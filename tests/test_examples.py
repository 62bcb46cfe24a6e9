from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_model.config import FrameContract
from pipelines.examples import encode_examples, load_schema, read_examples, write_examples

CONTRACT = FrameContract(length=2, hop=1, channels=("a", "b", "c"))


def make_frames(count: int, contract: FrameContract = CONTRACT) -> np.ndarray:
    return np.arange(count * np.prod(contract.shape), dtype=np.float32).reshape(count, *contract.shape)


def read_all(paths: list[Path], contract: FrameContract = CONTRACT) -> np.ndarray:
    return np.concatenate(list(read_examples(paths, contract).as_numpy_iterator()))


def test_example_holds_the_frame_row_by_row() -> None:
    (encoded,) = encode_examples(make_frames(1), CONTRACT)

    example = tf.train.Example.FromString(encoded)

    assert list(example.features.feature) == ["frame"]
    assert list(example.features.feature["frame"].float_list.value) == [0, 1, 2, 3, 4, 5]


def test_schema_names_the_tensor_and_its_shape() -> None:
    schema = load_schema(CONTRACT)

    tensor = schema.tensor_representation_group[""].tensor_representation["frame"].dense_tensor
    assert tensor.column_name == "frame"
    assert [dim.size for dim in tensor.shape.dim] == [2, 3]


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 50), length=st.integers(1, 5), channels=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_frames_come_back_bit_for_bit(tmp_path_factory, count: int, length: int, channels: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    contract = FrameContract(length=length, hop=length, channels=tuple(f"c{i}" for i in range(channels)))
    frames = np.random.default_rng(seed).normal(size=(count, length, channels)).astype(np.float32)
    path = tmp_path_factory.mktemp("x") / "training" / "00000.tfrecord"

    write_examples(path, frames, contract)

    assert read_all([path], contract).tolist() == frames.tolist()


def test_several_files_are_read_whole_and_in_the_same_order_each_time(tmp_path: Path) -> None:
    frames = make_frames(3000)
    paths = [tmp_path / f"{number}.tfrecord" for number in range(3)]
    for path, part in zip(paths, np.split(frames, 3), strict=True):
        write_examples(path, part, CONTRACT)

    first, second = read_all(paths), read_all(paths)

    assert first.tolist() == second.tolist()
    assert sorted(first[:, 0, 0]) == frames[:, 0, 0].tolist()


def test_writing_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "0.tfrecord"
    write_examples(path, make_frames(5), CONTRACT)

    write_examples(path, make_frames(2), CONTRACT)

    assert read_all([path]).tolist() == make_frames(2).tolist()
    assert [file.name for file in tmp_path.iterdir()] == ["0.tfrecord"]


def test_folder_with_signs_of_a_pattern_in_its_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site[1] *new?" / "0.tfrecord"

    write_examples(path, make_frames(2), CONTRACT)

    assert read_all([path]).tolist() == make_frames(2).tolist()


def test_frames_are_not_changed() -> None:
    frames = make_frames(4)

    encode_examples(frames, CONTRACT)

    assert frames.tolist() == make_frames(4).tolist()
