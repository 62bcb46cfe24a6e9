from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines import samples
from pipelines.samples import find_recordings, iter_blocks, read_blocks

TWO = FrameContract(channels=("a", "b"))
ONE = FrameContract(channels=("a",))
ROWS = np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0], [3.0, 13.0], [4.0, 14.0]], np.float32)


def read(data: str, contract: FrameContract) -> list[tuple[str, str, int, list[list[float]]]]:
    return [(block.source, block.key, block.start, block.samples.tolist()) for block in iter_blocks(data, contract)]


def write_wav(path: Path, values: list[int], *, rate: int = 8000, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"".join(value.to_bytes(width, "little", signed=width > 1) for value in values))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2"])
def test_npz_array_is_read_as_float32_rows(tmp_path: Path, save: object, dtype: str) -> None:
    save(tmp_path / "pump-7.npz", train=ROWS.astype(dtype))  # type: ignore[operator]

    blocks = read(f"{tmp_path}/pump-7.npz::train", TWO)

    assert blocks == [("pump-7.npz::train", "pump-7", 0, ROWS.tolist())]


def test_one_dimension_is_one_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([1, 2, 3], np.int32))

    blocks = read(f"{tmp_path}/x.npz::x", ONE)

    assert blocks == [("x.npz::x", "x", 0, [[1.0], [2.0], [3.0]])]


def test_array_in_fortran_order_is_read_by_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.asfortranarray(ROWS))

    (recording,) = find_recordings(f"{tmp_path}/x.npz::x", TWO)
    (block,) = read_blocks(recording, 1, 4)

    assert block.samples.tolist() == ROWS[1:4].tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_items_are_their_rows_end_to_end(tmp_path: Path, order: str) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    np.savez(tmp_path / "x.npz", x=np.asarray(images, order=order))  # type: ignore[call-overload]
    contract = FrameContract(length=3, hop=3, channels=("a", "b"))

    (recording,) = find_recordings(f"{tmp_path}/x.npz::x", contract)
    (block,) = read_blocks(recording, 0, recording.rows)

    assert (recording.rows, recording.samples.item_rows) == (6, 3)
    assert block.samples.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize(("length", "hop", "channels"), [(4, 4, "ab"), (3, 3, "abc"), (3, 1, "ab")])
def test_items_that_are_not_one_frame_each_are_refused(tmp_path: Path, length: int, hop: int, channels: str) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 3, 2), np.uint8))

    with pytest.raises(ConfigError, match=rf"items of one frame each.* Received: items of 3 x 2, hop={hop}\."):
        find_recordings(f"{tmp_path}/x.npz::x", FrameContract(length, hop, tuple(channels)))


@given(rows=st.integers(0, 40), start=st.integers(0, 40), count=st.integers(0, 40), values=st.integers(1, 30))
def test_blocks_of_any_size_hold_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: int, start: int, count: int, values: int
) -> None:
    signal = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    path = tmp_path_factory.mktemp("x") / "x.npz"
    np.savez(path, x=signal)
    (recording,) = find_recordings(f"{path}::x", TWO)
    stop = min(start + count, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "BLOCK_VALUES", values)
        blocks = list(read_blocks(recording, start, stop))

    assert all(block.samples.size <= max(values, 2) for block in blocks)
    assert [block.start for block in blocks] == list(range(start, stop, max(1, values // 2)))
    assert np.concatenate([np.empty((0, 2)), *(block.samples for block in blocks)]).tolist() == (
        signal[start:stop].tolist()
    )


def test_parquet_columns_come_in_the_contract_s_order_and_the_others_are_left_out(tmp_path: Path) -> None:
    table = pa.table({"timestamp": ["x"] * 3, "b": [10, 11, None], "a": [0.5, 1.5, 2.5]})
    pa.parquet.write_table(table, tmp_path / "m.parquet")

    (block,) = iter_blocks(f"{tmp_path}/m.parquet", TWO)

    assert (block.source, block.key) == ("m.parquet", "m")
    np.testing.assert_array_equal(block.samples, np.array([[0.5, 10], [1.5, 11], [2.5, np.nan]], np.float32))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_by_column_names(tmp_path: Path, delimiter: str) -> None:
    lines = [["datetime", "b", "a"], ["2020-01-01", "10", "0"], ["2020-01-02", "11.5", ""]]
    (tmp_path / "m.csv").write_text("\n".join(delimiter.join(line) for line in lines) + "\n")

    (block,) = iter_blocks(f"{tmp_path}/m.csv", TWO)

    np.testing.assert_array_equal(block.samples, np.array([[0, 10], [np.nan, 11.5]], np.float32))


def test_middle_of_a_table_is_read_without_its_ends(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1]}), tmp_path / "m.parquet", row_group_size=2)
    (recording,) = find_recordings(f"{tmp_path}/m.parquet", TWO)

    blocks = list(read_blocks(recording, 1, 4))

    assert recording.rows == 5
    assert np.concatenate([block.samples for block in blocks]).tolist() == ROWS[1:4].tolist()
    assert next(block.start for block in blocks) == 1


