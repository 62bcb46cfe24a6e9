"""The audit counts ids, and a single missing one is named."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit import Audit, Ids, compare


def ids(**partitions: list[int]) -> Ids:
    return {int(name[1:]): np.array(offsets, np.int64) for name, offsets in partitions.items()}


def test_every_record_in_one_place_is_ok() -> None:
    audit = compare(ids(p0=[5, 6, 7], p1=[0]), codes=ids(p0=[5, 7], p1=[0]), dead=ids(p0=[6]))

    assert audit == Audit(records=4, coded=3, dead=1, replayed=0, lost=[], lost_count=0, both=0)
    assert audit.ok


def test_missing_record_is_named() -> None:
    audit = compare(ids(p0=[5, 6, 7]), codes=ids(p0=[5]), dead=ids(p0=[7]))

    assert (audit.lost, audit.lost_count, audit.ok) == (["0@6"], 1, False)


def test_replayed_record_counts_once_and_is_reported() -> None:
    audit = compare(ids(p0=[5, 6]), codes=ids(p0=[5, 6, 5, 6]), dead={})

    assert (audit.coded, audit.replayed, audit.ok) == (2, 2, True)


def test_record_in_both_places_is_a_fault() -> None:
    audit = compare(ids(p0=[5]), codes=ids(p0=[5]), dead=ids(p0=[5]))

    assert (audit.both, audit.ok) == (1, False)


def test_empty_topic_is_ok() -> None:
    assert compare(ids(p0=[]), codes={}, dead={}).ok


@given(st.lists(st.sampled_from(["coded", "dead", "twice", "lost"]), max_size=40))
def test_fates_are_counted_as_they_were_dealt(fates: list[str]) -> None:
    def having(*names: str) -> list[int]:
        return [offset for offset, fate in enumerate(fates) if fate in names]

    audit = compare(
        ids(p3=list(range(len(fates)))),
        codes=ids(p3=having("coded", "twice") + having("twice")),
        dead=ids(p3=having("dead")),
    )

    assert audit.lost == [f"3@{offset}" for offset in having("lost")][:10]
    assert audit.ok == (not having("lost"))
    assert audit.replayed == len(having("twice"))
