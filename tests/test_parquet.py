"""Parquet folders hold every row once, after any replay, kill, full disk or change of model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_batches import TOPIC, make_inferred

from ae_model.exceptions import ConfigError, SinkError
from pipelines import coders, parquet_pieces, parquet_writer
from pipelines.alerts import Alert
from pipelines.frame_batch import InferredBatch
from pipelines.parquet import WriteParquet, as_piece
from pipelines.parquet_files import drop_superseded, find_files, read_table, verify_folder
from pipelines.parquet_lock import hold
from pipelines.parquet_pieces import Piece
from pipelines.parquet_writer import ParquetFolder
from pipelines.tables import SCORE_SCHEMA

assert coders  # registers the coder of InferredBatch
HOUR = f"topic={TOPIC}/dt=2026-11-21/hour=04"


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing is cleaned up."""


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """No test inherits what another one's process knew of a folder."""
    restart()
    yield
    restart()


def restart() -> None:
    parquet_writer._PARTITIONS.clear()


def explain(batch: InferredBatch) -> list[Alert]:
    """Alerts without a manifest."""
    return [
        Alert(
            id=f"{batch.records.offsets[row]:032x}",
            stream="plant",
            rule="threshold",
            key=None,
            topic=batch.records.topic,
            partition=batch.records.partition,
            offset=int(batch.records.offsets[row]),
            time=None,
            score=float(batch.scores[row]),
            threshold=batch.threshold,
            severity="warning",
            channels=(),
            model=batch.model,
            version=batch.version,
            error=0.0,
            latent_distance=0.0,
            timestamp=int(batch.records.timestamps[row]),
        )
        for row in np.flatnonzero(batch.alerting)
    ]


def piece(first: int, last: int, alerts: Sequence[int] = (), **options: Any) -> Piece:
    offsets = range(first, last + 1)
    return as_piece(make_inferred(offsets, scores=[2.0 * (o in alerts) for o in offsets], **options), explain)


def write(folder: Path, *pieces: Piece, segment: int = 100, topic: str = TOPIC) -> int:
    return ParquetFolder(folder, segment).write(topic, 3, pieces)


def ranges(folder: Path, kind: Any = "scores") -> list[tuple[int, int, int]]:
    return [(file.first, file.last, file.version) for file in find_files(folder, kind)]


def offsets(folder: Path, kind: Any = "scores") -> list[int]:
    found: list[int] = read_table(folder, kind).column("offset").to_pylist()
    return found


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


BUNDLE = st.tuples(
    st.integers(0, 40),  # how far back the replay goes
    st.integers(0, 40),  # how far it gets
    st.lists(st.integers(0, 79), max_size=3),  # where its batches are cut
    st.booleans(),  # whether the model is swapped before it
    st.booleans(),  # whether the process restarts after it
    st.randoms(use_true_random=False),  # in which order the batches come
)


@settings(max_examples=25)
@given(st.lists(BUNDLE, max_size=6))
def test_any_cutting_any_replay_and_any_restart_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, bundles: list[Any]
) -> None:
    folder, done, version = tmp_path_factory.mktemp("any"), 0, 1
    for back, forth, cuts, swaps, restarts, order in bundles:
        start, done, version = max(0, done - back), done + forth, version + swaps
        inner = sorted({start, done, *(start + cut for cut in cuts if start + cut < done)})
        pieces = [piece(a, b - 1, alerts=range(0, 300, 7), version=version) for a, b in pairwise(inner)]
        order.shuffle(pieces)
        if pieces:
            write(folder, *pieces, segment=20)
        if restarts:
            restart()

    report = verify_folder(folder)
    assert offsets(folder) == list(range(done))
    assert offsets(folder, "codes") == list(range(done))
    assert offsets(folder, "alerts") == list(range(0, done, 7))
    assert report["ok"], report


