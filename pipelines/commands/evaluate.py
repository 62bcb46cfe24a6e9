"""``latentstream evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.output import show
from pipelines.evaluate import evaluate_stream
from pipelines.stream_file import load_stream


def evaluate(args: argparse.Namespace) -> int:
    """Compare alerts with labels."""
    stream = load_stream(args.stream)
    show(evaluate_stream(stream, args.data, args.labels, Path(args.models)), args.output)
    return 0
