"""How many frames per call suit a model best on this machine; measured once, when it is exported.

It changes no result, only the speed: small models want large batches, since a call
of TensorFlow costs as much as some hundred of their frames; large ones do not mind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT = 512
CANDIDATES = (512, 1024, 2048)
# Larger batches never come: it is what a raw batch may hold.
MAX_BATCH_BYTES = 8 << 20
ROUNDS = 5
# A model this slow is not worth the time: what a call costs beside its frames is not a hundredth of it.
SLOW_CALL_S = 0.05
# Of two that are as fast within noise the smaller is better: its frames wait less, and fit the caches.
CLOSE_ENOUGH = 1.05


def find_batch_frames(
    infer: Callable[[NDArray[np.float32]], Any],
    shape: tuple[int, int],
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The smallest number of frames per call that is within 5 % of the fastest.

    Args:
        infer: the model, on (n, length, channels).
        shape: (length, channels).
        clock: seconds, rising.
    """
    fitting = [frames for frames in CANDIDATES if 4 * math.prod(shape) * frames <= MAX_BATCH_BYTES]
    if len(fitting) < 2:
        return DEFAULT
    batches = {frames: np.zeros((frames, *shape), np.float32) for frames in fitting}

    def time_call(frames: int) -> float:
        start = clock()
        infer(batches[frames])
        return clock() - start

    # The first call of each size prepares it.
    if [time_call(fitting[0]) for _ in range(2)][1] > SLOW_CALL_S:
        return fitting[0]
    # In turn, so that a busy moment of the machine slows all of them.
    seconds = [[time_call(frames) / frames for frames in fitting] for _ in range(1 + ROUNDS)]
    per_frame = [median(times[1:]) for times in zip(*seconds, strict=True)]
    return next(
        frames for frames, cost in zip(fitting, per_frame, strict=True) if cost <= CLOSE_ENOUGH * min(per_frame)
    )
