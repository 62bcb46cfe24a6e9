from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines.kafka.security import KafkaSecurity
from pipelines.stream_file import StreamFile, load_stream, parse_stream, ready_streams


def stream(**parts: Any) -> StreamFile:
    return parse_stream(
        {"name": "press", "input": {"topic": "plant.press.frames.v1", "channels": 2}, **parts}, "f.yaml"
    )


def test_ready_streams_load_with_the_frames_they_promise() -> None:
    shapes = {name: load_stream(name).contract.shape for name in ready_streams()}

    assert shapes == {
        "application-servers": (5, 19),
        "mnist": (28, 28),
        "server-telemetry": (10, 38),
        "spoken-digits": (256, 1),
    }


def test_output_topics_take_their_names_from_the_input() -> None:
    outputs = stream().outputs

    assert outputs.topics == (
        "plant.press.codes.v1",
        "plant.press.denoised.v1",
        "plant.press.alerts.v1",
        "plant.press.frames.v1.dlq",
    )


def test_output_topics_of_a_topic_without_frames_in_its_name_are_appended() -> None:
    outputs = stream(input={"topic": "vibration", "channels": 1}).outputs

    assert outputs.topics == ("vibration.codes", "vibration.denoised", "vibration.alerts", "vibration.dlq")


def test_null_turns_an_output_off_and_leaves_the_others() -> None:
    outputs = stream(outputs={"denoised": None, "codes": "mine.v1"}).outputs

    assert outputs.topics == ("mine.v1", "plant.press.alerts.v1", "plant.press.frames.v1.dlq")


def test_contract_counts_channels_and_fills_the_hop() -> None:
    contract = stream(frame={"length": 4}).contract

    assert contract == FrameContract(length=4, hop=4, channels=("ch0", "ch1"), units=(), rate_hz=None)


def test_security_keeps_secrets_as_references() -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "me", "password": "env:SECRET"}

    settings = stream(kafka={"bootstrap": "a:1,b:2", "security": security}).kafka_settings()

    assert settings.bootstrap == "a:1,b:2"
    assert settings.security == KafkaSecurity("SASL_SSL", "PLAIN", "me", "env:SECRET")


def test_address_given_wins_over_the_file() -> None:
    assert stream().kafka_settings("127.0.0.1:29092").bootstrap == "127.0.0.1:29092"


BAD = {
    "misspelt section": ({"frames": {}}, "f.yaml, frames: expected one of breaker, cohort, frame, guarantee"),
    "misspelt key": (
        {"frame": {"lenght": 3}},
        "f.yaml, frame.lenght: expected one of hop, length, missing. Received: lenght. Did you mean 'length'?",
    ),
    "misspelt model key": ({"model": {"lattent": 3}}, "Received: lattent. Did you mean 'latent'?"),
    "misspelt security key": ({"kafka": {"security": {"pasword": "env:X"}}}, "Did you mean 'password'?"),
    "too short": (
        {"frame": {"length": 0}},
        "f.yaml, frame.length: expected at least 1. Received: length=0.",
    ),
    "hop beyond the frame": (
        {"frame": {"length": 2, "hop": 3}},
        "f.yaml: hop: expected 1..length (2). Received: hop=3.",
    ),
    "network setting": ({"model": {"latent": 0}}, "f.yaml: latent: expected at least 1. Received: latent=0."),
    "either a number or names": (
        {"input": {"topic": "t", "channels": "x"}},
        "f.yaml, input.channels: expected a whole number or a list. Received: channels='x'.",
    ),
    "missing": ({"input": {"topic": "t"}}, "f.yaml, input.channels: expected a value. Received: nothing."),
    "samples": (
        {"input": {"topic": "t", "channels": 1, "record": "samples"}},
        "f.yaml, input.record: expected 'frame': one record is one frame; cutting a topic of samples into frames",
    ),
    "unknown guarantee": (
        {"guarantee": "at_most_once"},
        "f.yaml, guarantee: expected 'at_least_once' or 'exactly_once'. Received: guarantee='at_most_once'.",
    ),
    "one topic twice": ({"outputs": {"codes": "plant.press.frames.v1"}}, "expected topics that differ"),
    "cohort without key": ({"cohort": "^(a)"}, "f.yaml: cohort: expected key beside it"),
    "cohort that names none": (
        {"key": "press", "cohort": "^a-"},
        "f.yaml: cohort: expected a pattern with a group, such as '^(hall-[0-9]+)-'. Received: cohort='^a-'.",
    ),
    "cohort that is no pattern": ({"key": "press", "cohort": "("}, "f.yaml: cohort: expected a pattern. Received"),
    "no dead letters": ({"outputs": {"dead_letters": None}}, "f.yaml, outputs.dead_letters: expected text."),
}


@pytest.mark.parametrize(("parts", "message"), BAD.values(), ids=BAD)
def test_fault_is_named_with_its_place(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stream(**parts)

    assert message in str(caught.value)


def test_every_fault_gets_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        stream(name="A b", breaker={"share": 2}, frame={"length": "x"})

    assert str(caught.value).splitlines() == [
        "f.yaml, name: expected text that matches ^[a-z0-9][a-z0-9-]{0,62}$. Received: name='A b'.",
        "f.yaml, frame.length: expected a whole number. Received: length='x'.",
        "f.yaml, breaker.share: expected at most 1.0. Received: share=2.",
    ]


@pytest.mark.parametrize("password", ["hunter2", ["hunter2"]])
def test_password_spelled_out_is_refused_and_not_shown(password: object) -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "me", "password": password}

    with pytest.raises(ConfigError) as caught:
        stream(kafka={"security": security})

    assert "password" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_file_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "press.yaml"
    path.write_text("name: press\ninput: {topic: t, channels: [a, b]}\n")

    assert load_stream(str(path)).contract.channels == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "key 'name' is given twice"),
        ("name: [", "expected readable YAML"),
        ("", "expected keys with values. Received: content=None."),
    ],
)
def test_file_that_is_no_stream_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        load_stream(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("server-telemtry", "Did you mean 'server-telemetry'?"),
        ("absent.yaml", "No such file or directory: 'absent.yaml'"),
        ("../setup", "expected a YAML file or one of application-servers, mnist, server-telemetry, spoken-digits"),
    ],
)
def test_unknown_stream_names_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_stream(name)

    assert message in str(caught.value)
