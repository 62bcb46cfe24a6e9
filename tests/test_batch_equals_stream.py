"""Files and topics go through one graph: the same frames bit for bit, codes and scores to rounding."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import small_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ae_model.model import Detector
from pipelines.file_frames import read_frames
from pipelines.formats import make_decoder
from pipelines.frame_batch import InferredBatch, RawBatch
from pipelines.model_calls import infer_surely

ROWS = 4 * 150 + 3  # 150 frames, and three samples that do not fill another


@pytest.fixture(scope="module", params=["float32", "int8"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector.load(small_models.publish(tmp_path_factory.mktemp("models"), codes=request.param))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, NDArray[np.float32]]:
    samples = np.concatenate([small_models.make_frames(150, seed=3).reshape(-1, 3), np.ones((3, 3), np.float32)])
    path = tmp_path_factory.mktemp("data") / "device.npz"
    np.savez(path, test=samples)
    return f"{path}::test", samples


def infer_all(detector: Detector, batches: list[RawBatch]) -> list[InferredBatch]:
    decoder = make_decoder("raw", small_models.CONTRACT)
    decoded = [decoder.decode(batch) for batch in batches]
    assert [letter for part in decoded for letter in part.bad] == []
    outcomes = [outcome for part in decoded for outcome in infer_surely(detector, part.good)]
    return [outcome.inferred for outcome in outcomes if outcome.inferred is not None]


def column(inferred: list[InferredBatch], name: str) -> NDArray[np.float32]:
    return np.concatenate([getattr(batch, name) for batch in inferred])


def split(batch: RawBatch, cuts: list[int]) -> list[RawBatch]:
    edges = [0, *sorted(cuts), len(batch)]
    return [batch.slice(a, b) for a, b in pairwise(edges) if a < b]


def test_files_are_cut_into_the_frames_a_device_would_have_sent(recording: tuple[str, NDArray[np.float32]]) -> None:
    data, samples = recording

    batches = list(read_frames(data, small_models.CONTRACT))

    values = [value for batch in batches for value in batch.values.to_pylist()]
    assert values == [samples[start : start + 4].tobytes() for start in range(0, ROWS - 3, 4)]
    assert np.concatenate([batch.offsets for batch in batches]).tolist() == list(range(3, ROWS - 3, 4))
    assert np.concatenate([batch.timestamps for batch in batches]).tolist()[:3] == [1500, 3500, 5500]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 149), max_size=20), st.booleans())
def test_any_split_of_the_records_gives_the_same_frames_codes_and_scores(
    detector: Detector, recording: tuple[str, NDArray[np.float32]], cuts: list[int], over_the_wire: bool
) -> None:
    [whole] = read_frames(recording[0], small_models.CONTRACT)
    batch = infer_all(detector, [whole])

    parts = split(whole, cuts)
    if over_the_wire:
        parts = [RawBatch.from_bytes(part.to_bytes()) for part in parts]
    stream = infer_all(detector, parts)

    frames = [np.concatenate([part.batch.frames for part in side]) for side in (batch, stream)]
    assert frames[0].tobytes() == frames[1].tobytes()
    # Float32 kernels may round otherwise when the frame batch has another size. Codes of int8 this close are equal.
    np.testing.assert_allclose(column(stream, "codes"), column(batch, "codes"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(column(stream, "scores"), column(batch, "scores"), rtol=1e-5)
    np.testing.assert_array_equal(column(stream, "scores") >= 0.5, column(batch, "scores") >= 0.5)


def test_detector_loaded_twice_gives_the_same_codes(detector: Detector, recording: tuple[str, Path]) -> None:
    [whole] = read_frames(recording[0], small_models.CONTRACT)

    again = infer_all(Detector.load(detector.path), [whole])

    np.testing.assert_array_equal(column(again, "codes"), column(infer_all(detector, [whole]), "codes"))
