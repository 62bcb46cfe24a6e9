"""Ranges say exactly what a set of offsets says, in less room."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.offset_ranges import OffsetRanges

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


def as_set(ranges: list[tuple[int, int]]) -> set[int]:
    return {offset for first, last in ranges for offset in range(first, last + 1)}


def test_a_range_that_fills_the_gap_joins_its_neighbours() -> None:
    ranges = OffsetRanges([(8, 9), (0, 4)])

    ranges.add(5, 7)

    assert list(ranges) == [(0, 9)]


def test_ranges_one_apart_stay_apart() -> None:
    assert list(OffsetRanges([(0, 4), (6, 9)])) == [(0, 4), (6, 9)]


def test_offsets_with_gaps_become_runs() -> None:
    ranges = OffsetRanges()

    ranges.add_offsets(np.array([3, 4, 5, 9, 11, 12]))

    assert list(ranges) == [(3, 5), (9, 9), (11, 12)]


def test_nothing_is_in_an_empty_set() -> None:
    ranges = OffsetRanges()

    ranges.add_offsets(np.array([], np.int64))

    assert ranges.contains(np.array([0, 5])).tolist() == [False, False]
    assert ranges.uncovered(2, 6) == [(2, 6)]
    assert len(ranges) == 0


@given(RANGES)
def test_ranges_hold_what_a_set_would(ranges: list[tuple[int, int]]) -> None:
    found = OffsetRanges(ranges)

    everything = np.arange(0, 60)
    expected = as_set(ranges)
    assert [int(offset) for offset in everything[found.contains(everything)]] == sorted(expected)
    parts = list(found)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(parts))


@given(RANGES, st.integers(0, 50), st.integers(0, 20))
def test_uncovered_is_the_difference(ranges: list[tuple[int, int]], first: int, size: int) -> None:
    missing = OffsetRanges(ranges).uncovered(first, first + size)

    assert as_set(missing) == set(range(first, first + size + 1)) - as_set(ranges)
