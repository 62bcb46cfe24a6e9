"""``latentstream train``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from pipelines.commands.beam_flags import beam_flags
from pipelines.commands.output import as_plain, note, show
from pipelines.stream_file import load_stream
from pipelines.train import train_stream
from pipelines.train_keys import ModelLine, train_keys


def train(args: argparse.Namespace) -> int:
    """Train, publish, and say what came of it."""
    stream = load_stream(args.stream)
    flags = beam_flags(args.runner, args.beam_args, bounded=True)
    if stream.key is not None:
        made = train_keys(stream, args.data, Path(args.models), flags, note, args.tensorboard)
        show(made if args.output == "json" else [as_row(line) for line in made.models], args.output)
        return 0
    found = as_plain(train_stream(stream, args.data, Path(args.models), flags, note, args.tensorboard))
    if args.output == "text":
        # A line of seven figures per channel: for a program, or for the model card.
        found.pop("channels", None)
    show(found, args.output)
    return 0


def as_row(line: ModelLine) -> dict[str, Any]:
    """What a person wants to see of a model beside the others."""
    columns = ("layer", "key", "frames", "epochs", "error", "pca_error", "threshold", "state", "version")
    return {column: getattr(line, column) for column in columns}
