"""The engine is always one the user named, with the flags it cannot do without."""

from __future__ import annotations

import pytest

from ae_model.exceptions import ConfigError
from pipelines.engines import Engine, choose_engine


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


def test_prism_without_its_binary_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("PRISM_LOCATION", raising=False)

    with pytest.raises(ConfigError, match=r"go install .*cmd/prism"):
        choose_engine("prism", [], bounded=False)


def test_prism_given_by_flag_keeps_the_flag_of_the_user() -> None:
    engine = choose_engine("PrismRunner", ["--prism_location=/opt/prism"], bounded=False)

    assert [flag for flag in engine.flags if "prism_location" in flag] == []


def test_prism_found_beside_other_programs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_LOCATION", "/opt/prism")

    assert "--prism_location=/opt/prism" in choose_engine("PrismRunner", [], bounded=True).flags
