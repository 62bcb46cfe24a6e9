"""``latentstream sample``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from pipelines.commands.output import show
from pipelines.sample import sample_model
from pipelines.stream_file import load_stream


def sample(args: argparse.Namespace) -> int:
    """Draw new frames from a stream's variational model."""
    name = load_stream(args.stream).name
    models, out = Path(args.models), Path(args.out)
    show(sample_model(models, name, args.model_version, out, args.count, args.seed), args.output)
    return 0
