"""A real broker that asks for a password and grants nothing by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import command_rig
import pytest
import stream_rig as rig
import yaml
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from ae_model.exceptions import ConnectError
from infra.local import kafka
from infra.local.processes import free_ports
from pipelines.cli import main
from pipelines.kafka import sink
from pipelines.kafka.buffers import Caps
from pipelines.kafka.client import KafkaSettings, make_admin, make_consumer, make_producer
from pipelines.kafka.consumers import ReaderKey, SharedConsumer
from pipelines.kafka.offsets import check_topics, create_topics, end_offsets, group_offsets
from pipelines.kafka.security import KafkaSecurity
from pipelines.kafka.sink import UnflushedRecords, close_sinks
from pipelines.records import OutputRecord
from pipelines.stream_file import load_stream

HOST = "127.0.0.1"
SECRET = "canary-7f3a"
ANY_RESOURCE = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
BOBS = ACLFilter("User:bob", None, ACLOperation.ANY, ACLPermissionType.ANY, ANY_RESOURCE)
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a listener where ada may do all and bob, who may enter, nothing."""
    plain, secure, controller = free_ports(3)
    folder = tmp_path_factory.mktemp("guarded")
    properties = {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{plain},SECURE://{HOST}:{secure},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{plain},SECURE://{HOST}:{secure}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_PLAINTEXT",
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f'{LOGIN} user_ada="{SECRET}" user_bob="{SECRET}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:ada",
    }
    kafka.start(folder, port=plain, properties=properties)
    yield f"{HOST}:{secure}"
    kafka.stop(folder)


@pytest.fixture
def enter(guarded: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., KafkaSettings]]:
    """Settings of a user with a password, which stays in the environment."""

    def settings(user: str, password: str = SECRET) -> KafkaSettings:
        monkeypatch.setenv("LS_PASSWORD", password)
        return KafkaSettings(guarded, KafkaSecurity("SASL_PLAINTEXT", "PLAIN", user, "env:LS_PASSWORD"))

    yield settings
    close_sinks()


def test_password_opens_the_door_and_is_in_no_line_of_any_log(
    enter: Callable[..., KafkaSettings], topic_name: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings, topic = enter("ada"), topic_name()

    create_topics(settings, {topic: 1})
    unflushed = UnflushedRecords(settings, topic)
    unflushed.send(OutputRecord(None, b"x"))
    unflushed.flush()
    reader = SharedConsumer(ReaderKey(settings, topic, Caps()))
    chunk = reader.take(0, 0, 5.0)
    reader.close()

    assert chunk is not None
    assert end_offsets(settings, topic, [0]) == {0: 1}
    assert SECRET not in caplog.text


@pytest.mark.parametrize("make", [make_consumer, make_producer])
def test_wrong_password_is_told_at_once(
    enter: Callable[..., KafkaSettings], make: Callable[[KafkaSettings], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = enter("ada", "wrong-canary")
    started = time.monotonic()

    with pytest.raises(ConnectError, match="expected credentials it accepts") as caught:
        make(settings)

    assert time.monotonic() - started < 3
    assert "wrong-canary" not in str(caught.value) + caplog.text


def test_topic_that_may_not_be_seen_is_told(
    enter: Callable[..., KafkaSettings], topic_name: Callable[..., str]
) -> None:
    topic = topic_name()
    create_topics(enter("ada"), {topic: 1})

    with pytest.raises(ConnectError, match=f"topic {topic}: expected the right to describe it"):
        check_topics(enter("bob"), [topic], "pump")


def test_reading_without_the_right_is_told_at_the_start(
    enter: Callable[..., KafkaSettings], topic_name: Callable[..., str]
) -> None:
    topic = topic_name()
    create_topics(enter("ada"), {topic: 1})

    with pytest.raises(ConnectError, match=f"topic {topic}: expected the right to describe it"):
        SharedConsumer(ReaderKey(enter("bob"), topic, Caps()))


def test_writing_without_the_right_is_told(
    enter: Callable[..., KafkaSettings], topic_name: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sink.PRODUCE_OPTIONS, "max_block_ms", 2000)
    topic = topic_name()
    create_topics(enter("ada"), {topic: 1})
    settings = enter("bob")

    with pytest.raises(ConnectError, match=f"topic {topic}"):
        write_one(settings, topic)


@pytest.fixture
def stream(enter: Callable[..., KafkaSettings], topic_name: Callable[..., str], tmp_path: Path) -> Path:
    """The file of a stream that bob runs; its topics are there, and nothing is granted."""
    settings = enter("bob")
    path = tmp_path / "stream.yaml"
    kafka = {"bootstrap": settings.bootstrap, "security": asdict(settings.security)}
    path.write_text(yaml.safe_dump(rig.describe(topic_name(), kafka=kafka)))
    found = load_stream(str(path))
    create_topics(enter("ada"), dict.fromkeys([found.input.topic, *found.outputs.topics], 3))
    return path


def grant(settings: KafkaSettings, rights: dict[tuple[ResourceType, str], ACLOperation]) -> None:
    """Let bob do these things, from when this returns."""
    acls = [
        ACL("User:bob", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(*resource))
        for resource, operation in rights.items()
    ]
    with make_admin(settings) as admin:
        admin.create_acls(acls)
        deadline = time.monotonic() + 10
        # The broker answers before it applies them.
        while not set(acls) <= set(admin.describe_acls(BOBS)[0]):
            assert time.monotonic() < deadline


def needed_rights(path: Path) -> dict[tuple[ResourceType, str], ACLOperation]:
    """All that a run needs."""
    stream = load_stream(str(path))
    return {
        (ResourceType.TOPIC, stream.input.topic): ACLOperation.READ,
        **{(ResourceType.TOPIC, name): ACLOperation.WRITE for name in stream.outputs.topics},
        (ResourceType.GROUP, stream.group): ACLOperation.READ,
    }


@pytest.mark.parametrize(
    ("place", "granted", "message"),
    [
        (0, ACLOperation.DESCRIBE, "expected the right to read it. Received: rights=DESCRIBE."),
        (1, ACLOperation.READ, "expected the right to write it. Received: rights=DESCRIBE, READ."),
        (4, ACLOperation.DESCRIBE, "expected the right to write it. Received: rights=DESCRIBE."),
    ],
)
def test_run_without_a_right_is_exit_3_before_it_reads(
    place: int,
    granted: ACLOperation,
    message: str,
    stream: Path,
    models: Path,
    enter: Callable[..., KafkaSettings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rights = needed_rights(stream)
    _, topic = denied = list(rights)[place]
    grant(enter("ada"), {**rights, denied: granted})

    code = main(command_rig.words(stream, models))

    assert code == 3
    assert capsys.readouterr().err == f"error: topic {topic}: {message} Ask for an ACL of this user.\n"


def test_run_needs_no_right_but_these(stream: Path, models: Path, enter: Callable[..., KafkaSettings]) -> None:
    found = load_stream(str(stream))
    grant(enter("ada"), needed_rights(stream))
    unflushed = UnflushedRecords(enter("ada"), found.input.topic)
    for index, value in enumerate([*rig.good_values(9), b"bad"]):
        unflushed.send(OutputRecord(None, value, partition=index % 3))
    unflushed.flush()

    code = main(command_rig.words(stream, models))

    assert code == 0
    assert group_offsets(enter("ada"), found.group, found.input.topic) == {0: 4, 1: 3, 2: 3}


def write_one(settings: KafkaSettings, topic: str) -> None:
    unflushed = UnflushedRecords(settings, topic)
    unflushed.send(OutputRecord(None, b"x"))
    unflushed.flush()
