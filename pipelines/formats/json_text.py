"""JSON: one frame per record, as an object or an array.

    {"frame": [[0.1, 20.5], [0.2, 20.4]]}    samples, each with its channels
    {"frame": [0.1, 20.5, 0.2, 20.4]}        the same, flat; either may stand alone, without the object
    {"flow": 0.1, "level": 20.5}             for frames of one sample: channels by name

Fields that are not needed are left alone, so that a producer may add some. Where samples may be missing, a null
is one that is; a field that is absent is not, as its name may be misspelt.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import Missing
from ae_model.exceptions import FrameError, RecordError
from pipelines.formats.parsed import Parsed, as_float32, parse_each, size_error
from pipelines.frame_batch import RawBatch

_NUMBERS = frozenset({int, float})  # bool is a type of its own here
_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    type(None): "null",
    int: "number",
    float: "number",
}


@dataclass(frozen=True)
class JsonParser:
    """Frames as JSON.

    Args:
        feature: field that holds the samples.
        channels: names of the channels.
        shape: (length, channels).
        missing: whether null is a missing sample or refused.
    """

    feature: str
    channels: tuple[str, ...]
    shape: tuple[int, int]
    missing: Missing = "refuse"

    def __call__(self, raw: RawBatch) -> Parsed:
        """Parse record by record."""
        return parse_each(raw, self._parse, self.shape)

    def _parse(self, value: bytes) -> NDArray[np.float32]:
        numbers = self._flatten(_load(value))
        if self.missing == "mask":
            numbers = [math.nan if number is None else number for number in numbers]
        if not _NUMBERS.issuperset(map(type, numbers)):
            raise self._type_error(numbers)
        if len(numbers) != self.shape[0] * self.shape[1]:
            raise size_error(len(numbers), self.shape)
        try:
            return as_float32(np.array(numbers, dtype=np.float64)).reshape(self.shape)
        except OverflowError as exc:
            raise FrameError("frame.nonfinite", f"frame: expected numbers of float32. Received: {exc}.") from exc

    def _flatten(self, document: Any) -> list[Any]:
        if isinstance(document, dict):
            document = self._pick(document)
        if not isinstance(document, list):
            raise FrameError("frame.dtype", f"{self.feature}: expected an array. Received: {_NAMES[type(document)]}.")
        if not document or not isinstance(document[0], list):
            return document
        return self._join(document)

    def _pick(self, document: dict[str, Any]) -> Any:
        if self.feature in document:
            return document[self.feature]
        if self.shape[0] > 1:
            raise RecordError(
                "schema.incompatible",
                f"record: expected a field {self.feature!r}. Received: {sorted(document)[:10]}.",
            )
        absent = [name for name in self.channels if name not in document]
        if absent:
            raise FrameError(
                "frame.channels",
                f"record: expected a field {self.feature!r}, or one per channel. "
                f"Received: {sorted(document)[:10]}, without {absent[:10]}.",
            )
        return [document[name] for name in self.channels]

    def _join(self, samples: list[Any]) -> list[Any]:
        flat: list[Any] = []
        for place, sample in enumerate(samples):
            if not isinstance(sample, list):
                raise FrameError(
                    "frame.dtype", f"{self.feature}[{place}]: expected an array. Received: {_NAMES[type(sample)]}."
                )
            if len(sample) != self.shape[1]:
                raise FrameError(
                    "frame.channels",
                    f"{self.feature}[{place}]: expected {self.shape[1]} channels. Received: {len(sample)}.",
                )
            flat += sample
        return flat

    def _type_error(self, numbers: list[Any]) -> FrameError:
        place, wrong = next((i, number) for i, number in enumerate(numbers) if type(number) not in _NUMBERS)
        sample, channel = divmod(place, self.shape[1])
        return FrameError(
            "frame.dtype",
            f"{self.feature}, sample {sample}, channel {self.channels[channel]}: expected a number. "
            f"Received: {_NAMES[type(wrong)]}.",
        )


def _load(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as exc:
        raise RecordError("schema.unknown", f"record: expected JSON. Received: {exc}.") from exc
