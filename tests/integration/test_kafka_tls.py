"""TLS, mutual TLS and passwords over TLS on a real broker: right ones pass, wrong ones end at once in one line."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import command_rig
import pytest
import stream_rig as rig
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.display import DisplayData
from certificates import Authority
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from ae_model.exceptions import ConfigError, ConnectError
from infra.local import kafka
from infra.local.processes import free_ports
from pipelines.cli import main
from pipelines.graph import build_graph
from pipelines.kafka.client import KafkaSettings, make_admin, make_consumer, make_producer
from pipelines.kafka.offsets import create_topics
from pipelines.kafka.read_all import read_all
from pipelines.kafka.security import KafkaSecurity, client_options
from pipelines.stream import make_graph_config, make_sinks
from pipelines.stream_file import load_stream
from pipelines.stream_job import plan_source

HOST = "127.0.0.1"
SECRET = "canary-51c9"
LISTENERS = ("PLAIN", "TLS", "MUTUAL", "SECURE", "EXPIRED", "ELSEWHERE")
LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Doors:
    """A listener of each kind, and the authority that signed for them."""

    ports: dict[str, int]
    authority: Authority
    stranger: Authority

    def at(self, listener: str, **security: Any) -> KafkaSettings:
        given = {"protocol": "SSL", "cafile": str(self.authority.cafile), **security}
        return KafkaSettings(f"{HOST}:{self.ports[listener]}", KafkaSecurity(**given))


def properties(folder: Path, ports: dict[str, int], controller: int, authority: Authority) -> dict[str, str]:
    """Settings of a broker with a listener of each kind."""
    addresses = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
    kinds = {"PLAIN": "PLAINTEXT", "SECURE": "SASL_SSL"}
    keystores = {
        **dict.fromkeys(("tls", "mutual", "secure"), authority.issue("broker")),
        "expired": authority.issue("expired", lasts=timedelta(days=-1)),
        "elsewhere": authority.issue("elsewhere", address="10.1.2.3"),
    }
    stores = {f"listener.name.{name}.ssl.keystore.location": str(path) for name, path in keystores.items()}
    types = {f"listener.name.{name}.ssl.keystore.type": "PEM" for name in keystores}
    return {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"{addresses},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,"
        + ",".join(f"{name}:{kinds.get(name, 'SSL')}" for name in ports),
        "inter.broker.listener.name": "PLAIN",
        **stores,
        **types,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(authority.cafile),
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.secure.plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_ada="{SECRET}";',
        **{
            f"listener.name.secure.scram-sha-{bits}.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;"
            for bits in (256, 512)
        },
    }


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "certificates")
    stranger = Authority(folder / "certificates", "stranger")
    *found, controller = free_ports(len(LISTENERS) + 1)
    ports = dict(zip(LISTENERS, found, strict=True))
    given = properties(folder, ports, controller, authority)
    kafka.start(folder / "kafka", port=ports["PLAIN"], properties=given)
    with make_admin(KafkaSettings(f"{HOST}:{ports['PLAIN']}")) as admin:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion("ada", mechanism, SECRET)])
    authority.issue("client")
    authority.issue("locked", password=SECRET.encode())
    stranger.issue("foreign")
    yield Doors(ports, authority, stranger)
    kafka.stop(folder / "kafka")


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LS_PASSWORD", SECRET)


def own(doors: Doors, name: str) -> dict[str, str]:
    folder = doors.authority.cafile.parent
    return {"certfile": str(folder / f"{name}.crt"), "keyfile": str(folder / f"{name}.key")}


def login(mechanism: str, password: str = "env:LS_PASSWORD") -> dict[str, str]:
    return {"protocol": "SASL_SSL", "mechanism": mechanism, "username": "ada", "password": password}


def refused(settings: KafkaSettings) -> str:
    """The message of a start that must fail, at once."""
    started = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        make_consumer(settings)
    # A broker that does not answer is given eight seconds.
    assert time.monotonic() - started < 6
    return str(caught.value)


def test_the_right_authority_certificate_and_password_open_every_door(doors: Doors) -> None:
    locked = {**own(doors, "locked"), "keyfile_password": "env:LS_PASSWORD"}
    ways = [
        doors.at("TLS"),
        doors.at("MUTUAL", **own(doors, "client")),
        doors.at("MUTUAL", **locked),
        *(doors.at("SECURE", **login(mechanism)) for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
    ]

    for number, settings in enumerate(ways):
        assert create_topics(settings, {f"door-{number}": 1}) == [f"door-{number}"]
        producer = make_producer(settings)
        assert producer.send(f"door-{number}", b"x").get(10).offset == 0
        producer.close()


def test_an_unknown_authority_is_told_at_once(doors: Doors) -> None:
    message = refused(doors.at("TLS", cafile=str(doors.stranger.cafile)))

    assert message == (
        f"broker {HOST}:{doors.ports['TLS']}: expected a certificate of a trusted authority, of this host and of "
        "today. Received: unable to get local issuer certificate. Check kafka.security.cafile and the broker's "
        "certificate."
    )


def test_an_expired_certificate_and_one_of_another_host_are_told_apart(doors: Doors) -> None:
    assert "Received: certificate has expired. Check" in refused(doors.at("EXPIRED"))
    assert f"Received: IP address mismatch, certificate is not valid for '{HOST}'. Check" in refused(
        doors.at("ELSEWHERE")
    )


def test_a_client_without_a_certificate_or_with_a_foreign_one_is_told_at_once(doors: Doors) -> None:
    folder = doors.stranger.cafile.parent
    foreign = {"certfile": str(folder / "foreign.crt"), "keyfile": str(folder / "foreign.key")}

    for settings in (doors.at("MUTUAL"), doors.at("MUTUAL", **foreign)):
        message = refused(settings)
        assert message.startswith(
            f"broker {HOST}:{doors.ports['MUTUAL']}: expected it to accept this client's certificate. Received: "
        )
        assert message.endswith(" Check kafka.security.certfile and keyfile.")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_at_once_and_without_it(
    doors: Doors, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LS_WRONG", "wrong-canary")

    message = refused(doors.at("SECURE", **login(mechanism, "env:LS_WRONG")))

    assert "expected credentials it accepts. Received: " in message
    assert "wrong-canary" not in message


def test_files_that_cannot_be_used_are_told_before_anything_connects(doors: Doors, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no certificate")
    broken = {"certfile": own(doors, "client")["certfile"], "keyfile": own(doors, "locked")["keyfile"]}
    cases = {
        "cafile: expected certificates in PEM": {"cafile": str(tmp_path / "absent.pem")},
        "cafile: expected certificates in PEM. ": {"cafile": str(tmp_path / "note.txt")},
        "certfile: expected a certificate in PEM": {**own(doors, "client"), "certfile": str(tmp_path / "absent")},
        "keyfile: expected the key of certfile, opened by keyfile_password": own(doors, "locked"),
        "keyfile: expected the key of certfile, opened": {**broken, "keyfile_password": "env:LS_PASSWORD"},
    }

    for message, security in cases.items():
        with pytest.raises(ConfigError) as caught:
            client_options(doors.at("TLS", **security).security, "broker:1")
        assert str(caught.value).startswith(f"kafka.security.{message}")
        assert SECRET not in str(caught.value)


@pytest.fixture
def stream(doors: Doors, topic_name: Callable[..., str], tmp_path: Path) -> Path:
    """The file of a stream behind a password over TLS."""
    settings = doors.at("SECURE", **login("PLAIN"))
    kafka = {"bootstrap": settings.bootstrap, "security": asdict(settings.security)}
    path = tmp_path / "stream.yaml"
    path.write_text(yaml.safe_dump(rig.describe(topic_name(), kafka=kafka)))
    found = load_stream(str(path))
    create_topics(settings, dict.fromkeys([found.input.topic, *found.outputs.topics], 3))
    producer = make_producer(settings)
    for index, value in enumerate([*rig.good_values(30), b"bad"]):
        producer.send(found.input.topic, value, partition=index % 3)
    producer.close()
    return path


def test_every_wrong_way_in_is_exit_3_and_one_line(
    stream: Path, doors: Doors, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(stream.read_text())
    content["kafka"]["security"]["cafile"] = str(doors.stranger.cafile)
    untrusted = stream.with_name("untrusted.yaml")
    untrusted.write_text(yaml.safe_dump(content))

    codes = [main(command_rig.words(untrusted, models))]
    monkeypatch.setenv("LS_PASSWORD", "wrong")
    codes.append(main(command_rig.words(stream, models)))

    lines = capsys.readouterr().err.splitlines()
    assert codes == [3, 3]
    assert [line.partition(": expected")[0] for line in lines] == [f"error: broker {HOST}:{doors.ports['SECURE']}"] * 2


LOUD = f"""
import logging, os, pathlib, sys
logging.basicConfig(level=logging.DEBUG)
{command_rig.PROGRAM.replace("sys.exit(main(sys.argv[1:]))", "")}
code = main(sys.argv[1:])
print(pathlib.Path(f"/proc/{{os.getpid()}}/cmdline").read_bytes(), file=sys.stderr)
sys.exit(code)
"""
CRASH = f"""
import pipelines.inference
def fail(*_, **__): raise RuntimeError("crash on purpose")
pipelines.inference.infer_surely = fail
{command_rig.PROGRAM}
"""


def forms(secret: str) -> list[bytes]:
    """A secret as it may lie in a log, a pickle or a header."""
    plain = secret.encode()
    return [
        plain,
        plain.hex().encode(),
        *(base64.b64encode(b"\0" * pad + plain)[4:-4] for pad in range(3)),
        plain[::-1],
    ]


@pytest.mark.faults
def test_the_secret_is_found_nowhere(stream: Path, models: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}

    crashed, loud = (
        subprocess.run(
            [sys.executable, "-c", program, *command_rig.words(stream, models, *flags)],
            capture_output=True,
            check=False,
            timeout=120,
            env=environment,
        )
        for program, flags in ((CRASH, ()), (LOUD, ("--verbose",)))
    )

    assert (crashed.returncode, loud.returncode) == (70, 0), loud.stderr[-2000:]
    assert json.loads(loud.stdout)["ok"] == 30
    crash_files = [path.read_bytes() for path in temporary.glob("latentstream-*.log")]
    assert b"crash on purpose" in b"".join(crash_files)
    found = load_stream(str(stream))
    letters = list(read_all(found.kafka_settings(), found.outputs.dead_letters))
    assert len(letters) >= 1
    places = {
        "crash": crashed.stdout + crashed.stderr + b"".join(crash_files),
        "logs and argv": loud.stdout + loud.stderr,
        "dead letters": repr(letters).encode(),
        "pipeline": described(stream, models),
    }
    assert [(place, form) for place, text in places.items() for form in forms(SECRET) if form in text] == []


def described(path: Path, models: Path) -> bytes:
    """The pipeline as an engine gets it, display data and pickled steps included."""
    stream = load_stream(str(path))
    settings, graph = rig.settings(stream.kafka.bootstrap, models), make_graph_config(stream, models)
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    read = pipeline | plan_source(stream, stream.kafka_settings(), settings)
    build_graph(read.records, graph, make_sinks(stream, graph, stream.kafka_settings(), settings))
    proto = pipeline.to_runner_api().SerializeToString()
    shown = repr([item.get_dict() for item in DisplayData.create_from_options(pipeline.options).items]).encode()
    return proto + shown + b"".join(inflated(proto))


def inflated(proto: bytes) -> Iterator[bytes]:
    """What lies compressed in the proto: Beam pickles, compresses and base64s a step."""
    for text in re.findall(rb"[A-Za-z0-9+/=]{40,}", proto):
        try:
            yield zlib.decompress(base64.b64decode(text))
        except (ValueError, zlib.error):
            continue
