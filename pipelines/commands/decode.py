"""``latentstream decode``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.addresses import find_bootstrap
from pipelines.commands.output import show
from pipelines.decode import decode_parquet, decode_topic
from pipelines.kafka.client import KafkaSettings
from pipelines.stream_file import load_stream


def decode(args: argparse.Namespace) -> int:
    """Decode a topic of codes, or a folder of them."""
    models, out = Path(args.models), Path(args.out)
    if args.parquet:
        show(decode_parquet(Path(args.parquet), models, out), args.output)
        return 0
    stream = load_stream(args.stream) if args.stream else None
    address = find_bootstrap(args.bootstrap, stream)
    kafka = KafkaSettings(address) if stream is None else stream.kafka_settings(address)
    show(decode_topic(kafka, args.topic, models, out), args.output)
    return 0
