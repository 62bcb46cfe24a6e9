"""``latentstream decode``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import find_bootstrap
from pipelines.commands.output import show
from pipelines.decode import decode_parquet, decode_topic
from pipelines.kafka.client import KafkaSettings
from pipelines.stream_file import load_stream


def decode(args: argparse.Namespace) -> int:
    """Decode a stream's codes, another topic of codes, or a folder of them."""
    models, out = Path(args.models), Path(args.out)
    if args.parquet:
        show(decode_parquet(Path(args.parquet), models, out), args.output)
        return 0
    stream = load_stream(args.stream) if args.stream else None
    topic = args.topic or (stream.outputs.codes if stream else None)
    if topic is None:
        raise ConfigError("decode: expected a stream with codes, --topic or --parquet. Received: none of them.")
    address = find_bootstrap(args.bootstrap, stream)
    kafka = KafkaSettings(address) if stream is None else stream.kafka_settings(address)
    show(decode_topic(kafka, topic, models, out), args.output)
    return 0
