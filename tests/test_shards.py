from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.config import FrameContract
from ae_model.frames import cut
from pipelines import shards
from pipelines.samples import Recording, find_recordings
from pipelines.shards import plan_by_key, plan_shards, read_frames

ONE = FrameContract(channels=("a",))


def record(folder: Path, rows: int, name: str = "x") -> Recording:
    np.savez(folder / f"{name}.npz", x=np.arange(rows, dtype=np.float32))
    return find_recordings(f"{folder}/{name}.npz::x", ONE)[0]


def test_one_recording_is_parted_in_time(tmp_path: Path) -> None:
    recording = record(tmp_path, 1000)

    parts = [part for shard in plan_shards([recording]) for part in shard.parts]

    assert [(part.split, part.start, part.stop) for part in parts] == [
        ("training", 0, 720),
        ("validation", 720, 800),
        ("calibration", 800, 1000),
    ]


def test_many_recordings_are_used_whole_in_rounds(tmp_path: Path) -> None:
    recordings = [record(tmp_path, 10, f"clip{number:02d}") for number in range(27)]

    planned = plan_shards(recordings)

    keys = {shard.split: [part.recording.key for part in shard.parts] for shard in planned}
    assert keys == {
        "training": [f"clip{number:02d}" for number in [*range(18), 25, 26]],
        "validation": ["clip18", "clip19"],
        "calibration": ["clip20", "clip21", "clip22", "clip23", "clip24"],
    }
    assert all((part.start, part.stop) == (0, 10) for shard in planned for part in shard.parts)


def test_each_key_is_parted_as_if_it_were_alone(tmp_path: Path) -> None:
    recordings = [record(tmp_path, rows, f"key{rows}") for rows in (100, 200)]

    planned = plan_by_key(recordings)

    assert [(shard.key, replace(shard, key=None)) for shard in planned] == [
        *(("key100", shard) for shard in plan_shards(recordings[:1])),
        *(("key200", shard) for shard in plan_shards(recordings[1:])),
    ]
    assert [block.key for shard in planned for block in read_frames(shard, ONE)] == ["key100"] * 3 + ["key200"] * 3


@given(rows=st.integers(0, 300), length=st.integers(1, 12), hop=st.integers(1, 12), block=st.integers(1, 50))
def test_no_sample_is_in_two_splits(
    tmp_path_factory: pytest.TempPathFactory, rows: int, length: int, hop: int, block: int
) -> None:
    contract = FrameContract(length=length, hop=min(hop, length), channels=("a",))
    recording = record(tmp_path_factory.mktemp("x"), rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK_VALUES", block)
        blocks = [each for shard in plan_shards([recording]) for each in read_frames(shard, contract)]

    seen = {split: {int(x) for b in blocks if b.split == split for x in b.frames.ravel()} for split in shards.SPLITS}
    assert not seen["training"] & seen["validation"]
    assert not (seen["training"] | seen["validation"]) & seen["calibration"]
    assert len({b.name for b in blocks}) == len(blocks)
    training = np.concatenate([np.empty((0, length, 1)), *(b.frames for b in blocks if b.split == "training")])
    expected = cut(np.arange(int(rows * 0.72), dtype=np.float32)[:, None], contract.length, contract.hop)
    assert training.tolist() == expected.tolist()


def record_items(folder: Path, count: int, rows: int = 3) -> Recording:
    """Items of ``rows`` x 2 that each hold their number, as a file sorted by class would."""
    items = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None], (count, rows, 2))
    np.savez_compressed(folder / "x.npz", x=items)
    return find_recordings(f"{folder}/x.npz::x", FrameContract(rows, rows, ("a", "b")))[0]


@pytest.mark.parametrize("values_at_once", [7, 1 << 20])
def test_items_are_dealt_one_by_one_in_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values_at_once: int
) -> None:
    monkeypatch.setattr("pipelines.samples.BLOCK_VALUES", values_at_once)
    recording, contract = record_items(tmp_path, 60), FrameContract(3, 3, ("a", "b"))

    planned = plan_shards([recording])
    blocks = [block for shard in planned for block in read_frames(shard, contract)]

    seen = {split: [] for split in shards.SPLITS}  # type: ignore[var-annotated]
    for block in blocks:
        assert (block.frames == block.frames[:, :1, :1]).all()
        seen[block.split] += block.frames[:, 0, 0].tolist()
    assert seen == {
        "training": [*range(18), *range(25, 43), *range(50, 60)],
        "validation": [18, 19, 43, 44],
        "calibration": [20, 21, 22, 23, 24, 45, 46, 47, 48, 49],
    }
    assert [sum(part.count_frames(contract) for part in shard.parts) for shard in planned] == [46, 4, 10]


