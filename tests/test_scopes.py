"""Names of many models: readable, and never the same for two keys."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import small_models
from hypothesis import given
from hypothesis import strategies as st

from ae_model import artifact, manifest
from ae_model.exceptions import ConfigError
from ae_model.manifest import Manifest
from ae_model.scopes import Scope, slug


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope("own", "machine-1-6"), "smd.own.machine-1-6"),
        (Scope("own", "hall 2/fan.b"), "smd.own.hall.202.2ffan.2eb"),
        (Scope("own", "Pumpe_ü"), "smd.own.Pumpe_.c3.bc"),
        (Scope("own", "../../etc"), "smd.own..2e.2e.2f.2e.2e.2fetc"),
        (Scope("cohort", "machine-1", "^(.*)-"), "smd.cohort.machine-1"),
        (Scope("global"), "smd"),
        (Scope("statistics"), "smd.statistics"),
    ],
)
def test_name_says_the_layer_and_the_key(scope: Scope, name: str) -> None:
    assert scope.name("smd") == name


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_two_keys_never_share_a_name_nor_that_of_a_baseline(keys: list[str]) -> None:
    names = [Scope("own", key).name("smd") for key in keys]

    assert len({*names, *(f"{name}.pca" for name in names)}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in names)


def test_long_keys_that_begin_alike_differ_in_their_hash() -> None:
    first, second = slug("x" * 500), slug("x" * 501)

    assert first != second
    assert first[:82] == second[:82] == "x" * 80 + ".h"
    assert len(f"{'s' * 63}.cohort.{slug('ü' * 500)}.pca") < 255


def test_empty_key_has_a_name_too() -> None:
    assert slug("") == ".he3b0c44298fc1c149afbf4c8996fb924"


@pytest.mark.parametrize("wrong", [{"layer": "own"}, {"layer": "global", "key": "a"}, {"layer": "mine", "key": "a"}])
def test_scope_that_means_nothing_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Scope(**wrong)  # type: ignore[arg-type]


def test_manifest_keeps_the_key_as_it_was(tmp_path: Path) -> None:
    scope = Scope("cohort", "hall 2", "^(hall .)")
    facts = replace(small_models.facts("small.cohort.hall.202"), scope=scope)

    artifact.export(tmp_path / "candidate", small_models.fitted(), facts, small_models.make_frames(8))

    assert manifest.read(tmp_path / "candidate").scope == scope


def test_manifest_without_a_scope_is_of_the_global_layer(tmp_path: Path) -> None:
    text = (small_models.export(tmp_path / "candidate") / "manifest.json").read_text()
    before = re.sub(r',\n  "scope": \{[^}]*\}', "", text)

    assert before != text
    assert Manifest.from_json(before).scope == Scope("global")
