from __future__ import annotations

import logging
import pickle
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from kafka import errors as kafka_errors

from ae_model.exceptions import ConfigError, ConnectError
from infra.local.processes import free_port
from pipelines.kafka.client import (
    KafkaSettings,
    QuietFilter,
    check_client,
    connect_error,
    make_admin,
    make_consumer,
    make_producer,
    tune_allocator,
)
from pipelines.kafka.security import KafkaSecurity, client_options, resolve

SECRET = "canary-7f3a"


def scram(**changes: str | None) -> KafkaSecurity:
    values = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "ada", "password": "env:LS_PASSWORD"}
    return KafkaSecurity(**{**values, **changes})  # type: ignore[arg-type]


def test_secrets_are_resolved_late_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KafkaSettings("broker:9093", scram())
    monkeypatch.setenv("LS_PASSWORD", SECRET)

    options = client_options(settings.security, settings.bootstrap)

    assert options.pop("ssl_context").check_hostname is True
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ada",
        "sasl_plain_password": SECRET,
    }
    assert SECRET not in repr(settings) + repr(asdict(settings))
    assert SECRET.encode() not in pickle.dumps(settings)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert hash(settings) == hash(KafkaSettings("broker:9093", scram()))


def test_broker_without_security_needs_no_options() -> None:
    assert client_options(None, "anywhere:9092") == {}


def test_reference_to_a_file_drops_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")

    assert resolve("password", f"file:{tmp_path}/password") == SECRET
    assert resolve("username", "ada") == "ada"
    assert resolve("cafile", None) is None


@pytest.mark.parametrize(
    ("reference", "rule"),
    [("env:LS_ABSENT", "a variable that is set"), ("file:/absent/x", "a file that can be read")],
)
def test_reference_that_leads_nowhere_is_refused(reference: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("password", reference)

    assert str(caught.value) == f"kafka.security.password: expected {rule}. Received: password={reference}."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"password": SECRET}, "kafka.security.password: expected env:NAME or file:PATH"),
        ({"keyfile_password": SECRET}, "kafka.security.keyfile_password: expected env:NAME or file:PATH"),
        ({"protocol": "TLS"}, "kafka.security.protocol: expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"mechanism": "GSSAPI"}, "kafka.security.mechanism: expected PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({"username": None}, "kafka.security.username: expected a value with SASL_SSL"),
        ({"protocol": "SSL"}, "kafka.security.username: expected none with SSL"),
        ({"certfile": "cert.pem"}, "kafka.security.keyfile: expected both certfile and keyfile, or neither"),
    ],
)
def test_security_that_cannot_work_is_refused_without_telling_the_secret(
    changes: dict[str, str | None], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        scram(**changes)

    assert str(caught.value).startswith(expected)
    assert SECRET not in str(caught.value)


def test_password_in_clear_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LS_PASSWORD", SECRET)
    security = scram(protocol="SASL_PLAINTEXT")

    assert client_options(security, "localhost:9092,127.0.0.1:9093")["sasl_plain_password"] == SECRET
    with pytest.raises(ConfigError, match="expected SASL_SSL for a broker on another machine"):
        client_options(security, "localhost:9092,broker:9093")


def test_key_file_open_to_others_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "client.key"
    key.write_text("key")
    security = KafkaSecurity(protocol="SSL", certfile="client.pem", keyfile=str(key))

    key.chmod(0o644)
    with pytest.raises(ConfigError, match="expected a file closed to others"):
        client_options(security, "broker:9093")
    key.chmod(0o600)

    # The key is let pass; that it is none is the next thing to be told.
    with pytest.raises(ConfigError, match=r"kafka\.security\.certfile: expected a certificate in PEM"):
        client_options(security, "broker:9093")


@pytest.mark.parametrize("make", [make_consumer, make_producer])
def test_absent_broker_is_told_in_one_line_within_ten_seconds(
    make: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipelines.kafka.client.BOOTSTRAP_MS", 1000)
    port = free_port()
    started = time.monotonic()

    with pytest.raises(ConnectError) as caught:
        make(KafkaSettings(f"127.0.0.1:{port}"))  # type: ignore[operator]

    assert time.monotonic() - started < 5
    assert str(caught.value) == (
        f"broker 127.0.0.1:{port}: expected an answer within 1 s. "
        "Received: KafkaConnectionError: 111 ECONNREFUSED. "
        "Check kafka.bootstrap, or start a broker on this machine with `latentstream services up`."
    )
    assert [record for record in caplog.records if record.name.startswith("kafka")] == []


def test_name_that_does_not_resolve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.kafka.client.BOOTSTRAP_MS", 500)

    with (
        pytest.raises(ConnectError, match="DNS Resolution failure"),
        make_admin(KafkaSettings("no-such-host.invalid:9092")),
    ):
        pass


def test_denied_right_is_told_by_name() -> None:
    denied = kafka_errors.TopicAuthorizationFailedError({"plant.frames.v1"})

    message = str(connect_error(KafkaSettings("b:1"), denied))

    assert message == (
        "broker b:1: expected the right to do this. "
        "Received: TopicAuthorizationFailedError plant.frames.v1. Ask for an ACL of this user."
    )


def line(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "file", 1, text, (), None)


def test_client_may_warn_once_of_each_kind_and_nothing_less() -> None:
    quiet = QuietFilter()
    lines = [
        line("kafka.net.connection", logging.DEBUG, "Request: auth_bytes=%s"),
        line("kafka.net.connection", logging.INFO, "connected"),
        line("kafka.net.connection", logging.WARNING, "lost %s"),
        line("kafka.net.connection", logging.WARNING, "lost %s"),
        line("kafka.net.manager", logging.WARNING, "lost %s"),
        line("kafka.net.selector", logging.WARNING, "slow"),
    ]

    passed = [quiet.filter(record) for record in lines]

    assert passed == [False, False, True, False, True, False]


def test_nothing_is_said_while_a_client_starts() -> None:
    quiet = QuietFilter()
    quiet.starting = 1

    assert quiet.filter(line("kafka.net.manager", logging.ERROR, "Bootstrap failed")) is False


def test_needed_packages_are_here() -> None:
    check_client()


def test_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.kafka.client.NEEDED_PACKAGES", ("crc32c", "no_such_package"))

    with pytest.raises(ConfigError, match="Run `pip install no_such_package`"):
        check_client()


def test_allocator_is_tuned_once_however_often_it_is_asked() -> None:
    tune_allocator()
    tune_allocator()

    assert tune_allocator.cache_info().misses == 1
