"""Kafka clients: made late, refused early, quiet, and without a secret in sight."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors

from ae_model.exceptions import ConfigError, ConnectError
from pipelines.kafka.hooks import StrictBootstrap
from pipelines.kafka.security import KafkaSecurity, client_options
from pipelines.kafka.tls import find_fault, tls_error

BOOTSTRAP_MS = 8_000
REQUEST_MS = 15_000
# kafka-python's own half minute would outlast the restart of a broker many times over.
RECONNECT_MS = 1_000
# One line of one kind per logger in this time: a lost broker makes kafka-python write thousands.
LOG_EVERY_S = 30.0
NEEDED_PACKAGES = ("crc32c", "lz4", "zstandard")

# Of all that outputs are written by.
OUTPUT_OPTIONS = {
    "linger_ms": 20,
    "batch_size": 256 << 10,
    "compression_type": "lz4",
    # The broker and its topic decide what is too large; the client's own limit would only come first.
    "max_request_size": 64 << 20,
}

# malloc.h; see tune_allocator
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 256 << 20
_TRIM_BYTES = 1 << 30

_Client = TypeVar("_Client")


@dataclass(frozen=True)
class KafkaSettings:
    """Which cluster, and how to authenticate; plain values that pickle without a secret.

    Args:
        bootstrap: ``host:port``, several parted by commas.
        security: None for a broker that asks for nothing.
    """

    bootstrap: str = "localhost:9092"
    security: KafkaSecurity | None = None


def check_client() -> None:
    """Check that the C checksum and the codecs are there.

    Without the C checksum kafka-python falls back to Python: 120 instead of 5 microseconds a record.

    Raises:
        ConfigError: a package is absent.
    """
    for name in NEEDED_PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"kafka: expected package {name}. Received: none. Run `pip install {name}`.")


@functools.cache
def tune_allocator() -> None:
    """Let glibc keep big buffers; once per worker process, never in a program that embeds us.

    A fetch of megabytes otherwise gives its pages back to the kernel and faults
    them in again each time, which costs a third of the throughput. Elsewhere than
    on glibc nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
    except (OSError, AttributeError):
        return


def make_consumer(settings: KafkaSettings, **options: Any) -> KafkaConsumer:
    """A consumer that joins no group and commits nothing; ``options`` go to kafka-python.

    Raises:
        ConnectError: no broker answers, or it denies access.
    """
    fixed = {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }
    return _make(KafkaConsumer, settings, {**fixed, **options})


def make_producer(settings: KafkaSettings, **options: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas; ``options`` go to kafka-python.

    Raises:
        ConnectError: no broker answers, or it denies access.
    """
    fixed = {"enable_idempotence": True, "acks": "all", "allow_auto_create_topics": False, "metrics_enabled": False}
    return _make(KafkaProducer, settings, {**fixed, **options})


@contextmanager
def make_admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """An admin client for one block; Kafka's errors inside leave it as ConnectError.

    Raises:
        ConnectError: no broker answers, or it denies access.
    """
    admin = open_admin(settings)
    try:
        with translated(settings):
            yield admin
    finally:
        admin.close()


def open_admin(settings: KafkaSettings) -> KafkaAdminClient:
    """An admin client that the caller closes, and whose errors are Kafka's.

    Raises:
        ConnectError: no broker answers, or it denies access.
    """
    return _make(KafkaAdminClient, settings, {})


@contextmanager
def translated(settings: KafkaSettings) -> Iterator[None]:
    """Turn Kafka's errors inside the block into ConnectError."""
    try:
        yield
    except kafka_errors.KafkaError as exc:
        raise connect_error(settings, exc) from exc


def connect_error(settings: KafkaSettings, exc: BaseException) -> ConnectError:
    """What went wrong, in one line, without what the client sent."""
    fault = find_fault(exc)
    if fault is not None:
        return tls_error(settings.bootstrap, fault)
    if isinstance(exc, kafka_errors.AuthorizationError):
        rights = ", ".join(sorted(str(name) for name in _flat(exc.args)))
        return ConnectError(
            f"broker {settings.bootstrap}: expected the right to do this. "
            f"Received: {type(exc).__name__} {rights}. Ask for an ACL of this user."
        )
    if isinstance(exc, _DENIED):
        return ConnectError(
            f"broker {settings.bootstrap}: expected credentials it accepts. "
            f"Received: {exc}. Check kafka.security in the stream file."
        )
    return ConnectError(
        f"broker {settings.bootstrap}: expected an answer within {BOOTSTRAP_MS // 1000} s. Received: {exc}. "
        "Check kafka.bootstrap, or start a broker on this machine with `latentstream services up`."
    )


_DENIED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)


def _is_lasting(exc: BaseException) -> bool:
    """Whether waiting will not mend it."""
    return isinstance(exc, (*_DENIED, kafka_errors.AuthorizationError)) or find_fault(exc) is not None


def _flat(values: tuple[Any, ...]) -> list[Any]:
    return [item for value in values for item in (value if isinstance(value, (set, list, tuple)) else [value])]


def _make(kind: Callable[..., _Client], settings: KafkaSettings, options: dict[str, Any]) -> _Client:
    bootstrap = StrictBootstrap(_is_lasting)
    quiet = _quiet_loggers()
    quiet.starting += 1
    try:
        return kind(
            bootstrap_servers=[address.strip() for address in settings.bootstrap.split(",")],
            client_id="latentstream",
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            request_timeout_ms=REQUEST_MS,
            reconnect_backoff_max_ms=RECONNECT_MS,
            kafka_client=bootstrap.make_client,
            **client_options(settings.security, settings.bootstrap),
            **options,
        )
    except kafka_errors.KafkaError as exc:
        bootstrap.close()
        raise connect_error(settings, bootstrap.last_error or exc) from exc
    finally:
        quiet.starting -= 1


class QuietFilter(logging.Filter):
    """Pass warnings only, each kind of line once in LOG_EVERY_S, and none while a client starts.

    Below warnings kafka-python writes whole requests, the password among them. A
    start that fails is told by the ConnectError alone.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self.starting = 0
        self._seen: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let the line through."""
        if record.levelno < logging.WARNING or self.starting:
            return False
        if record.name == "kafka.net.selector" and record.levelno < logging.ERROR:
            return False  # it complains of a slow loop whenever the model holds the interpreter
        kind = (record.name, str(record.msg))
        now = time.monotonic()
        if now - self._seen.get(kind, -LOG_EVERY_S) < LOG_EVERY_S:
            return False
        self._seen[kind] = now
        return True


@functools.cache
def _quiet_loggers() -> QuietFilter:
    quiet = QuietFilter()
    names = [name for name in logging.root.manager.loggerDict if name == "kafka" or name.startswith("kafka.")]
    for name in names:
        logging.getLogger(name).addFilter(quiet)
    return quiet