def test_wav_is_scaled_to_one(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", [0, 16384, -32768, 32767])

    blocks = read(f"{tmp_path}/one.wav", FrameContract(channels=("audio",), rate_hz=8000))

    assert blocks == [("one.wav", "one", 0, [[0.0], [0.5], [-1.0], [0.999969482421875]])]


def test_folder_gives_each_file_as_a_recording_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    write_wav(tmp_path / "b.wav", [16384])
    write_wav(tmp_path / "a.wav", [0])
    write_wav(tmp_path / "day" / "c.wav", [-16384])
    (tmp_path / "NOTICE").write_text("not data")

    blocks = read(str(tmp_path), ONE)

    assert blocks == [("a.wav", "a", 0, [[0.0]]), ("b.wav", "b", 0, [[0.5]]), ("day/c.wav", "day/c", 0, [[-0.5]])]


def test_folder_and_array_give_each_npz_as_a_recording_keyed_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "hall").mkdir()
    np.savez(tmp_path / "pump-2.npz", train=np.array([2.0]), test=np.array([0.0]))
    np.savez(tmp_path / "pump-1.npz", train=np.array([1.0]), test=np.array([0.0]))
    np.savez(tmp_path / "hall" / "fan.npz", train=np.array([3.0]))
    (tmp_path / "SOURCE.md").write_text("not data")
    (tmp_path / "labels.csv").write_text("label\n0\n")

    blocks = read(f"{tmp_path}::train", ONE)

    assert blocks == [
        ("hall/fan.npz::train", "hall/fan", 0, [[3.0]]),
        ("pump-1.npz::train", "pump-1", 0, [[1.0]]),
        ("pump-2.npz::train", "pump-2", 0, [[2.0]]),
    ]


def test_file_of_a_folder_without_the_array_is_named_and_not_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "pump-1.npz", train=np.array([1.0]))
    np.savez(tmp_path / "pump-2.npz", test=np.array([1.0]))

    with pytest.raises(ConfigError, match=r"pump-2.npz: expected ::ARRAY with one of test. Received: train"):
        find_recordings(f"{tmp_path}::train", ONE)


def test_folder_without_npz_has_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected NPZ files, for FOLDER::ARRAY. Received: none"):
        find_recordings(f"{tmp_path}::train", ONE)


def test_sample_too_large_for_float32_becomes_infinite(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([1.0, 1e300]))

    blocks = read(f"{tmp_path}/x.npz::x", ONE)

    assert blocks == [("x.npz::x", "x", 0, [[1.0], [float("inf")]])]


def test_absent_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file or folder. Received: .*/nowhere.csv, which is absent"):
        find_recordings(f"{tmp_path}/nowhere.csv", ONE)


def test_unknown_array_gets_a_hint(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=ROWS, test=ROWS)

    with pytest.raises(ConfigError, match=r"one of test, train. Received: trian. Did you mean 'train'\?"):
        find_recordings(f"{tmp_path}/x.npz::trian", TWO)


def test_npz_without_an_array_lists_what_there_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=ROWS)

    with pytest.raises(ConfigError, match=r"expected ::ARRAY with one of train. Received: none"):
        find_recordings(f"{tmp_path}/x.npz", TWO)


def test_other_number_of_channels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=ROWS)

    with pytest.raises(ConfigError, match=r"x.npz::x: expected 1 channels, .* Received: 2 channels"):
        find_recordings(f"{tmp_path}/x.npz::x", ONE)


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2, 2)), np.array(["a"]), np.array([1j])])
def test_array_that_holds_no_samples_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", x=array)

    with pytest.raises(ConfigError, match=r"expected numbers: rows of samples in one or two dimensions"):
        find_recordings(f"{tmp_path}/x.npz::x", ONE)


def test_pickled_array_is_refused_and_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([object()]))

    with pytest.raises(ConfigError, match=r"dtype=object"):
        find_recordings(f"{tmp_path}/x.npz::x", ONE)


def test_missing_column_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,bb\n1,2\n")

    with pytest.raises(ConfigError, match=r"no column 'b' in a, bb. Did you mean 'bb'\?"):
        find_recordings(f"{tmp_path}/m.csv", TWO)


def test_column_of_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,on\n")

    with pytest.raises(ConfigError, match=r"m.csv: expected numbers in column 'b'. Received: string"):
        find_recordings(f"{tmp_path}/m.csv", TWO)


def test_wav_of_another_rate_names_both(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", [0], rate=16000)

    with pytest.raises(ConfigError, match=r"expected rate_hz=8000, as in the stream file. Received: rate_hz=16000"):
        find_recordings(f"{tmp_path}/one.wav", FrameContract(rate_hz=8000))


def test_wav_of_eight_bits_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", [0, 1], width=1)

    with pytest.raises(ConfigError, match=r"expected PCM of 16 bits. Received: 8 bits"):
        find_recordings(f"{tmp_path}/one.wav", ONE)


@pytest.mark.parametrize("name", ["x.npz::x", "x.wav", "x.parquet"])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name.partition("::")[0]).write_bytes(b"not what the name says")

    with pytest.raises(ConfigError, match=r"expected a readable (NPZ|WAV|Parquet) file"):
        find_recordings(f"{tmp_path}/{name}", ONE)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected files of one kind of .parquet, .csv, .wav. Received: none"):
        find_recordings(str(tmp_path), ONE)


def test_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", [0])
    (tmp_path / "b.csv").write_text("a\n1\n")

    with pytest.raises(ConfigError, match=r"Received: .csv, .wav"):
        find_recordings(str(tmp_path), ONE)
