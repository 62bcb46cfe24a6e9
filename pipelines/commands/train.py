"""``latentstream train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.beam_flags import beam_flags
from pipelines.commands.output import note, show
from pipelines.stream_file import load_stream
from pipelines.train import train_stream


def train(args: argparse.Namespace) -> int:
    """Train, publish, and say what came of it."""
    stream = load_stream(args.stream)
    flags = beam_flags(args.runner, args.beam_args, bounded=True)
    show(train_stream(stream, args.data, Path(args.models), flags, note), args.output)
    return 0
