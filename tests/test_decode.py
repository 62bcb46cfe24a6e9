"""The far end gets back the frames that the sender's model saw, each once."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_models
from small_batches import START_MS, make_raw, score_by
from small_models import CONTRACT, make_frames

from ae_model import artifact
from ae_model.config import FrameContract
from ae_model.exceptions import ArtifactError, ConfigError, SinkError, SourceGoneError
from ae_model.model import Detector
from pipelines.decode import decode_parquet, decode_topic
from pipelines.frame_batch import FrameBatch, InferredBatch, Scorer
from pipelines.frames_out import FrameRows, open_output
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.kafka.offsets import create_topics
from pipelines.parquet import as_piece
from pipelines.parquet_writer import ParquetFolder
from pipelines.records import CodeRows, OutputRecord, encode_codes

TOPIC = "plant.pumps.frames.v1"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of the small model."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        artifact.publish(small_models.export(folder / f"candidate-{number}"), folder, "small")
    return folder


@pytest.fixture(scope="module")
def detector(models: Path) -> Detector:
    return Detector.load(artifact.resolve(models, "small", 1))


def infer(detector: Detector, first: int, count: int, version: int = 1, partition: int = 3) -> InferredBatch:
    frames = make_frames(first + count, seed=5)[first:]
    inference = detector.infer(frames)
    raw = make_raw([frame.tobytes() for frame in frames], first, partition=partition)
    return InferredBatch(
        batch=FrameBatch(raw, frames),
        codes=inference.codes,
        denoised=inference.frames,
        errors=inference.errors,
        channel_errors=inference.channel_errors,
        latent_distance=inference.latent_distance,
        scores=inference.scores,
        scorers=(Scorer("small", version, "global", 0.5),),
        scored_by=np.zeros(count, np.int32),
    )


def write_folder(folder: Path, *batches: InferredBatch) -> Path:
    for batch in batches:
        ParquetFolder(folder).write(TOPIC, batch.records.partition, [as_piece(batch)])
    return folder


def code_rows(count: int, partition: int = 3, first: int = 0) -> CodeRows:
    offsets = np.arange(first, first + count)
    keys = pa.array([b"mic"] * count, pa.binary())
    codes = np.zeros((count, 2), np.float32)
    return CodeRows("site.mics.frames.v1", partition, offsets, offsets * 1000, keys, codes, "mics", 1, "global")


def test_parquet_codes_of_two_versions_become_the_frames_that_the_model_gave(
    tmp_path: Path, models: Path, detector: Detector
) -> None:
    first, second = infer(detector, 0, 5), infer(detector, 5, 3, version=2)
    folder = write_folder(tmp_path / "out", first, second)

    report = decode_parquet(folder, models, tmp_path / "frames.npz")

    with np.load(tmp_path / "frames.npz", allow_pickle=False) as arrays:
        expected = np.concatenate([first.denoised, second.denoised])
        np.testing.assert_allclose(arrays["frames"], expected, rtol=1e-5, atol=1e-7)
        assert arrays["offsets"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert arrays["partitions"].tolist() == [3] * 8
        assert arrays["topics"].tolist() == [TOPIC] * 8
        assert arrays["timestamps"].tolist() == [START_MS + 1000 * offset for offset in range(8)]
        assert arrays["keys"].tolist() == ["pump-1"] * 8
    assert report.as_json() == {
        "out": str(tmp_path / "frames.npz"),
        "frames": 8,
        "duplicates": 0,
        "unreadable": 0,
        "versions": {"small v1": 5, "small v2": 3},
    }


def test_rows_of_one_file_by_several_versions_are_each_decoded_by_their_own(
    tmp_path: Path, models: Path, detector: Detector
) -> None:
    batch = infer(detector, 0, 6)
    mixed = score_by(batch, [*batch.scorers, Scorer("small", 2, "own", 0.5)], [0, 1, 1, 0, 1, 0])

    report = decode_parquet(write_folder(tmp_path / "out", mixed), models, tmp_path / "frames.npz")

    with np.load(tmp_path / "frames.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["frames"], batch.denoised, rtol=1e-5, atol=1e-7)
        assert arrays["offsets"].tolist() == [0, 1, 2, 3, 4, 5]
    assert report.versions == {"small v1": 3, "small v2": 3}


def test_codes_of_one_byte_in_parquet_become_the_frames_that_the_model_gave(tmp_path: Path) -> None:
    batch = infer(Detector.load(small_models.publish(tmp_path, codes="int8")), 0, 5)

    decode_parquet(write_folder(tmp_path / "out", batch), tmp_path, tmp_path / "frames.npz")

    assert batch.codes.dtype == np.int8
    with np.load(tmp_path / "frames.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["frames"], batch.denoised, rtol=1e-5, atol=1e-7)


def test_frames_as_parquet_are_flat_rows_with_their_lineage(tmp_path: Path, models: Path, detector: Detector) -> None:
    batch = infer(detector, 0, 2)

    decode_parquet(write_folder(tmp_path / "out", batch), models, tmp_path / "frames.parquet")

    table = pq.read_table(tmp_path / "frames.parquet")
    assert table.column_names == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "model",
        "version",
        "layer",
        "frame",
    ]
    assert table.column("offset").to_pylist() == [0, 1]
    rows = np.array(table.column("frame").to_pylist()).reshape(2, *CONTRACT.shape)
    np.testing.assert_allclose(rows, batch.denoised, rtol=1e-5, atol=1e-7)


def test_a_version_that_is_gone_is_named(tmp_path: Path, models: Path, detector: Detector) -> None:
    folder = write_folder(tmp_path / "out", infer(detector, 0, 2, version=9))

    with pytest.raises(ArtifactError, match=r"versions of small\. Received: version=9"):
        decode_parquet(folder, models, tmp_path / "frames.npz")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_no_codes_are_an_error_and_leave_no_file(tmp_path: Path, models: Path) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(ConfigError, match="codes: expected at least one"):
        decode_parquet(tmp_path / "out", models, tmp_path / "frames.npz")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_unknown_suffix_is_refused_before_anything_is_read(tmp_path: Path, models: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of \['\.npz', '\.parquet', '\.wav'\]\. Received: out=.*frames\.csv"):
        decode_parquet(tmp_path / "nowhere", models, tmp_path / "frames.csv")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, models: Path, detector: Detector) -> None:
    (tmp_path / "file").write_text("")
    folder = write_folder(tmp_path / "out", infer(detector, 0, 2))

    with pytest.raises(SinkError, match=r"file/frames\.npz"):
        decode_parquet(folder, models, tmp_path / "file" / "frames.npz")


def test_audio_goes_end_to_end_by_offset_and_is_clipped(tmp_path: Path) -> None:
    contract = FrameContract(length=2, hop=2, channels=("mic",), rate_hz=8000.0)
    late = np.array([[[0.5], [2.0]]], np.float32)
    early = np.array([[[0.0], [-1.0]], [[0.25], [1.0]]], np.float32)

    with open_output(tmp_path / "mic.wav") as output:
        output.add(FrameRows(code_rows(1, first=2), late, contract))
        output.add(FrameRows(code_rows(2), early, contract))

    with wave.open(str(tmp_path / "mic.wav")) as stream:
        samples = np.frombuffer(stream.readframes(100), "<i2").tolist()
        assert (stream.getnchannels(), stream.getframerate(), stream.getsampwidth()) == (1, 8000, 2)
    assert samples == [0, -32768, 8192, 32767, 16384, 32767]


@pytest.mark.parametrize(
    "changes",
    [{"channels": ("a", "b")}, {"rate_hz": None}, {"hop": 1}],
)
def test_what_is_no_audio_is_refused_as_wav(tmp_path: Path, changes: dict[str, object]) -> None:
    contract = replace(FrameContract(length=2, hop=2, channels=("mic",), rate_hz=8000.0), **changes)  # type: ignore[arg-type]
    frames = np.zeros((1, *contract.shape), np.float32)

    with (
        pytest.raises(ConfigError, match=r"for a \.wav\. Received: .* Write an \.npz"),
        open_output(tmp_path / "mic.wav") as output,
    ):
        output.add(FrameRows(code_rows(1), frames, contract))


def test_two_partitions_are_no_one_wav_and_two_shapes_no_one_npz(tmp_path: Path) -> None:
    contract = FrameContract(length=2, hop=2, channels=("mic",), rate_hz=8000.0)
    longer = replace(contract, length=4)

    with pytest.raises(ConfigError, match="one partition"):
        write_zeros(tmp_path / "a.wav", (code_rows(1, partition=0), contract), (code_rows(1, partition=1), contract))
    with pytest.raises(ConfigError, match="one shape"):
        write_zeros(tmp_path / "a.npz", (code_rows(1), contract), (code_rows(1), longer))
    assert list(tmp_path.iterdir()) == []


def write_zeros(path: Path, *parts: tuple[CodeRows, FrameContract]) -> None:
    with open_output(path) as output:
        for rows, contract in parts:
            output.add(FrameRows(rows, np.zeros((len(rows), *contract.shape), np.float32), contract))


def test_the_far_end_needs_neither_beam_nor_tensorflow_to_start() -> None:
    script = """
