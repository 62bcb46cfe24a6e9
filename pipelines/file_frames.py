"""Files as a topic would give them: frames as records of one partition, by their place in time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.frames import FrameCutter
from pipelines.frame_batch import RawBatch
from pipelines.samples import iter_blocks

# Files without a rate get a frame per second, so that their rows have an order in time.
DEFAULT_RATE_HZ = 1.0


def read_frames(data: str, contract: FrameContract) -> Iterator[RawBatch]:
    """Frames of files in the form a topic would give them, cut as in training.

    The source's name stands for the topic; a frame's offset is the row of its last sample.
    """
    cutters: dict[str, FrameCutter] = {}
    done: dict[str, int] = {}
    for block in iter_blocks(data, contract):
        cutter = cutters.setdefault(block.source, FrameCutter(contract.length, contract.hop))
        frames = cutter.push(block.samples)  # (n, length, channels)
        if len(frames):
            first = done.get(block.source, 0)
            done[block.source] = first + len(frames)
            yield as_raw_batch(block.source, block.key, frames, first, contract)


def as_raw_batch(source: str, key: str, frames: NDArray[np.float32], first: int, contract: FrameContract) -> RawBatch:
    """Frames ``first``, ``first`` + 1, ... of a source, as records.

    Args:
        source: file and array.
        key: of the device, as a record's key.
        frames: (n, length, channels) float32.
        first: index of the first frame within its source.
        contract: length, hop and rate.
    """
    count = len(frames)
    offsets = (first + np.arange(count, dtype=np.int64)) * contract.hop + contract.length - 1
    timestamps = (offsets * 1000 / (contract.rate_hz or DEFAULT_RATE_HZ)).astype(np.int64)
    values = [row.tobytes() for row in np.ascontiguousarray(frames, dtype="<f4")]
    return RawBatch(
        topic=re.sub(r"[^A-Za-z0-9._-]+", ".", source),
        partition=0,
        offsets=offsets,
        timestamps=timestamps,
        keys=pa.array([key.encode()] * count, pa.binary()),
        values=pa.array(values, pa.binary()),
        # The rows between two frames belong to the later one, so that nothing seems to be missing.
        span=(int(offsets[0]) - contract.hop + 1, int(offsets[-1])),
    )
