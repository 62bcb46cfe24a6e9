"""``latentstream topics``."""

from __future__ import annotations

import argparse

from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import show
from pipelines.kafka.offsets import check_topics, create_topics
from pipelines.stream_file import load_stream


def create(args: argparse.Namespace) -> int:
    """Create a stream's topics, all with as many partitions as its input."""
    stream = load_stream(args.stream)
    kafka = find_kafka(args.bootstrap, stream)
    names = [stream.input.topic, *stream.outputs.topics]
    created = create_topics(kafka, dict.fromkeys(names, stream.input.partitions))
    counts = check_topics(kafka, names, args.stream)
    show([{"topic": name, "partitions": counts[name], "created": name in created} for name in names], args.output)
    return 0


def check(args: argparse.Namespace) -> int:
    """Check that a stream's topics are there."""
    stream = load_stream(args.stream)
    names = [stream.input.topic, *stream.outputs.topics]
    counts = check_topics(find_kafka(args.bootstrap, stream), names, args.stream)
    show([{"topic": name, "partitions": counts[name]} for name in names], args.output)
    return 0
