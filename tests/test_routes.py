"""A record is scored by the first model that there is: of its key, its cohort, of all keys, or statistics."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from pathlib import Path

import keyed_models
import pytest
from keyed_models import COHORT, KEYS, NAMES, SCOPES, candidate, make_stream, publish

from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.scopes import Scope
from pipelines.cli import main
from pipelines.routes import Routes, find_routes


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keyed_models.publish_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    return Path(shutil.copytree(published, tmp_path / "models"))


@pytest.mark.parametrize("key", KEYS)
def test_first_of_the_candidates_is_the_nearest_layer(published: Path, key: bytes | None) -> None:
    assert find_routes(make_stream(), published).find(key)[0].model == NAMES[key]


def test_all_layers_are_asked_in_order(published: Path) -> None:
    routes = find_routes(make_stream(), published)

    own, _, cohort, whole, statistics = (candidate(scope) for scope, _ in SCOPES)
    assert routes.find(b"a-1") == (own, cohort, whole, statistics)
    assert routes.find(b"a-2") == (cohort, whole, statistics)
    assert routes.find(b"new") == routes.find(None) == (whole, statistics)
    assert routes.path(own) == str(published / "small.own.a-1" / "1")


def test_models_are_listed_with_the_layer_and_the_key_they_score(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", "--models", str(published), "-o", "json"]) == 0

    listed = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["version"], row["serves"], row["layer"], row["key"]) for row in listed] == [
        ("small", 1, True, "global", None),
        ("small.cohort.a", 1, True, "cohort", "a"),
        ("small.own.a-1", 1, True, "own", "a-1"),
        ("small.own.b.2f1", 1, True, "own", "b/1"),
        ("small.statistics", 1, True, "statistics", None),
    ]
    assert [row["threshold"] for row in listed] == pytest.approx([0.05, 0.04, 0.02, 0.03, 0.02])


def test_stream_without_key_has_one_model_whatever_else_there_is(published: Path) -> None:
    routes = find_routes(make_stream(key=None, cohort=None), published)

    assert routes == Routes(str(published), (candidate(Scope("global")),))
    assert routes.find(b"a-1") == routes.find(None) == (routes.only,)


def test_routes_of_a_thousand_keys_travel_small(published: Path) -> None:
    own = {f"machine-{i}": candidate(Scope("own", f"machine-{i}")) for i in range(1000)}

    size = len(pickle.dumps(Routes(str(published), (), keyed=True, own=own)))

    assert size < 100_000


def test_promoted_version_is_the_one_that_is_asked(models: Path) -> None:
    publish(models, Scope("own", "a-1"), 5.0)

    assert find_routes(make_stream(), models).find(b"a-1")[0] == candidate(Scope("own", "a-1"), version=2)


def test_damaged_model_is_left_out_and_named(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    (models / "small.own.a-1" / "1" / "saved_model.pb").write_bytes(b"damaged")

    with caplog.at_level(logging.ERROR):
        routes = find_routes(make_stream(), models)

    assert [each.layer for each in routes.find(b"a-1")] == ["cohort", "global", "statistics"]
    assert "small.own.a-1/1" in caplog.text


def test_model_with_codes_of_another_form_is_left_out_and_named(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(models, Scope("own", "a-1"), 1.0, latent=2)

    with caplog.at_level(logging.ERROR):
        routes = find_routes(make_stream(), models)

    assert routes.find(b"a-1")[0].layer == "cohort"
    assert "small.own.a-1 version 2: expected codes as small has, ('float32', 3). Received: ('float32', 2)" in (
        caplog.text
    )


def test_cohort_by_another_pattern_is_not_this_one(published: Path) -> None:
    routes = find_routes(make_stream(cohort=r"^(\w)"), published)

    assert routes.find(b"a-2")[0].layer == "global"
    assert routes.cohort != COHORT


def test_without_a_global_model_statistics_stand_in(models: Path) -> None:
    shutil.rmtree(models / "small")

    assert find_routes(make_stream(), models).find(None) == (candidate(Scope("statistics")),)


def test_nothing_for_any_key_is_refused(models: Path) -> None:
    shutil.rmtree(models / "small")
    shutil.rmtree(models / "small.statistics")

    with pytest.raises(ArtifactError, match=r"expected small or small.statistics, .* Run `latentstream train small`"):
        find_routes(make_stream(), models)


def test_models_of_other_frames_are_refused(published: Path) -> None:
    with pytest.raises(ArtifactError, match="none that can be used"):
        find_routes(make_stream(frame={"length": 2}), published)


def test_one_version_cannot_be_asked_of_many_models(published: Path) -> None:
    with pytest.raises(ConfigError, match="--model-version: expected none with a model per device"):
        find_routes(make_stream(), published, version=1)