def kill_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Die at the n-th change of the folder, before it happens."""
    left = [call]

    def guard(change: Any) -> Any:
        def changed(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return change(*args, **options)

        return changed

    monkeypatch.setattr(parquet_pieces.os, "replace", guard(os.replace))
    monkeypatch.setattr(parquet_pieces.os, "fsync", guard(os.fsync))
    monkeypatch.setattr(Path, "unlink", guard(Path.unlink))


def run_once(folder: Path) -> None:
    write(folder, piece(0, 29, alerts=[3]), segment=50)
    write(folder, piece(30, 69, alerts=[33, 60]), segment=50)


def test_a_kill_at_any_point_and_a_replay_leave_each_row_once(tmp_path: Path) -> None:
    killed = 0
    for call in range(1, 200):
        folder = tmp_path / str(call)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, call)
            try:
                run_once(folder)
                break
            except Killed:
                killed += 1
        restart()
        assert all(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))

        run_once(folder)

        assert [name for name in visible(folder) if name.endswith(".tmp")] == [], f"after a kill at {call}"
        assert offsets(folder) == list(range(70)), f"after a kill at {call}"
        assert offsets(folder, "codes") == list(range(70))
        assert offsets(folder, "alerts") == [3, 33, 60]
        assert pq.read_table(folder / "scores").num_rows == 70
        assert verify_folder(folder)["ok"]
    assert killed > 20


def test_a_full_disk_shows_no_partial_file_and_the_retry_works(tmp_path: Path) -> None:
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from small_batches import TOPIC, make_inferred
from ae_model.exceptions import SinkError
from pipelines.parquet import as_piece
from pipelines.parquet_files import read_table
from pipelines.parquet_writer import ParquetFolder
import numpy as np

folder = Path({str(tmp_path)!r})
batch = make_inferred(range(2000), latent=64)
batch.codes[:] = np.random.default_rng(0).normal(size=batch.codes.shape)
room = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, room[1]))
try:
    ParquetFolder(folder).write(TOPIC, 3, [as_piece(batch)])
except SinkError as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, room)
print(sorted(p.name for p in folder.rglob("*") if p.is_file()))
ParquetFolder(folder).write(TOPIC, 3, [as_piece(batch)])
print(read_table(folder, "codes").num_rows, read_table(folder, "scores").num_rows)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    message, files, rows = done.stdout.splitlines()
    name = f"{TOPIC}-00003-00000000000000000000-00000000000000001999-pumps-v1.parquet"
    assert message.startswith(f"parquet {name} in {tmp_path}/codes/{HOUR}: expected room and the right to write.")
    assert "File too large" in message
    assert files == str([f".{TOPIC}-00003-pumps.lock"])
    assert rows == "2000 2000"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SinkError, match=r"in .*/file/out: expected room and the right to write") as caught:
        write(tmp_path / "file" / "out", piece(0, 9))

    assert caught.value.retriable


def test_a_failed_write_is_forgotten_so_that_the_retry_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path, piece(0, 9))
    with monkeypatch.context() as patch:
        # The file is in place already when the folder's own sync fails.
        patch.setattr(parquet_pieces, "_sync_folder", full)
        with pytest.raises(SinkError, match="No space left"):
            write(tmp_path, piece(10, 19, alerts=[12]))

    write(tmp_path, piece(10, 24, alerts=[12]))

    assert offsets(tmp_path) == list(range(25))
    assert offsets(tmp_path, "alerts") == [12]
    assert verify_folder(tmp_path)["ok"]


def test_another_process_that_took_over_in_between_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, piece(0, 9))
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parquet import Path, piece, write
write(Path({str(tmp_path)!r}), piece(10, 19, alerts=[11]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)

    replayed = write(tmp_path, piece(10, 29, alerts=[11, 21]))

    assert replayed == 10
    assert offsets(tmp_path) == list(range(30))
    assert offsets(tmp_path, "alerts") == [11, 21]


def test_a_partition_has_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / ".lock"

    with hold(path), pytest.raises(SinkError, match="expected the other writer"), hold(path, timeout_s=0):
        pass
    with hold(path) as lock:
        lock.claim()
        assert lock.is_mine


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
