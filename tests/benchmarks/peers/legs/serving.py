"""What all legs share: the model, and passes over a topic on request. Needs numpy and TensorFlow alone.

A leg is a process of its own, in an environment of its own, so that nothing of one weighs on
another. It imports and loads once, says so, and then makes one pass per line on its stdin.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rig:
    """What a leg is given.

    Args:
        bootstrap: the broker.
        topic: with the frames, evenly over its partitions.
        out: the topic for codes.
        models: folder of models; ``bench/1`` is the one.
        stream: path of the stream file.
        frames: in the topic.
        partitions: of the topic.
        shape: samples and channels of a frame.
        batch: frames in one call of the model.
    """

    bootstrap: str
    topic: str
    out: str
    models: str
    stream: str
    frames: int
    partitions: int
    shape: tuple[int, int]
    batch: int

    @property
    def saved_model(self) -> Path:
        """The folder that TensorFlow loads."""
        return Path(self.models) / "bench" / "1"


class Model:
    """The exported graph as anybody would call it: all outputs computed, codes and errors fetched."""

    def __init__(self, rig: Rig) -> None:
        """Load it."""
        import tensorflow as tf

        self._shape = rig.shape
        self._constant = tf.constant
        self._loaded = tf.saved_model.load(str(rig.saved_model))
        self._infer = self._loaded.signatures["infer"]

    def encode_values(self, values: list[bytes]) -> Any:
        """Codes (n, latent) of record values."""
        return self.encode(np.frombuffer(b"".join(values), "<f4").reshape(-1, *self._shape))

    def encode(self, frames: Any) -> Any:
        """Codes (n, latent) of frames (n, length, channels)."""
        said = self._infer(frames=self._constant(frames))
        said["errors"].numpy()
        return said["codes"].numpy()


def serve(prepare: Callable[[Rig], Callable[[], int]], packages: tuple[str, ...]) -> None:
    """Prepare, then make a pass per line of stdin; each answer is a line of JSON on stdout.

    Args:
        prepare: gives a pass over the topic, which returns how many frames it took.
        packages: whose versions are told.
    """
    # Libraries that print must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    rig = Rig(**json.loads(sys.argv[1]))
    run = prepare(rig)
    _answer(answers, {"versions": {name: version(name) for name in (*packages, "tensorflow")}})
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), _cpu_s()
        frames = run()
        _answer(answers, {"frames": frames, "wall_s": time.perf_counter() - wall, "cpu_s": _cpu_s() - cpu})


def _answer(answers: Any, fields: dict[str, Any]) -> None:
    print(json.dumps(fields), file=answers, flush=True)


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
