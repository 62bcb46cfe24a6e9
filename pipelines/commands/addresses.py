"""Which brokers a verb talks to."""

from __future__ import annotations

import importlib
from typing import Any

from pipelines.kafka.client import KafkaSettings
from pipelines.stream_file import StreamFile


def local_kafka() -> Any:
    """The module that starts Kafka on this machine.

    By name: the packages stand without ``infra``, and only the command line knows of it.
    """
    return importlib.import_module("infra.local.kafka")


def find_bootstrap(given: str | None, stream: StreamFile | None = None) -> str:
    """The flag, else what the stream file says itself, else the local broker, else Kafka's usual port."""
    if given:
        return given
    if stream is not None and "bootstrap" in stream.kafka.model_fields_set:
        return stream.kafka.bootstrap
    broker = local_kafka().status()
    return str(broker.bootstrap) if broker is not None else KafkaSettings().bootstrap


def find_kafka(given: str | None, stream: StreamFile) -> KafkaSettings:
    """How to reach the brokers of a stream."""
    return stream.kafka_settings(find_bootstrap(given, stream))
