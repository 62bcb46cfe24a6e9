"""Frames as tf.Example records: how the batch pipeline hands them to training.

One TFMD schema describes them here, in the artifact and for whoever serves it.
Files are not compressed: they live as long as one training does, each epoch
reads them anew, and floats shrink by a fifth at five times the cost.
"""

from __future__ import annotations

import glob
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.manifest import FEATURE, schema_text

# Frames per parsed batch, and what they may take; training cuts its own batches from them.
READ_FRAMES = 1024
READ_BYTES = 8 << 20


def load_schema(contract: FrameContract) -> Any:
    """The ``schema_pb2.Schema`` of a contract's frames."""
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tensorflow_metadata.proto.v0 import schema_pb2

    return text_format.Parse(schema_text(contract), schema_pb2.Schema())


def encode_examples(frames: NDArray[np.float32], contract: FrameContract) -> list[bytes]:
    """Frames (n, length, channels) as n serialised tf.Example records."""
    from tfx_bsl.public import tfxio

    flat = np.ascontiguousarray(frames, np.float32).reshape(-1)
    ends = pa.array(np.arange(len(frames) + 1, dtype=np.int64) * int(np.prod(contract.shape)))
    # The tensor adapter refuses lists of fixed size.
    column = pa.LargeListArray.from_arrays(ends, pa.array(flat))
    batch = pa.RecordBatch.from_arrays([column], [FEATURE])
    encoded: list[bytes] = tfxio.RecordBatchToExamplesEncoder(load_schema(contract)).encode(batch)
    return encoded


def write_examples(path: Path, frames: NDArray[np.float32], contract: FrameContract) -> None:
    """Write frames as one TFRecord file, which appears whole or not at all."""
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for example in encode_examples(frames, contract):
            writer.write(example)
    temporary.replace(path)


def read_examples(paths: Sequence[Path], contract: FrameContract) -> Any:
    """A ``tf.data.Dataset`` of (n, length, channels) float32 over TFRecord files, in the same order each time."""
    from tfx_bsl.public import tfxio

    # It takes patterns; a folder's name may hold what a pattern means otherwise.
    records = tfxio.TFExampleRecord([glob.escape(str(path)) for path in paths], schema=load_schema(contract))
    fitting = READ_BYTES // (4 * math.prod(contract.shape))
    batch_frames = min(max(fitting, 1), READ_FRAMES)
    options = tfxio.TensorFlowDatasetOptions(batch_frames, num_epochs=1, shuffle=False, reader_num_threads=1)
    with _without_deprecations():
        examples = records.TensorFlowDataset(options)
    return examples.map(lambda tensors: tensors[FEATURE])


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """tfx-bsl calls a parser that TensorFlow deprecates, which is nothing the reader can act on."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
