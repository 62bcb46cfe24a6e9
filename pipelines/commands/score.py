"""``latentstream score``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from pipelines.backfill import score_stream
from pipelines.commands.beam_flags import beam_flags
from pipelines.commands.output import show
from pipelines.stream_file import load_stream


def score(args: argparse.Namespace) -> int:
    """Score recordings into a folder."""
    stream = load_stream(args.stream)
    flags = beam_flags(args.runner, args.beam_args, bounded=True)
    summary = score_stream(stream, args.data, Path(args.models), Path(args.out), flags, args.model_cache_mib)
    show(summary, args.output)
    return 0
