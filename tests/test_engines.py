"""The engine is always one the user named, with the flags it cannot do without."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PortableOptions

from ae_model.exceptions import ConfigError
from pipelines.engines import Engine, choose_engine, make_options
from pipelines.prism import find_prism, serving


def test_bounded_run_takes_fn_api_runner_by_short_or_full_name() -> None:
    assert choose_engine("FnApiRunner", [], bounded=True) == Engine("FnApiRunner")
    assert choose_engine("fnapi", [], bounded=True) == Engine("FnApiRunner")


@pytest.mark.parametrize("runner", ["DirectRunner", "direct", "SwitchingDirectRunner"])
def test_direct_runner_is_refused_with_the_reason(runner: str) -> None:
    with pytest.raises(ConfigError, match=r"which is Prism for some graphs and FnApiRunner for others"):
        choose_engine(runner, [], bounded=True)


def test_unbounded_run_on_fn_api_runner_is_refused_with_the_flag_to_add() -> None:
    with pytest.raises(ConfigError, match=r"Add --until latest"):
        choose_engine("FnApiRunner", [], bounded=False)


def test_unknown_runner_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"expected one of FnApiRunner, PrismRunner.*Received: --runner=Spork"):
        choose_engine("Spork", [], bounded=True)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Prism; its home folder."""
    for name in ("PRISM_LOCATION", "GOBIN", "GOPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def make_program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


def test_prism_without_its_program_says_how_to_get_it(bare: Path) -> None:

    with pytest.raises(ConfigError, match=r"go install .*cmd/prism"):
        choose_engine("prism", [], bounded=False)


def test_prism_given_by_flag_keeps_the_flag_of_the_user() -> None:
    engine = choose_engine("PrismRunner", ["--prism_location=/opt/prism"], bounded=False)

    assert [flag for flag in engine.flags if "prism_location" in flag] == []


def test_prism_is_found_where_it_is_named_then_on_the_path_then_where_go_installs(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [find_prism()]

    expected = [make_program(bare / "go" / "bin" / "prism")]
    found.append(find_prism())
    expected.append(make_program(bare / "gobin" / "prism"))
    monkeypatch.setenv("GOBIN", str(bare / "gobin"))
    found.append(find_prism())
    expected.append(make_program(bare / "path" / "prism"))
    monkeypatch.setenv("PATH", str(bare / "path"))
    found.append(find_prism())
    monkeypatch.setenv("PRISM_LOCATION", "/opt/prism")
    found.append(find_prism())

    assert found == [None, *expected, "/opt/prism"]
    assert "--prism_location=/opt/prism" in choose_engine("PrismRunner", [], bounded=True).flags


def test_prism_is_told_to_stream_where_the_input_has_no_end() -> None:
    flags = ["--prism_location=/opt/prism"]

    assert choose_engine("prism", flags, bounded=True).flags == ("--environment_type=LOOPBACK",)
    assert choose_engine("prism", flags, bounded=False).flags == ("--environment_type=LOOPBACK", "--streaming")


@pytest.mark.parametrize("program", ["absent", "folder", "text"])
def test_program_that_is_not_prism_is_refused(program: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a program")
    options = make_options([f"--prism_location={tmp_path / program}"], "PrismRunner")

    with (
        pytest.raises(ConfigError, match=rf"expected Beam's Prism.* Received: {tmp_path / program} \(\S+"),
        serving(options),
    ):
        pass


FLINK = ["--job_endpoint=localhost:1", "--flink_master=localhost:2", "--environment_type=LOOPBACK"]


def test_flink_gets_checkpoints_and_ends_its_bundles_before_them() -> None:
    assert choose_engine("flink", FLINK, bounded=False).flags == (
        "--streaming",
        "--finish_bundle_before_checkpointing",
        "--checkpointing_interval=2000",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
        "--max_bundle_time_mills=200",
        "--max_bundle_size=1000",
        "--max_parallelism=32",
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], r"--runner=FlinkRunner: expected .* Run: latentstream services up flink"),
        (["--job_endpoint=localhost:1"], r"with --flink_master=HOST:PORT"),
        (FLINK[:2], r"Add --environment_type=EXTERNAL --environment_config=HOST:PORT"),
        ([*FLINK, "--checkpointing_interval=-1"], r"without checkpoints .* Add --checkpointing_interval=2000"),
        ([*FLINK, "--finish_bundle_before_checkpointing=false"], r"may never read\. Received: false\. Leave it out"),
        ([*FLINK, "--shutdown_sources_after_idle_ms=1000"], r"no checkpoint completes.* Leave it out; --until ends"),
    ],
)
def test_flink_without_what_it_needs_is_refused_with_the_line_to_add(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_engine("FlinkRunner", flags, bounded=True)


def test_server_of_the_user_is_used_and_none_is_started() -> None:
    options = make_options(["--prism_location=/nonexistent", "--job_endpoint=localhost:1"], "PrismRunner")

    with serving(options):
        endpoint = options.view_as(PortableOptions).job_endpoint

    assert endpoint == "localhost:1"
