"""Frame batches pass the model whole; a frame it cannot take leaves the rest unharmed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_frame_batch import make_raw

from ae_model.scopes import EVERY_KEY
from ae_model.scoring import Inference
from pipelines.frame_batch import FrameBatch, Scorer
from pipelines.inference import bury
from pipelines.model_calls import infer_surely

POISON = -1.0


class FussyDetector:
    """Doubles frames, and fails on any batch that holds the poison."""

    manifest = SimpleNamespace(
        threshold=SimpleNamespace(value=10.0), name="fussy", version=2, batch_frames=4, scope=EVERY_KEY
    )

    def __init__(self) -> None:
        self.calls: list[int] = []

    def infer(self, frames: Any) -> Inference:
        self.calls.append(len(frames))
        if (frames == POISON).any():
            raise RuntimeError("kernel said no")
        flat = frames.reshape(len(frames), -1)
        return Inference(flat, frames * 2, flat[:, 0], flat, flat[:, 0], flat[:, 0])


def make_batch(samples: list[float]) -> FrameBatch:
    raw = make_raw([(b"k", str(sample).encode(), []) for sample in samples], first_offset=100)
    return FrameBatch(raw, np.array(samples, "f4").reshape(-1, 1, 1))


def test_healthy_batch_takes_one_call() -> None:
    detector = FussyDetector()

    [outcome] = infer_surely(detector, make_batch([1, 2, 3]))

    assert detector.calls == [3]
    assert outcome.inferred is not None
    assert outcome.inferred.scores.tolist() == [1, 2, 3]
    assert outcome.inferred.denoised.ravel().tolist() == [2, 4, 6]
    assert outcome.inferred.scorers == (Scorer("fussy", 2, "global", 10.0),)


def test_one_poisoned_frame_is_found_and_keeps_its_record() -> None:
    outcomes = infer_surely(FussyDetector(), make_batch([1, 2, POISON, 4]))

    scores = [outcome.inferred.scores.tolist() for outcome in outcomes if outcome.inferred is not None]
    [letter] = [letter for outcome in outcomes for letter in bury(outcome)]
    assert scores == [[1, 2], [4]]
    assert (letter.code, letter.stage, letter.partition, letter.offset) == ("model.error", "infer", 3, 102)
    assert (letter.key, letter.value) == (b"k", b"-1.0")
    assert "RuntimeError: kernel said no" in letter.message


@given(st.lists(st.sampled_from([1.0, 2.0, POISON]), min_size=1, max_size=17))
def test_every_frame_comes_out_once_and_in_order(samples: list[float]) -> None:
    outcomes = infer_surely(FussyDetector(), make_batch(samples))

    offsets, alive = [], []
    for outcome in outcomes:
        batch = outcome.inferred.batch if outcome.inferred is not None else outcome.failed
        assert batch is not None
        offsets += batch.records.offsets.tolist()
        alive += [outcome.inferred is not None] * len(batch)
    assert offsets == list(range(100, 100 + len(samples)))
    assert alive == [sample != POISON for sample in samples]