def test_many_items_are_dealt_in_runs_so_that_neighbours_stay_together(tmp_path: Path) -> None:
    recording, contract = record_items(tmp_path, 1520), FrameContract(3, 3, ("a", "b"))

    planned = plan_shards([recording])
    blocks = [block for shard in planned for block in read_frames(shard, contract)]

    # 20 rounds of 25 places of 3 items, and 20 items more that are at the start of a round.
    calibration = [item for start in range(60, 1500, 75) for item in range(start, start + 15)]
    assert blocks[2].frames[:, 0, 0].tolist() == calibration
    assert [len(block.frames) for block in blocks] == [20 * 54 + 20, 20 * 6, 20 * 15]
    assert [sum(part.count_frames(contract) for part in shard.parts) for shard in planned] == [1100, 120, 300]


def test_an_item_that_is_not_finite_is_named_by_its_first_row(tmp_path: Path) -> None:
    items = np.zeros((50, 3, 2), np.float32)
    items[26, 1, 1] = np.nan
    np.savez(tmp_path / "x.npz", x=items)
    contract = FrameContract(3, 3, ("a", "b"))

    planned = plan_shards(find_recordings(f"{tmp_path}/x.npz::x", contract))
    blocks = [block for shard in planned for block in read_frames(shard, contract)]

    assert [(block.unusable, block.example) for block in blocks] == [(1, "x.npz::x, frame at row 78"), (0, ""), (0, "")]


def test_frame_that_is_not_finite_is_counted_and_named(tmp_path: Path) -> None:
    signal = np.arange(1000, dtype=np.float32)
    signal[[5, 300, 900]] = [np.nan, np.inf, 1e20]
    np.savez(tmp_path / "x.npz", x=signal)
    contract = FrameContract(length=2, hop=2, channels=("a",))
    (recording,) = find_recordings(f"{tmp_path}/x.npz::x", contract)

    blocks = [block for shard in plan_shards([recording]) for block in read_frames(shard, contract)]

    assert [(b.split, len(b.frames), b.unusable, b.example) for b in blocks] == [
        ("training", 358, 2, "x.npz::x, frame at row 4"),
        ("validation", 40, 0, ""),
        ("calibration", 99, 1, "x.npz::x, frame at row 900"),
    ]
    assert blocks[0].frames[:3, :, 0].tolist() == [[0, 1], [2, 3], [6, 7]]


def test_recording_shorter_than_a_frame_gives_no_block(tmp_path: Path) -> None:
    contract = FrameContract(length=20, hop=20, channels=("a",))

    blocks = [block for shard in plan_shards([record(tmp_path, 10)]) for block in read_frames(shard, contract)]

    assert blocks == []


def test_large_splits_are_read_by_several_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_VALUES", 100)
    recordings = [record(tmp_path, 30, f"clip{number:02d}") for number in range(25)]

    planned = plan_shards(recordings)

    assert [(shard.index, shard.split, len(shard.parts)) for shard in planned] == [
        (0, "training", 4),
        (1, "training", 3),
        (2, "training", 3),
        (3, "training", 4),
        (4, "training", 3),
        (5, "training", 1),
        (6, "validation", 2),
        (7, "calibration", 4),
        (8, "calibration", 1),
    ]


def test_blocks_of_overlapping_frames_are_no_larger_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.samples.BLOCK_VALUES", 4000)
    monkeypatch.setattr("pipelines.shards.BLOCK_VALUES", 4000)
    np.savez(tmp_path / "x.npz", x=np.arange(6000, dtype=np.float32).reshape(3000, 2))
    contract = FrameContract(100, 1, ("a", "b"))

    planned = plan_shards(find_recordings(f"{tmp_path}/x.npz::x", contract))
    blocks = [block for shard in planned for block in read_frames(shard, contract)]

    # 2160 rows of training give 2061 frames of 200 values.
    frames = np.concatenate([block.frames for block in blocks if block.split == "training"])
    assert frames[:, 0, 0].tolist() == list(range(0, 2 * 2061, 2))
    assert max(block.frames.size for block in blocks) <= 2 * 4000
