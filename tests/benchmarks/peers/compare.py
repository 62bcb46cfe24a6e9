"""latentstream beside other ways to put a Keras model behind Kafka from Python, on the same bytes in one run.

    python tests/benchmarks/peers/compare.py --out peers [--rounds 7] [--quick]

Each leg is a process in a locked environment of its own, on one core; the broker has another. The
legs take turns, round by round, and only ratios within a round count. Interpreters of the peers
are made by uv when they are first needed (some 2 GB each). The machine must be quiet.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import results
from cases import CASES, QUICK, QUICK_TOPICS, TOPICS, Case
from environments import find_python, lock_all
from rig import prepared, started

BUSY_LOAD = 0.5


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them with a picture."""
    given = _parse(args)
    if given.lock:
        lock_all()
        return 0
    load = os.getloadavg()[0]
    if load > BUSY_LOAD and not given.anyway:
        sys.exit(f"load of the machine: expected at most {BUSY_LOAD}. Received: load={load:.2f}. Wait, or --anyway.")
    cases = [case for case in CASES if case.name in (given.legs or (QUICK if given.quick else [c.name for c in CASES]))]
    for case in cases:
        find_python(case.environment)
    rounds, versions = measure(cases, given.rounds or (3 if given.quick else 7), quick=given.quick)
    machine = {
        "cores": os.cpu_count(),
        "load at the start": round(load, 2),
        "CPU": _cpu(),
        "Python": platform.python_version(),
    }
    print(results.write(results.as_json(rounds, versions, machine), given.out))
    return 0


def measure(cases: Sequence[Case], count: int, *, quick: bool) -> tuple[results.Rounds, dict[str, dict[str, str]]]:
    """One round to warm up, then those that count; and the versions in each leg."""
    rounds: list[dict[str, results.Pass]] = []
    with prepared(cases, QUICK_TOPICS if quick else TOPICS) as place, started(cases, place) as legs:
        for number in range(count + 1):
            rounds.append({})
            for name, leg in legs.items():
                rounds[-1][name] = leg.run()
                done = rounds[-1][name]
                print(
                    f"round {number}  {name}: {done['frames'] / done['wall_s']:,.0f} frames/s",
                    file=sys.stderr,
                    flush=True,
                )
        return rounds[1:], {name: leg.versions for name, leg in legs.items()}


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="latentstream beside its peers.")
    parser.add_argument("--out", type=Path, default=Path("peers"), metavar="DIR", help="results and the picture")
    parser.add_argument("--rounds", type=int, metavar="N", help="that count, 7 or 3; one more warms up")
    parser.add_argument("--legs", nargs="*", choices=[case.name for case in CASES], help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="on a fifth of the frames; two legs unless named")
    parser.add_argument("--anyway", action="store_true", help="measure on a busy machine; its load is told")
    parser.add_argument("--lock", action="store_true", help="resolve the environments anew, and measure nothing")
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
