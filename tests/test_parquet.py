"""Parquet folders hold every row once, after any replay, kill, full disk or change of model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from parquet_rig import HOUR, explain, offsets, piece, ranges, restart, visible, write
from small_batches import TOPIC, make_inferred

from pipelines.frame_batch import InferredBatch
from pipelines.parquet import WriteParquet, as_piece
from pipelines.parquet_files import find_files, read_table, verify_folder
from pipelines.tables import SCORE_SCHEMA

pytestmark = pytest.mark.usefixtures("fresh_process")


def test_files_lie_by_topic_and_hour_and_are_named_by_their_content(tmp_path: Path) -> None:
    write(tmp_path, piece(5, 9, alerts=[7]), piece(10, 12))

    name = f"{TOPIC}-00003-00000000000000000005-00000000000000000012-pumps-v1.parquet"
    assert visible(tmp_path) == [
        f".{TOPIC}-00003-pumps.lock",
        f"alerts/{HOUR}/{name}",
        f"codes/{HOUR}/{name}",
        f"scores/{HOUR}/{name}",
    ]


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    batch = make_inferred([5, 6, 9], scores=[0.5, 2.0, 0.0], version=4)

    write(tmp_path, as_piece(batch, explain))

    scores = read_table(tmp_path, "scores")
    assert scores.schema == SCORE_SCHEMA
    assert scores.column("topic").to_pylist() == [TOPIC] * 3
    assert scores.column("offset").to_pylist() == [5, 6, 9]
    assert scores.column("key").to_pylist() == [b"pump-5", b"pump-6", b"pump-9"]
    assert scores.column("version").to_pylist() == [4, 4, 4]
    assert scores.column("score").to_pylist() == [0.5, 2.0, 0.0]
    assert scores.column("alert").to_pylist() == [False, True, False]
    assert read_table(tmp_path, "codes").column("code").to_pylist() == [[5.0, 5.0], [6.0, 6.0], [9.0, 9.0]]
    assert read_table(tmp_path, "alerts").column("offset").to_pylist() == [6]


def test_plain_readers_see_a_hive_table(tmp_path: Path) -> None:
    write(tmp_path, piece(5, 9))

    table = ds.dataset(tmp_path / "scores", partitioning="hive").to_table()
    frame = pd.read_parquet(tmp_path / "codes")

    assert table.column("topic").to_pylist() == [TOPIC] * 5
    assert table.column("dt").to_pylist() == ["2026-11-21"] * 5
    assert table.column("hour").to_pylist() == [4] * 5
    assert frame["offset"].tolist() == [5, 6, 7, 8, 9]
    assert frame["code"].iloc[0].tolist() == [5.0, 5.0]
    assert pq.read_table(tmp_path / "scores", filters=[("hour", "=", 5)]).num_rows == 0


def test_files_are_packed_for_floats_and_carry_their_lineage(tmp_path: Path) -> None:
    write(tmp_path, piece(5, 9))

    [codes], [scores] = find_files(tmp_path, "codes"), find_files(tmp_path, "scores")
    columns = {
        column.path_in_schema: column
        for file in (codes, scores)
        for group in [pq.ParquetFile(file.path).metadata.row_group(0)]
        for column in map(group.column, range(group.num_columns))
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["code.list.element"].encodings
    assert "BYTE_STREAM_SPLIT" in columns["error"].encodings
    assert (columns["offset"].statistics.min, columns["offset"].statistics.max) == (5, 9)
    assert [name for name, column in columns.items() if column.is_stats_set] == ["offset", "timestamp", "score"]
    metadata = pq.ParquetFile(scores.path).schema_arrow.metadata
    assert metadata.pop(b"latentstream.schema")
    assert metadata == {
        b"latentstream.kind": b"scores",
        b"latentstream.topic": TOPIC.encode(),
        b"latentstream.partition": b"3",
        b"latentstream.first_offset": b"5",
        b"latentstream.last_offset": b"9",
        b"latentstream.model": b"pumps",
        b"latentstream.version": b"1",
    }


def test_file_written_before_there_were_layers_is_of_the_global_one(tmp_path: Path) -> None:
    write(tmp_path, piece(5, 6))
    [file] = find_files(tmp_path, "scores")
    pq.write_table(pq.ParquetFile(file.path).read().drop_columns("layer"), file.path)

    assert read_table(tmp_path, "scores").column("layer").to_pylist() == ["global", "global"]


def test_a_replay_writes_nothing_twice_and_is_counted(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9), piece(10, 19))

    replayed = write(tmp_path, piece(5, 14), piece(15, 29))

    assert replayed == 15
    assert ranges(tmp_path) == [(0, 19, 1), (20, 29, 1)]
    assert offsets(tmp_path) == list(range(30))


def test_a_replay_by_a_newer_model_keeps_the_first_rows(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9))
    restart()

    write(tmp_path, piece(0, 19, version=2))

    assert ranges(tmp_path) == [(0, 9, 1), (10, 19, 2)]


def test_another_model_on_the_same_topic_has_rows_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9))

    write(tmp_path, piece(0, 9, model="other"))

    assert offsets(tmp_path) == [*range(10), *range(10)]
    assert verify_folder(tmp_path)["ok"]


def test_files_are_cut_at_segments_and_merged_when_one_is_complete(tmp_path: Path) -> None:
    for first in range(0, 250, 50):
        write(tmp_path, piece(first, first + 49, alerts=[first]))

    assert ranges(tmp_path) == [(0, 99, 1), (100, 199, 1), (200, 249, 1)]
    assert ranges(tmp_path, "codes") == [(0, 99, 1), (100, 199, 1), (200, 249, 1)]
    assert offsets(tmp_path) == list(range(250))
    assert offsets(tmp_path, "alerts") == [0, 50, 100, 150, 200]
    assert verify_folder(tmp_path)["ok"]


def test_one_batch_over_many_segments_is_cut_at_each(tmp_path: Path) -> None:
    write(tmp_path, piece(95, 305))

    assert ranges(tmp_path) == [(95, 99, 1), (100, 199, 1), (200, 299, 1), (300, 305, 1)]


def test_many_small_files_of_a_slow_segment_are_merged_before_it_is_complete(tmp_path: Path) -> None:
    for offset in range(65):
        write(tmp_path, piece(offset, offset), segment=1000)

    assert ranges(tmp_path) == [(0, 63, 1), (64, 64, 1)]


def test_a_gap_is_never_claimed_so_it_can_be_filled_later(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9), piece(20, 29))
    write(tmp_path, piece(100, 109))
    before = ranges(tmp_path)

    write(tmp_path, piece(0, 29))

    assert before == [(0, 9, 1), (20, 29, 1), (100, 109, 1)]
    assert ranges(tmp_path) == [(0, 29, 1), (100, 109, 1)]
    assert offsets(tmp_path) == [*range(30), *range(100, 110)]


def test_dead_letters_within_a_batch_are_accounted_for(tmp_path: Path) -> None:
    write(tmp_path, as_piece(make_inferred([0, 1, 4]), explain), as_piece(make_inferred([5, 9]), explain))

    [report] = [part for part in verify_folder(tmp_path)["partitions"] if part["kind"] == "scores"]
    assert ranges(tmp_path) == [(0, 9, 1)]
    assert (report["rows"], report["missing"]) == (5, [])


def with_span(batch: InferredBatch, first: int, last: int) -> InferredBatch:
    records = replace(batch.records, span=(first, last))
    return replace(batch, batch=replace(batch.batch, records=records))


def test_offsets_between_batches_belong_to_the_batch_whose_span_says_so(tmp_path: Path) -> None:
    batches = [with_span(make_inferred([3, 7, 11]), 0, 11), with_span(make_inferred([15, 19]), 12, 20)]

    write(tmp_path, *(as_piece(batch, explain) for batch in batches), segment=8)

    assert ranges(tmp_path) == [(0, 7, 1), (8, 15, 1), (16, 20, 1)]
    assert verify_folder(tmp_path)["ok"]


def test_a_swap_of_the_model_within_a_segment_keeps_one_version_per_file(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 29), piece(30, 59, version=2))
    write(tmp_path, piece(60, 129, version=2))

    assert ranges(tmp_path) == [(0, 29, 1), (30, 99, 2), (100, 129, 2)]
    assert offsets(tmp_path) == list(range(130))


def test_alerts_have_files_only_where_there_are_any_and_are_never_doubled(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9))
    write(tmp_path, piece(10, 19, alerts=[12, 19]))
    restart()

    write(tmp_path, piece(0, 29, alerts=[3, 12, 19, 25]))

    # 3 lies in a range whose scores say that it did not alert.
    assert ranges(tmp_path, "alerts") == [(10, 19, 1), (20, 29, 1)]
    assert offsets(tmp_path, "alerts") == [12, 19, 25]
    assert verify_folder(tmp_path)["ok"]


def test_alerts_are_merged_over_stretches_without_any(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9, alerts=[1]))
    write(tmp_path, piece(10, 79))
    write(tmp_path, piece(80, 99, alerts=[90]))

    assert ranges(tmp_path, "alerts") == [(0, 99, 1)]
    assert offsets(tmp_path, "alerts") == [1, 90]


def test_alerts_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, as_piece(make_inferred([0, 1], scores=[2.0, 2.0])))

    assert not (tmp_path / "alerts").exists()
    assert verify_folder(tmp_path)["ok"]


def test_frames_without_a_time_go_to_the_first_day(tmp_path: Path) -> None:
    batch = make_inferred([0, 1])
    records = replace(batch.records, timestamps=np.array([-1, -1]))

    write(tmp_path, as_piece(replace(batch, batch=replace(batch.batch, records=records)), explain))

    table = ds.dataset(tmp_path / "scores", partitioning="hive").to_table()
    assert table.column("dt").to_pylist() == ["1970-01-01", "1970-01-01"]
    assert offsets(tmp_path) == [0, 1]


def test_the_sink_writes_all_partitions_of_a_pipeline(tmp_path: Path) -> None:
    batches = [
        make_inferred(range(first, first + 10), scores=[2.0, *[0.0] * 9], partition=partition)
        for partition in (0, 1)
        for first in (0, 10)
    ]

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        inferred = pipeline | beam.Create([*batches, make_inferred([])])
        _ = inferred | WriteParquet(str(tmp_path), explain)

    scores = read_table(tmp_path, "scores")
    assert scores.column("partition").to_pylist() == [0] * 20 + [1] * 20
    assert scores.column("offset").to_pylist() == [*range(20), *range(20)]
    assert offsets(tmp_path, "alerts") == [0, 10, 0, 10]
    assert verify_folder(tmp_path)["ok"]


def test_the_sink_writes_early_when_a_bundle_holds_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.parquet.MAX_BUFFERED_BYTES", 1)
    sink = WriteParquet(str(tmp_path))._write
    sink.start_bundle()

    sink.process(make_inferred(range(10)))

    assert offsets(tmp_path) == list(range(10))
