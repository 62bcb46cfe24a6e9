"""Frames as the value bytes of records: the way back from pipelines.formats, for replays and tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.formats.raw import DTYPES, PCM16_SCALE
from pipelines.stream_file import InputConfig

Encoder = Callable[[NDArray[np.float32]], list[bytes]]


def make_encoder(config: InputConfig) -> Encoder:
    """The encoder of a topic: (n, length, channels) to n values."""
    makers: dict[str, Encoder] = {
        "raw": lambda frames: encode_raw(frames, config.dtype),
        "pcm16": encode_pcm16,
        "json": lambda frames: encode_json(frames, config.feature),
        "tf_example": lambda frames: encode_tf_example(frames, config.feature),
        "arrow": lambda frames: encode_arrow(frames, config.feature),
    }
    return makers[config.format]


def encode_raw(frames: NDArray[np.float32], dtype: str = "float32") -> list[bytes]:
    """Bare samples, little-endian; rounded and clipped to a whole-number dtype."""
    kind = np.dtype(DTYPES[dtype])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        frames = np.clip(np.rint(frames.astype(np.float64)), limits.min, limits.max)
    return [frame.tobytes() for frame in np.ascontiguousarray(frames, dtype=kind)]


def encode_pcm16(frames: NDArray[np.float32]) -> list[bytes]:
    """16-bit PCM; -1 to 1 is full scale, beyond is clipped."""
    return encode_raw(frames / np.float32(PCM16_SCALE), "int16")


def encode_json(frames: NDArray[np.float32], feature: str = "frame") -> list[bytes]:
    """An object with the samples, each a list of its channels; null for one that is missing."""
    plain: NDArray[Any] = frames
    if np.isnan(frames).any():
        plain = frames.astype(object)
        plain[np.isnan(frames)] = None
    return [json.dumps({feature: frame.tolist()}).encode() for frame in plain]


def encode_tf_example(frames: NDArray[np.float32], feature: str = "frame") -> list[bytes]:
    """tf.Example with the samples as one flat list of floats."""
    # Imported here: it takes seconds, and only this format needs it.
    from tensorflow import train

    def encode(frame: NDArray[np.float32]) -> bytes:
        floats = train.Feature(float_list=train.FloatList(value=frame.ravel()))
        return bytes(train.Example(features=train.Features(feature={feature: floats})).SerializeToString())

    return [encode(frame) for frame in frames]


def encode_arrow(frames: NDArray[np.float32], feature: str = "frame") -> list[bytes]:
    """An Arrow stream with one row, the samples as one flat list."""
    schema = pa.schema([(feature, pa.list_(pa.float32()))])

    def encode(frame: NDArray[np.float32]) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write(pa.record_batch([pa.array([frame.ravel()], schema.field(0).type)], schema=schema))
        return bytes(sink.getvalue())

    return [encode(frame) for frame in frames]
