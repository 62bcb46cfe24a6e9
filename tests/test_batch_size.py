from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.batch_size import find_batch_frames


class Machine:
    """A model and a clock: a call costs ``call_s``, the first of each size a second more, and a frame ``frame_s``."""

    def __init__(self, call_s: float, frame_s: dict[int, float] | float) -> None:
        self.now = 0.0
        self.call_s, self.frame_s = call_s, frame_s
        self.sizes: list[int] = []

    def infer(self, frames: NDArray[np.float32]) -> None:
        count = len(frames)
        self.now += self.call_s + (1.0 if count not in self.sizes else 0.0)
        self.now += count * (self.frame_s[count] if isinstance(self.frame_s, dict) else self.frame_s)
        self.sizes.append(count)

    def find(self, shape: tuple[int, int] = (1, 256)) -> int:
        return find_batch_frames(self.infer, shape, lambda: self.now)


def test_small_model_takes_large_batches() -> None:
    # 300 us a call: 2.1, 1.8 and 1.65 us a frame.
    assert Machine(300e-6, 1.5e-6).find() == 2048


def test_model_that_does_not_mind_keeps_small_batches() -> None:
    # 28.6, 28.3 and 28.1 us a frame.
    assert Machine(300e-6, 28e-6).find() == 512


def test_slow_model_is_not_kept_busy() -> None:
    machine = Machine(300e-6, 1e-3)

    assert machine.find() == 512
    assert machine.sizes == [512, 512]


def test_model_that_outgrows_the_caches_stays_in_them() -> None:
    assert Machine(0.0, {512: 3e-6, 1024: 2e-6, 2048: 2.5e-6}).find() == 1024


@pytest.mark.parametrize(("width", "sizes"), [(1024, {512, 1024, 2048}), (2048, {512, 1024}), (4096, set())])
def test_batches_beyond_a_raw_batch_are_not_tried(width: int, sizes: set[int]) -> None:
    machine = Machine(300e-6, 1.5e-6)

    found = machine.find((1, width))

    assert set(machine.sizes) == sizes
    assert found == max(sizes, default=512)
