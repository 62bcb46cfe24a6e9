"""Decodes whole batches; a good record among bad ones always survives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract, Missing, hint
from ae_model.exceptions import ConfigError, FrameError, RecordError
from ae_model.frames import usable
from pipelines.dead_letters import DeadLetter
from pipelines.formats.arrow import ArrowParser
from pipelines.formats.json_text import JsonParser
from pipelines.formats.parsed import Parser, keep, value_bytes
from pipelines.formats.raw import DTYPES, PCM16_SCALE, RawParser
from pipelines.formats.tf_example import TfExampleParser
from pipelines.frame_batch import FrameBatch, RawBatch

STAGE = "decode"


class Decoded(NamedTuple):
    """All records of a batch, each on one side.

    Args:
        good: frames, in offset order.
        bad: dead letters, in offset order.
    """

    good: FrameBatch
    bad: list[DeadLetter]


@dataclass(frozen=True)
class Decoder:
    """From records to frames, for one format; plain values that pickle small.

    Args:
        parser: the format.
        missing: what is done with frames that have missing samples.
    """

    parser: Parser
    missing: Missing = "refuse"

    def decode(self, raw: RawBatch) -> Decoded:
        """Frames of the records that hold one, and dead letters of the others."""
        filled = value_bytes(raw.values) > 0
        bad = _bury(raw, filled, [_EMPTY] * int((~filled).sum()))
        raw = keep(raw, filled)
        good, records, frames, faults = self.parser(raw)
        bad += _bury(raw, good, faults)
        finite = usable(frames, self.missing)
        bad += _bury(records, finite, [_nonfinite(frame, self.missing) for frame in frames[~finite]])
        if not finite.all():
            records, frames = records.take(finite), frames[finite]
        return Decoded(FrameBatch(records, frames), sorted(bad, key=lambda letter: letter.offset))


def make_decoder(format: str, contract: FrameContract, *, dtype: str = "float32", feature: str = "frame") -> Decoder:
    """The decoder of a topic.

    Args:
        format: raw, pcm16, json, tf_example or arrow.
        contract: what a frame is.
        dtype: of the samples, for raw: float32, float64, int16, int32 or uint8.
        feature: field, feature or column that holds the samples, for the last three.

    Raises:
        ConfigError: no such format or dtype.
    """
    shape, channels = contract.shape, contract.channels
    makers: dict[str, Callable[[], Parser]] = {
        "raw": lambda: RawParser(dtype, shape),
        "pcm16": lambda: RawParser("int16", shape, PCM16_SCALE),
        "json": lambda: JsonParser(feature, channels, shape, contract.missing),
        "tf_example": lambda: TfExampleParser(feature, shape),
        "arrow": lambda: ArrowParser(feature, channels, shape, contract.missing),
    }
    _require_known("format", format, makers.keys())
    _require_known("dtype", dtype, DTYPES.keys())
    return Decoder(makers[format](), contract.missing)


_EMPTY = FrameError("frame.empty", "record: expected a value. Received: an empty one, or none.")


def _bury(raw: RawBatch, good: NDArray[np.bool_], faults: Sequence[RecordError]) -> list[DeadLetter]:
    """Dead letters of the records that are not good, one fault each in order."""
    if not faults:
        return []
    rows = np.flatnonzero(~good).tolist()
    return [DeadLetter.of(raw, row, fault, STAGE) for row, fault in zip(rows, faults, strict=True)]


def _nonfinite(frame: NDArray[np.float32], missing: Missing) -> FrameError:
    if missing == "mask" and np.isnan(frame).all():
        return FrameError(
            "frame.nonfinite", f"frame: expected a sample that is there. Received: all {frame.size} missing."
        )
    wrong = int(np.isinf(frame).sum() if missing == "mask" else (~np.isfinite(frame)).sum())
    kind = "infinite" if missing == "mask" else "NaN or infinite"
    received = f"{wrong} {kind} of {frame.size}" if wrong else f"a magnitude of {np.nanmax(np.abs(frame)):.3g}"
    return FrameError("frame.nonfinite", f"frame: expected finite samples of moderate size. Received: {received}.")


def _require_known(what: str, name: str, known: Iterable[str]) -> None:
    names = sorted(known)
    if name not in names:
        raise ConfigError(f"{what}: expected one of {names}. Received: {what}={name!r}.{hint(name, set(names))}")
