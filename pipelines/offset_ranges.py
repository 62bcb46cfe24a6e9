"""Sets of offsets as ranges, which stay short when the offsets run on.

add(0, 4)  add(8, 9)      0 1 2 3 4 . . . 8 9        two ranges
add(5, 7)                 0 1 2 3 4 5 6 7 8 9        one
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class OffsetRanges:
    """A set of offsets, kept as sorted ranges (first, last), both included, that never touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Start with these ranges, in any order."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, lowest first."""
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Number of ranges, not of offsets."""
        return len(self._firsts)

    def add(self, first: int, last: int) -> None:
        """Put in the offsets ``first`` to ``last``, both included."""
        # Ranges start to stop - 1 overlap the new one or lie next to it.
        start = bisect_left(self._lasts, first - 1)
        stop = bisect_right(self._firsts, last + 1)
        if start < stop:
            first = min(first, self._firsts[start])
            last = max(last, self._lasts[stop - 1])
        self._firsts[start:stop] = [first]
        self._lasts[start:stop] = [last]

    def add_offsets(self, offsets: NDArray[Any]) -> None:
        """Put in single offsets (n,), in rising order."""
        if len(offsets) == 0:
            return
        breaks = np.flatnonzero(np.diff(offsets) > 1)
        firsts = offsets[np.concatenate([[0], breaks + 1])]
        lasts = offsets[np.concatenate([breaks, [len(offsets) - 1]])]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            self.add(first, last)

    def contains(self, offsets: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,) True where the offset is in the set."""
        if not self._firsts:
            return np.zeros(len(offsets), np.bool_)
        place = np.searchsorted(self._firsts, offsets, side="right") - 1
        inside: NDArray[np.bool_] = (place >= 0) & (offsets <= np.asarray(self._lasts)[place])
        return inside

    def uncovered(self, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of ``first`` to ``last`` that are not in the set."""
        parts = []
        start = bisect_left(self._lasts, first)
        stop = bisect_right(self._firsts, last)
        for taken_first, taken_last in zip(self._firsts[start:stop], self._lasts[start:stop], strict=True):
            if first < taken_first:
                parts.append((first, taken_first - 1))
            first = taken_last + 1
        return [*parts, (first, last)] if first <= last else parts
