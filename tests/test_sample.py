from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zoo
from small_models import THRESHOLD, batches, make_scaling

from ae_model import artifact
from ae_model.config import FrameContract, NetworkConfig, VariationalConfig
from ae_model.exceptions import ConfigError
from ae_model.model import Detector
from ae_model.training import fit
from pipelines.cli import main
from pipelines.sample import sample_model

STREAM = """
name: {name}
input: {{topic: plant.zoo.frames.v1, channels: 3}}
frame: {{length: 7}}
"""


@pytest.fixture(scope="module")
def drawn(zoo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a variational one, two versions of it, and one that is not."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("variational", "variational", "dense"):
        artifact.publish(zoo.exported(name, zoo_folder), folder, "zoo")
    artifact.promote(folder, "zoo", 2)
    return folder


def sample(models: Path, out: Path, count: int = 20, seed: int = 1, version: int | None = None) -> Path:
    sample_model(models, "zoo", version, out, count, seed)
    return out


def test_frames_in_an_npz_follow_from_the_seed(drawn: Path, tmp_path: Path) -> None:
    first, again, other = (
        dict(np.load(sample(drawn, tmp_path / f"{name}.npz", seed=seed)))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )

    assert first["frames"].shape == (20, 7, 3)
    assert np.array_equal(first["frames"], again["frames"])
    assert not np.array_equal(first["frames"], other["frames"])
    assert (str(first["model"]), int(first["version"]), int(first["seed"])) == ("zoo", 2, 1)


def test_parquet_has_a_row_for_each_sample(drawn: Path, tmp_path: Path) -> None:
    table = pq.read_table(sample(drawn, tmp_path / "new" / "samples.parquet", version=1))

    expected = Detector.load(artifact.resolve(drawn, "zoo", 1)).sample(20, 1)
    assert table.column_names == ["sample", "seed", "model", "version", "frame"]
    assert table.column("sample").to_pylist() == list(range(20))
    assert set(table.column("version").to_pylist()) == {1}
    assert table.column("frame").to_pylist() == expected.reshape(20, 21).tolist()


def test_picture_is_a_png(drawn: Path, tmp_path: Path) -> None:
    assert sample(drawn, tmp_path / "samples.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_samples_of_audio_are_a_wav_end_to_end(tmp_path: Path) -> None:
    contract = FrameContract(length=8, hop=8, channels=("audio",), rate_hz=8000.0)
    frames = np.random.default_rng(0).normal(size=(128, 8, 1)).astype(np.float32) / 4
    config = NetworkConfig(latent=2, epochs=1, batch_frames=64, variational=VariationalConfig())
    model = fit(contract, config, make_scaling(frames), batches(frames), batches(frames))
    facts = artifact.Facts("zoo", "2026-11-21T10:00:00Z", "noise", {"training": 128}, THRESHOLD, {})
    artifact.export(tmp_path / "candidate", model, facts, frames[:4])
    artifact.publish(tmp_path / "candidate", tmp_path / "models", "zoo")

    path = sample(tmp_path / "models", tmp_path / "samples.wav", count=5)

    expected = Detector.load(artifact.resolve(tmp_path / "models", "zoo")).sample(5, 1).ravel()
    with wave.open(str(path)) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getnframes()) == (8000, 1, 40)
        heard = np.frombuffer(audio.readframes(40), "<i2")
    assert heard.tolist() == np.rint(expected.astype(float) * 32768).tolist()


@pytest.mark.parametrize(
    ("name", "count", "seed", "version", "message"),
    [
        ("x.csv", 1, 1, None, r"ends in one of \['.npz', '.parquet', '.png', '.wav'\]. Received: out="),
        ("x.npz", 0, 1, None, "--count: expected at least 1"),
        ("x.npz", 1, -1, None, "--seed: expected 0 or more"),
        ("x.wav", 1, 1, None, "expected frames of one channel with rate_hz"),
        ("x.npz", 1, 1, 3, "expected a variational model. Received: zoo, network=dense"),
    ],
)
def test_wrong_use_is_refused_and_leaves_no_file(
    drawn: Path, tmp_path: Path, name: str, count: int, seed: int, version: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sample(drawn, tmp_path / name, count, seed, version)

    assert list(tmp_path.iterdir()) == []


def test_command_draws_from_the_current_model_of_a_stream(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zoo.yaml").write_text(STREAM.format(name="zoo"))
    words = f"sample {tmp_path}/zoo.yaml --models {drawn} --count 3 --seed 4 --out {tmp_path}/s.npz -o json"

    code = main(words.split())

    assert code == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": f"{tmp_path}/s.npz",
        "frames": 3,
        "seed": 4,
        "model": "zoo",
        "version": 2,
    }
    assert np.load(tmp_path / "s.npz")["frames"].shape == (3, 7, 3)


def test_command_says_in_one_line_that_a_model_cannot_draw(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(STREAM.format(name="small"))

    code = main(f"sample {tmp_path}/small.yaml --models {models} --out {tmp_path}/s.npz".split())

    assert code == 2
    assert capsys.readouterr().err == (
        "error: sample: expected a variational model. Received: small, network=dense. "
        "Train it with model.variational: {}.\n"
    )


def test_artifact_of_a_variational_model_shows_its_samples() -> None:
    from pipelines.portraits import draw

    frames = zoo.make_frames(60, seed=3)
    model = zoo.fitted("variational")
    scores = model.infer(frames).scores

    pictures = draw("zoo", model, THRESHOLD, scores, frames)
    plain = draw("zoo", zoo.fitted("dense"), THRESHOLD, scores, frames)

    assert sorted(set(pictures) - set(plain)) == ["samples.png"]
