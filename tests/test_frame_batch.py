"""The unit of flow keeps every byte of every record, whole or in parts, in memory or on the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.frame_batch import FrameBatch, InferredBatch, RawBatch, Scorer

RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=5),
        st.none() | st.binary(max_size=40),
        st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


def make_raw(records: list[Any], first_offset: int = 0) -> RawBatch:
    keys, values, headers = zip(*records, strict=True)
    count = len(records)
    return RawBatch(
        topic="plant.été.frames.v1",
        partition=3,
        offsets=np.arange(first_offset, first_offset + count),
        timestamps=np.arange(count) * 60_000,
        keys=pa.array(keys, pa.binary()),
        values=pa.array(values, pa.binary()),
        headers=tuple(headers) if any(headers) else None,
    )


def as_rows(raw: RawBatch) -> list[Any]:
    headers = raw.headers or ([],) * len(raw)
    columns = (raw.offsets.tolist(), raw.timestamps.tolist(), raw.keys.to_pylist(), raw.values.to_pylist(), headers)
    return list(zip(*columns, strict=True))


@given(RECORDS, st.integers(0, 2**62))
def test_raw_batch_survives_the_wire(records: list[Any], first_offset: int) -> None:
    raw = make_raw(records, first_offset)

    again = RawBatch.from_bytes(raw.to_bytes())

    assert (again.topic, again.partition) == ("plant.été.frames.v1", 3)
    assert as_rows(again) == as_rows(raw)


@given(RECORDS, st.data())
def test_any_slice_survives_the_wire_and_holds_its_own_records_only(records: list[Any], data: st.DataObject) -> None:
    raw = make_raw(records)
    start = data.draw(st.integers(0, len(records) - 1))
    stop = data.draw(st.integers(start + 1, len(records)))

    again = RawBatch.from_bytes(raw.slice(start, stop).to_bytes())

    assert as_rows(again) == as_rows(raw)[start:stop]


@given(RECORDS, st.data())
def test_taking_a_mask_and_its_complement_keeps_every_record_once(records: list[Any], data: st.DataObject) -> None:
    raw = make_raw(records)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records))), bool)

    rows = as_rows(raw.take(mask)) + as_rows(raw.take(~mask))

    assert sorted(rows) == as_rows(raw) if not raw.headers else {row[0] for row in rows} == set(raw.offsets.tolist())


def test_slices_share_the_span_between_them_and_a_selection_keeps_it_whole() -> None:
    raw = replace(make_raw([(b"k", b"v", [])] * 4), offsets=np.array([4, 6, 7, 9]), span=(3, 11))

    spans = [raw.slice(*part).answers_for for part in ((0, 2), (2, 3), (3, 4))]

    assert spans == [(3, 6), (7, 7), (8, 11)]
    assert raw.take(np.array([False, True, False, False])).answers_for == (3, 11)
    assert RawBatch.from_bytes(raw.to_bytes()).answers_for == (3, 11)
    assert replace(raw, span=None).answers_for == (4, 9)


def test_bytes_of_another_schema_are_refused() -> None:
    data = make_raw([(b"k", b"v", [])]).to_bytes()

    with pytest.raises(ValueError, match="raw batch: expected schema"):
        RawBatch.from_bytes(b"\0" * 16 + data[16:])


def test_empty_raw_batch_survives_the_wire() -> None:
    empty = make_raw([(b"k", b"v", [("h", b"x")])]).slice(0, 0)

    again = RawBatch.from_bytes(empty.to_bytes())

    assert as_rows(again) == []


def test_frame_batch_survives_the_wire_bit_for_bit() -> None:
    raw = make_raw([(b"a", b"1", []), (None, None, [("h", b"x")]), (b"c", b"", [])])
    frames = np.array([1.5, -0.0, 3.25e-30, 7, 8, 9], "f4").reshape(3, 2, 1)

    again = FrameBatch.from_bytes(FrameBatch(raw, frames).to_bytes())

    assert again.frames.tobytes() == frames.tobytes()
    assert again.frames.shape == (3, 2, 1)
    assert as_rows(again.records) == as_rows(raw)


def test_frames_stay_with_their_records_when_some_are_taken() -> None:
    raw = make_raw([(b"a", b"1", []), (b"b", b"2", []), (b"c", b"3", [])])
    batch = FrameBatch(raw, np.array([1, 2, 3], "f4").reshape(3, 1, 1))

    taken = batch.take(np.array([True, False, True]))

    assert taken.frames.ravel().tolist() == [1, 3]
    assert taken.records.keys.to_pylist() == [b"a", b"c"]
    assert taken.records.offsets.tolist() == [0, 2]


def make_inferred(scores: list[float], threshold: float = 1.0) -> InferredBatch:
    count = len(scores)
    raw = make_raw([(b"k", b"v", [])] * count)
    column = np.array(scores, "f4")
    return InferredBatch(
        batch=FrameBatch(raw, np.arange(count * 2, dtype="f4").reshape(count, 1, 2)),
        codes=np.arange(count * 3, dtype="f4").reshape(count, 3),
        denoised=np.ones((count, 1, 2), "f4"),
        errors=column,
        channel_errors=np.ones((count, 2), "f4"),
        latent_distance=np.zeros(count, "f4"),
        scores=column,
        scorers=(Scorer("m", 4, "global", threshold),),
        scored_by=np.zeros(count, np.int32),
    )


def test_missing_shares_are_counted_once_however_many_alerts_ask() -> None:
    inferred = make_inferred([1.0, 2.0])

    assert inferred.missing is inferred.missing
    assert inferred.missing.tolist() == [0.0, 0.0]


def test_score_at_the_threshold_or_not_a_number_alerts() -> None:
    inferred = make_inferred([0.5, 1.0, 2.0, float("nan"), float("inf")])

    assert inferred.alerting.tolist() == [False, True, True, True, True]
