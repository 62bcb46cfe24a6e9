"""Kills, full disks, rival writers and replays: each row is there once all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_rig import HOUR, offsets, piece, restart, visible, write
from small_batches import TOPIC

from ae_model.exceptions import SinkError
from pipelines import parquet_pieces
from pipelines.parquet_files import verify_folder
from pipelines.parquet_lock import hold

pytestmark = pytest.mark.usefixtures("fresh_process")


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing is cleaned up."""


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
