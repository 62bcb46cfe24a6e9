"""Lines up what a stream wrote with the files it was replayed from, and compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.config import FrameContract
from ae_model.model import Detector
from pipelines.file_frames import read_frames
from pipelines.parquet_files import read_table
from pipelines.stream_file import load_stream

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Followed:
    """One stream, frame by frame in the order of its files.

    Args:
        name: of the stream.
        detector: its model.
        frames: (n, length, channels) float32, as replayed.
        keys: (n,) the device of each.
        scores: the stream's score table, a row per frame.
        decoded: (n, length, channels) float32, what the receiver made of the codes.
    """

    name: str
    detector: Detector
    frames: NDArray[np.float32]
    keys: NDArray[Any]
    scores: Columns
    decoded: NDArray[np.float32]


def follow(name: str, data: str, out: Path, decoded: Path) -> Followed:
    """Read back everything that a stream wrote in the demo."""
    stream = load_stream(name)
    keys, frames = read_replayed(data, stream.contract)
    table = read_table(out / "parquet" / name, "scores")
    scores: Columns = {column: table.column(column).to_numpy() for column in table.column_names}
    scores["timestamp"] = scores["timestamp"].astype("datetime64[ms]").astype(np.int64)
    rows = match_rows(keys, scores)
    ordered = {column: values[rows] for column, values in scores.items()}
    detector = Detector.load(artifact.resolve(out / "models", name))
    return Followed(name, detector, frames, keys, ordered, read_decoded(decoded, ordered))


def read_replayed(data: str, contract: FrameContract) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Keys (n,) and frames (n, length, channels) of the files, as ``score`` cuts them."""
    batches = list(read_frames(data, contract))
    keys = np.array([key for batch in batches for key in batch.keys.to_pylist()])
    values = b"".join(value for batch in batches for value in batch.values.to_pylist())
    return keys, np.frombuffer(values, "<f4").reshape(-1, *contract.shape)


def match_rows(keys: NDArray[Any], scores: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """(n,) for each frame its row of the score table: both have a device's frames in order of time.

    The table may have one more per device, since replay fills a last frame up with zeros.
    """
    rows = np.empty(len(keys), np.int64)
    for key in np.unique(keys):
        here, there = np.flatnonzero(keys == key), np.flatnonzero(scores["key"] == key)
        rows[here] = there[np.argsort(scores["timestamp"][there], kind="stable")][: len(here)]
    return rows


def read_decoded(path: Path, scores: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """(n, length, channels) decoded frames in the order of a score table, joined on the ids."""
    with np.load(path) as archive:
        ids = zip(archive["partitions"].tolist(), archive["offsets"].tolist(), strict=True)
        places = {place: row for row, place in enumerate(ids)}
        wanted = zip(scores["partition"].tolist(), scores["offset"].tolist(), strict=True)
        frames: NDArray[np.float32] = archive["frames"][[places[place] for place in wanted]]
    return frames


def compare(followed: Followed) -> dict[str, Any]:
    """How far the stream and its receiver are from the model called directly on the files' frames."""
    inference = followed.detector.infer(followed.frames)
    direct = followed.detector.reconstruct(followed.frames)
    streamed = followed.scores["score"]
    return {
        "compared_frames": len(streamed),
        "receiver_max_difference": float(np.abs(followed.decoded - direct).max()),
        "score_max_relative_difference": float(np.abs(streamed / inference.scores - 1).max()),
    }
