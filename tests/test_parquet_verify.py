"""What readers leave out and what verify finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_rig import offsets, piece, ranges, restart, write
from small_batches import TOPIC

from ae_model.exceptions import ConfigError
from pipelines.parquet_files import drop_superseded, find_files, read_table, verify_folder
from pipelines.tables import SCORE_SCHEMA

pytestmark = pytest.mark.usefixtures("fresh_process")


def test_a_larger_file_supersedes_and_the_next_writer_clears_up(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9), segment=1000)
    write(tmp_path, piece(10, 19), segment=1000)
    small = [file.path.read_bytes() for file in find_files(tmp_path, "scores")]
    paths = [file.path for file in find_files(tmp_path, "scores")]
    write(tmp_path, piece(20, 999), segment=1000)
    for path, content in zip(paths, small, strict=True):
        path.write_bytes(content)

    assert ranges(tmp_path) == [(0, 999, 1), (0, 9, 1), (10, 19, 1)]
    assert [file.last for file in drop_superseded(find_files(tmp_path, "scores"))] == [999]
    assert offsets(tmp_path) == list(range(1000))
    assert verify_folder(tmp_path)["partitions"][0]["superseded"] == 2

    restart()
    write(tmp_path, piece(1000, 1000), segment=1000)

    assert ranges(tmp_path) == [(0, 999, 1), (1000, 1000, 1)]


def test_verify_finds_what_is_missing_doubled_and_damaged(tmp_path: Path) -> None:
    for first in (0, 20, 40, 60):
        write(tmp_path, piece(first, first + 9, alerts=[first]))
    lost, doubled, damaged = find_files(tmp_path, "scores")[1:]
    lost.path.unlink()
    doubled.path.with_name(doubled.path.name.replace("49", "50")).write_bytes(doubled.path.read_bytes())
    overlap = doubled.path.with_name(doubled.path.name.replace("0000000000040-", "0000000000038-").replace("49", "48"))
    pq.write_table(pq.ParquetFile(doubled.path).read().slice(0, 9), overlap)
    damaged.path.write_bytes(damaged.path.read_bytes()[:-20])
    find_files(tmp_path, "alerts")[0].path.unlink()

    report = verify_folder(tmp_path)

    by_kind = {part["kind"]: part for part in report["partitions"]}
    assert not report["ok"]
    assert by_kind["scores"]["missing"] == [[10, 37], [51, 69]]
    assert by_kind["scores"]["duplicated"] == [[40, 48]]
    assert by_kind["scores"]["damaged"] == [str(damaged.path)]
    assert by_kind["codes"]["missing"] == [[10, 19], [30, 39], [50, 59]]
    assert by_kind["alerts"]["missing"] == [[0, 0]]


def test_verify_says_all_is_well_in_json(tmp_path: Path) -> None:
    write(tmp_path, piece(5, 9, alerts=[7]))

    place = {"topic": TOPIC, "partition": 3, "model": "pumps", "files": 1, "superseded": 0}
    clean: dict[str, Any] = {"first": 5, "last": 9, "missing": [], "duplicated": [], "damaged": []}
    assert verify_folder(tmp_path) == {
        "ok": True,
        "folder": str(tmp_path),
        "partitions": [
            {"kind": "scores", **place, "rows": 5, **clean},
            {"kind": "codes", **place, "rows": 5, **clean},
            {"kind": "alerts", **place, "rows": 1, **clean},
        ],
    }


@pytest.mark.parametrize("read", [verify_folder, lambda folder: read_table(folder, "scores")])
def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, read: Any) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_an_empty_folder_has_an_empty_table(tmp_path: Path) -> None:
    assert read_table(tmp_path, "scores") == pa.table(SCORE_SCHEMA.empty_table())
    assert verify_folder(tmp_path) == {"ok": True, "folder": str(tmp_path), "partitions": []}


def test_a_damaged_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9))
    [file] = find_files(tmp_path, "scores")
    file.path.write_bytes(b"PAR1")

    with pytest.raises(ConfigError, match=file.path.name):
        read_table(tmp_path, "scores")
