"""Images travel as any frames do: the ready stream ``mnist`` on a sample of real digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_batches import make_raw

from ae_model import artifact
from ae_model.model import Detector
from pipelines.backfill import score_stream
from pipelines.decode import decode_parquet
from pipelines.formats import make_decoder
from pipelines.frame_batch import RawBatch
from pipelines.parquet_files import read_table
from pipelines.replay import ReplayOptions, make_records, read_recordings
from pipelines.stream_file import StreamFile, load_stream
from pipelines.train import TrainSummary, train_stream

DIGITS = Path(__file__).parent / "data" / "mnist" / "digits.npz"
with np.load(DIGITS) as _arrays:
    IMAGES, HELD_OUT = _arrays["x"], _arrays["x_test"]


def make_stream() -> StreamFile:
    """The ready stream, trained briefly and with codes of one byte."""
    stream = load_stream("mnist")
    brief = {"epochs": 3, "batch_frames": 64, "learning_rate": 0.01, "codes": "int8"}
    document = stream.model_dump(exclude_unset=True)
    return StreamFile.model_validate({**document, "model": {**document["model"], **brief}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary, list[str]]:
    models, lines = tmp_path_factory.mktemp("models"), list[str]()
    return models, train_stream(make_stream(), f"{DIGITS}::x", models, (), lines.append), lines


def test_the_ready_stream_is_the_first_autoencoder_of_the_keras_blog() -> None:
    stream = load_stream("mnist")

    assert (stream.model.network, stream.model.hidden, stream.model.latent, stream.model.loss) == (
        "dense",
        (),
        32,
        "bce",
    )
    assert (stream.contract.shape, stream.input.dtype) == ((28, 28), "uint8")


def test_images_are_counted_as_items_and_dealt_in_their_shares(
    trained: tuple[Path, TrainSummary, list[str]],
) -> None:
    _, summary, lines = trained

    assert lines[0] == "data: 1000 items of 28 x 28 in 1 recordings"
    assert summary.frames == {"training": 720, "validation": 80, "calibration": 200, "unusable": 0}
    # Blank columns at an image's border are nothing to warn of.
    assert not any("constant" in note for note in summary.notes)


def test_codes_that_the_steps_do_not_reach_are_counted_in_the_manifest(
    trained: tuple[Path, TrainSummary, list[str]],
) -> None:
    metrics = Detector.load(artifact.resolve(trained[0], "mnist")).manifest.metrics

    assert metrics["model"]["clipped"] == metrics["baseline"]["clipped"] == 0.0


def test_the_model_card_shows_images_and_what_is_left_of_them(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    folder = Path(trained[1].path)

    assert (folder / "assets" / "images.png").read_bytes().startswith(b"\x89PNG")
    assert "(assets/images.png)" in (folder / "README.md").read_text()


def test_errors_are_mean_squares_of_pixels_from_zero_to_one(trained: tuple[Path, TrainSummary, list[str]]) -> None:
    models, _, _ = trained
    detector = Detector.load(artifact.resolve(models, "mnist"))

    said = detector.infer(HELD_OUT)

    squares = np.square((HELD_OUT.astype(np.float64) - said.frames) / 255)
    assert detector.manifest.scaling.center == (0.0,) * 28
    assert detector.manifest.scaling.scale == (255.0,) * 28
    np.testing.assert_allclose(said.errors, squares.mean(axis=(1, 2)), rtol=1e-4)
    assert said.errors.mean() < 0.07  # the mean image alone leaves 0.067


def test_images_scored_from_a_file_come_back_from_their_codes_of_32_bytes(
    trained: tuple[Path, TrainSummary, list[str]], tmp_path: Path
) -> None:
    models, _, _ = trained
    score_stream(make_stream(), f"{DIGITS}::x_test", models, tmp_path / "out", ())

    decode_parquet(tmp_path / "out", models, tmp_path / "images.npz")

    codes = read_table(tmp_path / "out", "codes")
    detector = Detector.load(artifact.resolve(models, "mnist"))
    with np.load(tmp_path / "images.npz", allow_pickle=False) as arrays:
        # The row of an image's last line, all images end to end.
        assert arrays["offsets"].tolist() == list(range(27, 250 * 28, 28))
        np.testing.assert_allclose(arrays["frames"], detector.reconstruct(HELD_OUT), rtol=1e-5, atol=1e-3)
    pca = Detector.load(artifact.resolve(models, "mnist.pca"))
    assert (detector.manifest.codes.bytes, pca.manifest.codes.bytes) == (32, 32)
    assert codes["code"].to_pylist() == detector.encode(HELD_OUT).tolist()


def test_an_image_is_a_record_of_784_bytes_that_decodes_to_the_same_image() -> None:
    stream = load_stream("mnist")
    frames, padded = read_recordings(f"{DIGITS}::x_test", stream.contract)

    records = make_records(frames, stream.input, stream.contract, ReplayOptions(start_ms=0))
    raw: RawBatch = make_raw([record.value for record in records])
    decoded = make_decoder("raw", stream.contract, dtype="uint8").decode(raw)

    assert padded == 0
    assert records[0].value == HELD_OUT[0].tobytes()
    assert decoded.bad == []
    assert decoded.good.frames.tolist() == HELD_OUT.tolist()
