"""``latentstream evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from pipelines.commands.output import show
from pipelines.evaluate import evaluate_stream
from pipelines.stream_file import load_stream


def evaluate(args: argparse.Namespace) -> int:
    """Compare alerts with labels."""
    stream = load_stream(args.stream)
    found = evaluate_stream(stream, args.data, args.labels, Path(args.models))
    rows = [{"scores of": role, **evaluation} for role, evaluation in found.items()]
    show(found if args.output == "json" else rows, args.output)
    return 0
