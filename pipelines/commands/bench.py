"""``latentstream bench``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from pipelines.bench import FRAMES, ROUNDS, bench_stream
from pipelines.commands.addresses import local_kafka
from pipelines.commands.output import note, say, show

QUICK_FRAMES, QUICK_ROUNDS = 200_000, 3


def stream(args: argparse.Namespace) -> int:
    """Measure the stream against the bare model."""
    frames = args.frames or (QUICK_FRAMES if args.quick else FRAMES)
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    with _broker(args.bootstrap) as bootstrap:
        note(f"Filling a topic with {frames:,} frames, then {rounds + 1} rounds, of which the first warms up")
        report = bench_stream(bootstrap, frames=frames, rounds=rounds)
    if args.output == "json":
        show(report, args.output)
    else:
        say(report.as_text())
    return 0


@contextmanager
def _broker(given: str | None) -> Iterator[str]:
    """The broker given, or one of its own that leaves nothing behind."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="latentstream-bench-") as folder:
        note("Starting a Kafka for the measurement")
        try:
            yield local_kafka().start(Path(folder)).bootstrap
        finally:
            local_kafka().stop(Path(folder))