import sys
import pipelines.decode, pipelines.parquet_files, pipelines.records
print([name for name in ("apache_beam", "tensorflow", "keras", "tfx_bsl") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def send(broker: str, topic: str, records: list[OutputRecord]) -> KafkaSettings:
    settings = KafkaSettings(broker)
    create_topics(settings, {topic: 4})
    producer = make_producer(settings)
    sent = [
        producer.send(
            topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
        )
        for record in records
    ]
    producer.flush()
    assert all(future.succeeded() for future in sent)
    producer.close()
    return settings


def test_a_topic_with_both_forms_versions_replays_and_strangers_gives_each_frame_once(
    tmp_path: Path, models: Path, detector: Detector, broker: str, topic_name: Callable[..., str]
) -> None:
    topic = topic_name("codes")
    batches = [
        infer(detector, 0, 6),
        infer(detector, 4, 6, version=2),
        infer(detector, 0, 3, partition=1),
    ]
    records = [
        *encode_codes(batches[0]),
        *encode_codes(batches[1]),
        *encode_codes(batches[1], "frame"),
        OutputRecord(b"k", b"not codes", [], 3, START_MS),
        OutputRecord(b"k", None, [], 3, START_MS),
        *encode_codes(batches[2], "frame"),
    ]
    settings = send(broker, topic, records)

    report = decode_topic(settings, topic, models, tmp_path / "frames.npz")

    with np.load(tmp_path / "frames.npz", allow_pickle=False) as arrays:
        assert arrays["partitions"].tolist() == [1] * 3 + [3] * 10
        assert arrays["offsets"].tolist() == [0, 1, 2, *range(10)]
        expected = np.concatenate([batches[2].denoised, batches[0].denoised, batches[1].denoised[2:]])
        np.testing.assert_allclose(arrays["frames"], expected, rtol=1e-5, atol=1e-7)
    assert (report.frames, report.duplicates, report.unreadable) == (13, 8, 2)
    assert report.versions == {"small v1": 9, "small v2": 4}


def test_codes_of_one_byte_in_a_topic_become_the_frames_that_the_model_gave(
    tmp_path: Path, broker: str, topic_name: Callable[..., str]
) -> None:
    topic, detector = topic_name("codes"), Detector.load(small_models.publish(tmp_path, codes="int8"))
    batches = infer(detector, 0, 5), infer(detector, 5, 3)

    settings = send(broker, topic, [*encode_codes(batches[0]), *encode_codes(batches[1], "frame")])
    decode_topic(settings, topic, tmp_path, tmp_path / "frames.npz")

    with np.load(tmp_path / "frames.npz", allow_pickle=False) as arrays:
        expected = np.concatenate([batch.denoised for batch in batches])
        np.testing.assert_allclose(arrays["frames"], expected, rtol=1e-5, atol=1e-7)


def test_a_topic_that_is_not_there_is_named(tmp_path: Path, models: Path, broker: str) -> None:
    with pytest.raises(SourceGoneError, match=r"no\.such\.codes"):
        decode_topic(KafkaSettings(broker), "no.such.codes", models, tmp_path / "frames.npz")
