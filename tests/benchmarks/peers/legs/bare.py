"""The model alone, on frames in memory: what all others are measured by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from serving import Model, Rig, serve


def prepare(rig: Rig) -> Callable[[], int]:
    """The same batches as the others make, without Kafka."""
    model = Model(rig)
    batch = np.random.default_rng(0).standard_normal((rig.batch, *rig.shape), dtype=np.float32)
    calls = rig.frames // rig.batch

    def run() -> int:
        for _ in range(calls):
            model.encode(batch)
        return calls * rig.batch

    return run


if __name__ == "__main__":
    serve(prepare, ())
