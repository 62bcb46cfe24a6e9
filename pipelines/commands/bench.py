"""``latentstream bench``."""

from __future__ import annotations

import argparse

from pipelines.bench import bench_stream
from pipelines.commands.addresses import find_bootstrap
from pipelines.commands.output import show


def stream(args: argparse.Namespace) -> int:
    """Measure the stream against the bare model."""
    show(bench_stream(find_bootstrap(args.bootstrap), frames=args.frames, rounds=args.rounds), args.output)
    return 0
