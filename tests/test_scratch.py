"""Scratch folders are gone when their work is, however it ended, and never under somebody else's hands."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ae_model.scratch import remove_leftovers, scratch_folder

HOLD = """
import sys
from pathlib import Path
from ae_model.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "half").write_text("done")
    print(folder, flush=True)
    sys.stdin.read()
"""


def hold(parent: Path, prefix: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder with a file until it is ended."""
    words = [sys.executable, "-c", HOLD, str(parent), prefix]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_folder_is_there_in_the_block_and_gone_after_it_even_after_an_error(tmp_path: Path) -> None:
    names = []

    def fail() -> None:
        with scratch_folder(tmp_path, ".work-") as folder:
            (folder / "file").touch()
            names.extend(path.name[:6] for path in tmp_path.iterdir())
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fail()

    assert names == [".work-"]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_was_renamed_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".work-") as folder:
        folder.rename(tmp_path / "1")

    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_leftover_of_a_killed_process_is_removed_by_the_next_one_alone(tmp_path: Path) -> None:
    process, folder = hold(tmp_path, ".work-")
    remove_leftovers(tmp_path, ".work-")
    while_it_lived = (folder / "half").exists()
    kill(process)
    after_the_kill = (folder / "half").exists()

    with scratch_folder(tmp_path, ".work-"):
        during_the_next = folder.exists()

    assert (while_it_lived, after_the_kill, during_the_next) == (True, True, False)


def test_other_names_and_links_are_left(tmp_path: Path) -> None:
    process, other = hold(tmp_path, ".work-2-")
    kill(process)
    (tmp_path / ".work-notes").mkdir()
    (tmp_path / "kept").mkdir()
    link = tmp_path / f".work-{'0' * 32}"
    link.symlink_to(tmp_path / "kept")

    remove_leftovers(tmp_path, ".work-")

    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / ".work-notes", tmp_path / "kept", link])


def test_folders_made_at_once_are_never_taken_for_leftovers(tmp_path: Path) -> None:
    def work(_: int) -> bool:
        with scratch_folder(tmp_path, ".work-") as folder:
            (folder / "file").touch()
            return folder.is_dir() and (folder / "file").exists()

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(work, range(400)))

    assert kept == [True] * 400
    assert list(tmp_path.iterdir()) == []
