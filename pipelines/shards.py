"""Which samples train, which choose the epoch, which fit the threshold; and how they are read.

One recording is parted in time. A frame lies in one part, whatever its hop:

    rows     |------------ training 72 % ------------|- validation 8 % -|--- calibration 20 % ---|

Of many recordings (25 and more) each is used whole, 18 + 2 + 5 of every 25 in order of
their names: clips are too short to part, and names often sort by speaker, day or kind.
Items, such as images, are dealt likewise in 20 such rounds, a place being a run of them: their
array often sorts by class, and neighbours are often alike, as of one writer or one film.

Where each key has a model of its own, each key's recordings are parted for themselves, so that
a key gets the same splits whatever else there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract, Missing
from ae_model.frames import FrameCutter, find_faults, usable
from pipelines.samples import BLOCK_VALUES, Recording, read_blocks

TRAINING, VALIDATION, CALIBRATION = "training", "validation", "calibration"
SPLITS = (TRAINING, VALIDATION, CALIBRATION)
# Share of a recording at which each split ends.
_ENDS = (0.72, 0.80, 1.0)
# The split of each recording of a round of 25, in the same shares.
_ROUND = (TRAINING,) * 18 + (VALIDATION,) * 2 + (CALIBRATION,) * 5
# Rounds in which the items of an array are dealt.
_ITEM_ROUNDS = 20
# Values in a shard before the next one starts: 64 MiB of float32.
_SHARD_VALUES = 16 * BLOCK_VALUES


@dataclass(frozen=True)
class Part:
    """Consecutive rows ``start`` to ``stop`` - 1 of one recording, all for one purpose but for a recording of items.

    ``places`` are then those of each round of 25 that this part takes, and ``run`` the items in a place.
    """

    recording: Recording
    split: str
    start: int
    stop: int
    places: range | None = None
    run: int = 1

    def takes(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the frames that start at these rows are this part's."""
        if self.places is None:
            return np.ones(len(rows), np.bool_)
        place = rows // (self.recording.samples.item_rows or 1) // self.run % len(_ROUND)
        return np.asarray((place >= self.places.start) & (place < self.places.stop))

    def count_frames(self, contract: FrameContract) -> int:
        """How many frames it has, usable or not."""
        frames = max(0, (self.stop - self.start - contract.length) // contract.hop + 1)
        return frames if self.places is None else int(self.takes(np.arange(frames) * contract.hop).sum())


@dataclass(frozen=True)
class Shard:
    """Parts that one worker reads: the element that Beam hands out.

    Args:
        index: unlike any other's of the same key.
        split: what the parts are for.
        parts: in order.
        key: of all parts; None where one model is for all keys.
    """

    index: int
    split: str
    parts: tuple[Part, ...]
    key: str | None = None


@dataclass(frozen=True, eq=False)
class FrameBlock:
    """Usable frames of one shard, and what had to be left out beside them.

    Args:
        split: what they are for.
        key: as the shard's.
        name: unlike any other block's of the key, and the same at each reading; sorts as the frames do.
        frames: (n, length, channels) float32.
        unusable: frames left out because they are not finite or too large.
        faults: in how many of them each channel is at fault.
        example: where the first of them is, or nothing.
    """

    split: str
    key: str | None
    name: str
    frames: NDArray[np.float32]
    unusable: int
    faults: tuple[int, ...]
    example: str


def plan_by_key(recordings: Sequence[Recording]) -> list[Shard]:
    """The shards of each key, planned as if there were no other."""
    by_key: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_key.setdefault(recording.key, []).append(recording)
    return [replace(shard, key=key) for key, own in by_key.items() for shard in plan_shards(own)]


def plan_shards(recordings: Sequence[Recording]) -> list[Shard]:
    """Give every sample its split, and group the parts into shards."""
    signals = [recording for recording in recordings if recording.samples.item_rows is None]
    parts = _deal(signals) if len(signals) >= len(_ROUND) else _part_in_time(signals)
    parts += [part for recording in recordings if recording.samples.item_rows for part in _deal_items(recording)]
    shards: list[Shard] = []
    for split in SPLITS:
        for group in _group([part for part in parts if part.split == split]):
            shards.append(Shard(len(shards), split, group))
    return shards


def _part_in_time(recordings: Sequence[Recording]) -> list[Part]:
    parts = []
    for recording in recordings:
        stops = [int(recording.rows * end) for end in _ENDS]
        for split, start, stop in zip(SPLITS, [0, *stops], stops, strict=False):
            parts.append(Part(recording, split, start, stop))
    return parts


def _deal(recordings: Sequence[Recording]) -> list[Part]:
    return [
        Part(recording, _ROUND[index % len(_ROUND)], 0, recording.rows) for index, recording in enumerate(recordings)
    ]


def _deal_items(recording: Recording) -> list[Part]:
    items = recording.rows // (recording.samples.item_rows or 1)
    run = max(1, items // (_ITEM_ROUNDS * len(_ROUND)))
    places = {split: range(_ROUND.index(split), _ROUND.index(split) + _ROUND.count(split)) for split in SPLITS}
    return [Part(recording, split, 0, recording.rows, places[split], run) for split in SPLITS]


def _group(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    before, numbered = 0, []
    for part in parts:
        numbered.append((before // _SHARD_VALUES, part))
        before += (part.stop - part.start) * part.recording.samples.channels
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield tuple(part for _, part in group)


def read_frames(shard: Shard, contract: FrameContract) -> Iterator[FrameBlock]:
    """Cut the shard's samples into frames, and set apart those that the network cannot take."""
    pile = _Pile(shard, contract.missing)
    for part in shard.parts:
        cutter = FrameCutter(contract.length, contract.hop)
        row = part.start
        for block in read_blocks(part.recording, part.start, part.stop, contract):
            frames = cutter.push(block.samples)  # (n, length, channels)
            rows = row + np.arange(len(frames)) * contract.hop
            mine = part.takes(rows)
            pile.add(frames[mine], part.recording.source, rows[mine])
            row += len(frames) * contract.hop
            if pile.values >= BLOCK_VALUES:
                yield pile.take()
    if pile.values:
        yield pile.take()


class _Pile:
    """Frames of short parts, heaped until they make a block."""

    def __init__(self, shard: Shard, missing: Missing) -> None:
        self._shard = shard
        self._missing = missing
        self._blocks = 0
        self._clear()

    def _clear(self) -> None:
        self.values = 0
        self._frames: list[NDArray[np.float32]] = []
        self._unusable = 0
        self._faults = np.zeros(self._shard.parts[0].recording.samples.channels, np.int64)
        self._example = ""

    def add(self, frames: NDArray[np.float32], source: str, rows: NDArray[np.int64]) -> None:
        """Heap up the usable ones; they start at these rows."""
        good = usable(frames, self._missing)
        self.values += frames.size
        self._frames.append(frames[good])
        if not good.all():
            self._unusable += int(np.count_nonzero(~good))
            self._faults += np.count_nonzero(find_faults(frames[~good]), axis=0)
            self._example = self._example or f"{source}, frame at row {rows[np.argmin(good)]}"

    def take(self) -> FrameBlock:
        """All that lies here, as one block."""
        name = f"{self._shard.index:05d}-{self._blocks:05d}"
        left_out = (self._unusable, tuple(self._faults.tolist()), self._example)
        block = FrameBlock(self._shard.split, self._shard.key, name, np.concatenate(self._frames), *left_out)
        self._blocks += 1
        self._clear()
        return block
