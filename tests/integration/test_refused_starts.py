"""What ends a run before anything is read: each with its exit code, and one line that says what to do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import command_rig
import pytest
import small_models
import stream_rig as rig
import yaml

from ae_model import manifest
from ae_model.verify import describe, files
from pipelines.cli import main
from pipelines.kafka.client import KafkaSettings, make_admin
from pipelines.stream_file import load_stream

NOWHERE = "127.0.0.1:1"

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    small_models.publish(folder)
    return folder


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """Models that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "models"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a stream file in this process; gives the exit code and what came out, the error if there is one."""

    def run(path: Path, models: Path, *flags: str) -> tuple[int, str]:
        code = main(command_rig.words(path, models, *flags))
        shown = capsys.readouterr()
        return code, shown.err or shown.out

    return run


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def delete_topic(broker: str, name: str) -> None:
    with make_admin(KafkaSettings(broker)) as admin:
        admin.delete_topics([name])


def test_absent_broker_is_exit_3_after_some_ten_seconds(published: Path, tmp_path: Path) -> None:
    path = write(tmp_path, {**rig.describe("press.frames.v1"), "kafka": {"bootstrap": NOWHERE}})
    started = time.monotonic()

    code, out, err = command_rig.run_apart(path, published)

    assert (code, out) == (3, "")
    assert err == (
        "error: broker 127.0.0.1:1: expected an answer within 8 s. Received: KafkaConnectionError: 111 ECONNREFUSED. "
        "Check kafka.bootstrap, or start a broker on this machine with `latentstream services up`.\n"
    )
    assert time.monotonic() - started < 30


def test_absent_input_topic_is_exit_3_and_the_command_it_names_makes_it(
    broker: str, published: Path, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    topic = topic_name()
    path = write(tmp_path, {**rig.describe(topic), "kafka": {"bootstrap": broker}})

    code, message = run(path, published)

    assert code == 3
    assert message == (
        f"error: topic {topic} on {broker}: expected it to exist. Received: none. "
        f"Run `latentstream topics create {path}`.\n"
    )
    assert main(["topics", "create", str(path)]) == 0
    assert run(path, published)[0] == 0


@pytest.mark.parametrize("output", ["codes", "denoised", "alerts", "dead_letters"])
def test_absent_output_topic_is_exit_3_before_anything_is_read(
    output: str, broker: str, published: Path, topic_name: Callable[..., str], tmp_path: Path, run: Run
) -> None:
    path = rig.write_stream(tmp_path, topic_name(), broker)
    stream = load_stream(str(path))
    rig.send_values(broker, stream.input.topic, rig.good_values(30))
    absent = getattr(stream.outputs, output)
    delete_topic(broker, absent)

    code, message = run(path, published)

    assert code == 3
    assert message == (
        f"error: topic {absent} on {broker}: expected it to exist. Received: none. "
        f"Run `latentstream topics create {path}`.\n"
    )
    assert command_rig.committed(broker, stream) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"breakr": {"share": 0.1}},
            "breakr: expected one of breaker, cohort, frame, guarantee, input, kafka, key, model, name, outputs, "
            "score, threshold. Received: breakr. Did you mean 'breaker'?",
        ),
        (
            {"frame": {"lenght": 4}},
            "frame.lenght: expected one of hop, length, missing. Received: lenght. Did you mean 'length'?",
        ),
        (
            {"input": {"format": "avro"}},
            "input.format: expected 'raw', 'json', 'tf_example', 'arrow' or 'pcm16'. Received: format='avro'.",
        ),
    ],
    ids=["unknown section", "unknown key", "unknown format"],
)
def test_fault_in_the_stream_file_is_exit_2(
    changes: dict[str, Any], message: str, published: Path, tmp_path: Path, run: Run
) -> None:
    content = rig.describe("press.frames.v1", input=changes.get("input", {}))
    path = write(tmp_path, {**content, **{key: value for key, value in changes.items() if key != "input"}})

    assert run(path, published) == (2, f"error: {path}, {message}\n")


def test_yaml_that_cannot_be_read_is_exit_2_in_one_line(published: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "stream.yaml"
    path.write_text("name: small\n  input: [")

    code, message = run(path, published)

    assert code == 2
    assert message.startswith(f"error: stream file {path}: expected readable YAML. Received: mapping values are not")
    assert message.count("\n") == 1


def test_absent_model_is_exit_5(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, rig.describe("press.frames.v1"))

    code, message = run(path, tmp_path / "nothing")

    assert code == 5
    assert message == (
        f"error: models {tmp_path}/nothing: expected the number of a version in small/CURRENT. "
        "Received: FileNotFoundError, versions=[]. Train small first.\n"
    )


def test_one_flipped_byte_in_the_model_is_exit_5(models: Path, tmp_path: Path) -> None:
    path = write(tmp_path, rig.describe("press.frames.v1"))
    weights = models / "small" / "1" / "variables" / "variables.data-00000-of-00001"
    content = bytearray(weights.read_bytes())
    content[100] ^= 0xFF
    weights.write_bytes(content)

    code, out, err = command_rig.run_apart(path, models)

    assert (code, out) == (5, "")
    assert err.startswith(f"error: model {models}/small/1: expected {weights.relative_to(models / 'small' / '1')} with")
    assert err.endswith(". Publish it again, or go back to another version.\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["infer", "encode", "decode", "reconstruct", "serving_default"])
def test_missing_signature_is_exit_5_though_the_manifest_fits(
    name: str, models: Path, tmp_path: Path, run: Run
) -> None:
    path = write(tmp_path, rig.describe("press.frames.v1"))
    drop_signature(models / "small" / "1", name)

    code, message = run(path, models)

    assert code == 5
    assert message.startswith(f"error: model {models}/small/1: expected signature {name}. Received: signatures=[")
    assert message.endswith("]. Publish it again, or go back to another version.\n")


def drop_signature(folder: Path, name: str) -> None:
    """Take a signature out, and seal the folder as whoever publishes it would."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = folder / "saved_model.pb"
    saved = SavedModel.FromString(graph.read_bytes())
    del saved.meta_graphs[0].signature_def[name]
    graph.write_bytes(saved.SerializeToString())
    records = {path: describe(folder / path) for path in files(folder)}
    (folder / "manifest.json").write_text(replace(manifest.read(folder), files=records).to_json())
