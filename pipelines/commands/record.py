"""``latentstream record``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import show
from pipelines.record import record_stream
from pipelines.stream_file import load_stream


def record(args: argparse.Namespace) -> int:
    """Record a part of the input topic."""
    stream = load_stream(args.stream)
    kafka = find_kafka(args.bootstrap, stream)
    show(record_stream(stream, kafka, Path(args.out), args.start, args.until), args.output)
    return 0
