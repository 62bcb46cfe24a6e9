"""One broker for the whole test session, and topic names that never meet."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from infra.local import flink as local_flink
from infra.local import kafka

KAFKA_WARNINGS = (
    # Its message schemas are read through a call that Python 3.11 and 3.12 deprecate and 3.13 took back.
    (r"(read|open)_text is deprecated", DeprecationWarning),
    # The socket of a refused connection is left to the garbage collector.
    (r"unclosed <socket.socket .*laddr=..0.0.0.0.", ResourceWarning),
    # And so is that of a handshake that failed.
    (r"unclosed <ssl.SSLSocket ", ResourceWarning),
)


def pytest_configure(config: pytest.Config) -> None:
    """Bear with kafka-python where warnings are errors, and with machines that are busy."""
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    for message, category in KAFKA_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}:{category.__name__}")
        # That line holds in tests; this one for what the garbage collector finds after the last.
        warnings.filterwarnings("ignore", message, category)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for the broker, so ``-m "not kafka"`` leaves them all out."""
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address (``host:port``) of a real Kafka node that lives as long as the session."""
    folder = tmp_path_factory.mktemp("kafka")
    running = kafka.start(folder)
    yield running.bootstrap
    kafka.stop(folder)


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_flink.Flink]:
    """A real Flink of two slots that lives as long as the session; its folder is where ``services`` would look."""
    folder = tmp_path_factory.mktemp("cache") / "latentstream" / "flink"
    yield local_flink.start(folder, slots=2)
    local_flink.stop(folder)


@pytest.fixture(scope="session")
def topic_name() -> Callable[..., str]:
    """Make a topic name that no other test of the session has: ``topic_name("codes")``."""
    counter = itertools.count(1)
    return lambda hint="frames": f"test.{hint}-{next(counter)}.frames.v1"


@pytest.fixture
def fresh_process() -> Iterator[None]:
    """No test inherits what another one's process knew of a Parquet folder."""
    from parquet_rig import restart

    restart()
    yield
    restart()


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``zoo.exported`` puts its models, each once."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that holds the small one, for tests that leave it as it is."""
    import small_models

    folder = tmp_path_factory.mktemp("models")
    small_models.publish(folder)
    return folder
