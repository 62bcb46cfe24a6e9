"""``--setup_file ./setup.py``: what Beam builds of this project for workers elsewhere, by Beam's own code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from apache_beam.runners.portability.stager import Stager

ROOT = Path(__file__).parent.parent


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, as a clone would have it."""
    folder = tmp_path_factory.mktemp("tree")
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def package(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker package."""
    with pytest.MonkeyPatch.context() as patch:
        # A build that asked for a package would fail here, instead of taking it from a network.
        patch.setenv("PIP_NO_INDEX", "1")
        return Path(Stager._build_setup_package(str(tree / "setup.py"), str(tmp_path_factory.mktemp("staged"))))


@pytest.fixture(scope="module")
def packed(package: Path) -> set[str]:
    """Names in the worker package, below its top folder."""
    with tarfile.open(package) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


def test_worker_package_holds_all_code_and_what_it_reads(packed: set[str]) -> None:
    wanted = {
        name
        for name in tracked_files()
        if (name.startswith(("ae_model/", "pipelines/")) and name.endswith((".py", ".yaml", ".json")))
        or (name.startswith("infra/") and name.endswith(".py"))
    }

    assert {"pipelines/streams/server-telemetry.yaml", "pipelines/schemas/alert.schema.json"} <= wanted
    assert wanted - packed == set()
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= packed


def test_worker_package_leaves_tests_and_data_at_home(packed: set[str]) -> None:
    strangers = {name.partition("/")[0] for name in packed} - {
        *("", ".", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "setup.py"),
        *("ae_model", "infra", "latentstream.egg-info", "pipelines"),
    }

    assert strangers == set()


def test_worker_that_installs_the_package_finds_its_streams_and_schemas(package: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    look = "from pipelines.stream_file import load_stream, __file__; print(__file__, load_stream('spoken-digits').name)"

    subprocess.run([*pip, "--target", str(tmp_path), str(package)], check=True, capture_output=True)
    seen = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, check=True, capture_output=True, text=True)

    assert seen.stdout.split() == [str(tmp_path / "pipelines" / "stream_file.py"), "spoken-digits"]
    assert (tmp_path / "pipelines" / "schemas" / "alert.schema.json").is_file()
