"""Which brokers a verb talks to."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from pipelines.kafka.client import KafkaSettings
from pipelines.stream_file import StreamFile


def local_kafka() -> Any:
    """The module that starts Kafka on this machine.

    By name: the packages stand without ``infra``, and only the command line knows of it.
    """
    return importlib.import_module("infra.local.kafka")


def local_flink() -> Any:
    """The module that starts Flink on this machine, likewise."""
    return importlib.import_module("infra.local.flink")


def flink_addresses(runner: str, flags: Sequence[str]) -> tuple[str, ...]:
    """The flags with where Flink is, if it is the engine and they do not say: the one of ``services up flink``."""
    names = {flag.partition("=")[0] for flag in flags}
    if runner.lower() not in ("flink", "flinkrunner") or {"--job_endpoint", "--flink_master"} & names:
        return tuple(flags)
    flink = local_flink().status()
    if flink is None:
        return tuple(flags)
    pool = ("--environment_type=EXTERNAL", f"--environment_config={flink.worker_pool}")
    where = () if "--environment_type" in names else pool
    return (f"--job_endpoint={flink.job_endpoint}", f"--flink_master={flink.web}", *where, *flags)


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
