"""Every place where we rely on what Keras and TensorFlow do not promise; nothing else may.

Each degrades to doing nothing where their insides have changed: trainings then use more memory.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from tensorflow.python.framework import ops

_CUSTOM = "CustomGradient-"


@contextmanager
def forgetting() -> Iterator[None]:
    """Free what a training made, once the block is left, but for what the caller still holds.

    Every training step that is traced registers a gradient of its own in a table of the
    process (Keras sums gradients over replicas, even where there is one), and through it
    holds the step's whole graph for ever. What was registered within the block is dropped:
    only taking a gradient of that same graph again would ask for it. One block at a time.
    """
    before = set(_gradients())
    try:
        yield
    finally:
        gradients = _gradients()
        for name in [name for name in gradients if name.startswith(_CUSTOM) and name not in before]:
            del gradients[name]
        keras.utils.clear_session()
        # The graphs are cycles, and too few Python objects for the collector to come by itself.
        gc.collect()


def _gradients() -> dict[str, Any]:
    table = getattr(getattr(ops, "gradient_registry", None), "_registry", None)
    return table if isinstance(table, dict) else {}
