"""What the comparison with peers may tell, and when it must tell nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PEERS = Path(__file__).parent / "benchmarks" / "peers"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PEERS))
    import results

    return results


def make_round(bare_us: float, ours_us: float, peer_us: float) -> dict[str, dict[str, float]]:
    speeds = {"bare": bare_us, "latentstream": ours_us, "Bytewax, batched": peer_us}
    return {name: {"frames": 1_000_000, "wall_s": us, "cpu_s": 0.9 * us} for name, us in speeds.items()}


def test_ratio_is_the_median_of_ratios_within_rounds(results: Any) -> None:
    rounds = [make_round(2, 4, 12), make_round(2, 4, 16), make_round(2, 2, 20)]

    assert results.compare(rounds, "latentstream", "bare") == pytest.approx((0.5, 0.5, 1.0))
    assert results.compare(rounds, "latentstream", "Bytewax, batched")[0] == pytest.approx(4.0)


def test_round_of_a_slower_machine_is_left_out(results: Any) -> None:
    rounds = [make_round(2.0, 4, 12), make_round(2.1, 4, 12), make_round(2.9, 30, 12), make_round(1.9, 4, 12)]

    assert results.quiet_rounds(rounds) == [rounds[0], rounds[1], rounds[3]]


def test_machine_that_is_not_quiet_gives_no_result(results: Any) -> None:
    rounds = [make_round(speed, 4, 12) for speed in (1, 2, 3, 4)]

    with pytest.raises(SystemExit, match=r"no result: .* Received: 0 of 4 rounds"):
        results.quiet_rounds(rounds)


def test_results_are_written_for_programs_and_for_people(results: Any, tmp_path: Path) -> None:
    versions = {"bare": {"tensorflow": "2.21.0"}, "latentstream": {"apache-beam": "2.77.0"}, "Bytewax, batched": {}}
    found = results.as_json([make_round(2, 3, 12)] * 3, versions, {"cores": 2})

    table = results.write(found, tmp_path)

    assert json.loads((tmp_path / "bench.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "bench.md").read_text() == table
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "| latentstream | 333,333 | 0.667 (0.667 to 0.667) | 1.00 | 2.70 | apache-beam 2.77.0 |" in table
    assert "| latentstream / Bytewax, batched | 4 (4 to 4) | 4 | 6 | must |" in table
    assert [goal["case"] for goal in found["goals"]] == ["latentstream", "latentstream"]


def test_each_leg_has_its_script_and_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))
    from cases import CASES, GOALS, OURS

    scripts = {case.script for case in CASES}
    environments = {case.environment for case in CASES} - {OURS}
    names = {case.name for case in CASES}
    assert scripts == {path.stem for path in (PEERS / "legs").glob("*.py")} - {"serving"}
    assert environments == {path.stem for path in (PEERS / "environments").glob("*.lock")}
    assert {case.base for case in CASES} <= names
    assert {name for goal in GOALS for name in (goal.case, goal.other)} <= names
