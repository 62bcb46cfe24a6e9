"""``latentstream replay``."""

from __future__ import annotations

import argparse

from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import show
from pipelines.replay import ReplayOptions, replay
from pipelines.stream_file import StreamFile, load_stream, ready_streams


def replay_(args: argparse.Namespace) -> int:
    """Send recordings to a topic, and count what was sent."""
    stream = find_stream(args.stream, args.topic)
    options = ReplayOptions(
        rate=args.rate, key=args.key, start_ms=args.start_ms, bad_share=args.bad_share, seed=args.seed
    )
    kafka = find_kafka(args.bootstrap, stream)
    show(replay(stream, args.data, args.topic or stream.input.topic, kafka, options), args.output)
    return 0


def find_stream(name: str | None, topic: str | None) -> StreamFile:
    """The stream named, else the ready stream that reads the topic.

    Raises:
        ConfigError: neither says what a frame is.
    """
    if name is not None:
        return load_stream(name)
    ready = [load_stream(each) for each in ready_streams()]
    found = [stream for stream in ready if stream.input.topic == topic]
    if not found:
        raise ConfigError(
            f"--stream: expected the stream whose frames these are, since no ready stream reads topic {topic}. "
            f"Received: no --stream. The ready ones read {', '.join(stream.input.topic for stream in ready)}."
        )
    return found[0]
