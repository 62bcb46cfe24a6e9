from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipelines.kafka.buffers import Caps, Chunk, PartitionBuffer
from pipelines.kafka.raw_batches import Damaged, FetchItem, Gap, RawRecordBatch


def packed(first: int, values: list[bytes], codec: int = 0) -> RawRecordBatch:
    """A record batch that begins at offset ``first``."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for row, value in enumerate(values):
        builder.append(row, 1000 + row, None, value, [])
    return RawRecordBatch.read(memoryview(first.to_bytes(8, "big") + bytes(builder.build())[8:]))


def filled(items: list[FetchItem], start: int = 0, caps: Caps | None = None) -> PartitionBuffer:
    buffer = PartitionBuffer("t", 3, caps or Caps(), start)
    for item in items:
        buffer.put(item)
    return buffer


def drained(buffer: PartitionBuffer) -> list[Chunk]:
    found = []
    while (chunk := buffer.pop()) is not None:
        found.append(chunk)
    return found


def seen(chunks: list[Chunk]) -> list[tuple[int, int, list[int]]]:
    return [(c.first, c.last, [] if c.batch is None else c.batch.offsets.tolist()) for c in chunks]


def refusals(chunks: list[Chunk]) -> list[tuple[int, int, str]]:
    return [(r.first_offset, r.last_offset, r.code) for chunk in chunks for r in chunk.refused]


def test_small_record_batches_become_one_raw_batch() -> None:
    buffer = filled([packed(0, [b"a", b"b"]), Gap(2), packed(3, [b"c"])])

    chunks = drained(buffer)

    assert seen(chunks) == [(0, 3, [0, 1, 3])]
    assert chunks[0].batch is not None
    assert chunks[0].batch.values.to_pylist() == [b"a", b"b", b"c"]
    assert (chunks[0].batch.topic, chunks[0].batch.partition) == ("t", 3)
    assert (buffer.next, buffer.nbytes) == (4, 0)


def test_raw_batch_stops_before_the_cap_of_records() -> None:
    buffer = filled([packed(0, [b"a"] * 3), packed(3, [b"b"] * 3)], caps=Caps(max_frames=5))

    assert seen(drained(buffer)) == [(0, 2, [0, 1, 2]), (3, 5, [3, 4, 5])]


def test_large_record_batch_is_cut_by_records_and_by_bytes() -> None:
    by_records = filled([packed(0, [b"a"] * 5)], caps=Caps(max_frames=2))
    by_bytes = filled([packed(0, [bytes(100)] * 5)], caps=Caps(batch_bytes=250))

    assert seen(drained(by_records)) == [(0, 1, [0, 1]), (2, 3, [2, 3]), (4, 4, [4])]
    assert seen(drained(by_bytes)) == [(0, 1, [0, 1]), (2, 3, [2, 3]), (4, 4, [4])]


def test_records_before_the_start_are_cut_off() -> None:
    buffer = filled([packed(0, [b"a", b"b", b"c"])], start=2)

    assert seen(drained(buffer)) == [(2, 2, [2])]


def test_gap_alone_is_a_chunk_without_records() -> None:
    buffer = filled([Gap(9)])

    chunks = drained(buffer)

    assert seen(chunks) == [(0, 9, [])]
    assert chunks[0].batch is None


def test_empty_buffer_has_no_chunk() -> None:
    assert filled([]).pop() is None


def test_chunk_given_back_comes_again() -> None:
    buffer = filled([packed(0, [b"a"] * 4)], caps=Caps(max_frames=2))
    first = buffer.pop()
    assert first is not None

    buffer.give_back(first)

    assert buffer.next == 0
    assert seen(drained(buffer)) == [(0, 1, [0, 1]), (2, 3, [2, 3])]


def test_restart_forgets_what_was_fetched() -> None:
    buffer = filled([packed(0, [b"a", b"b"])])

    buffer.restart(7)

    assert buffer.pop() is None
    assert (buffer.next, buffer.fetched, buffer.nbytes) == (7, 7, 0)


def test_batch_that_came_twice_is_taken_once() -> None:
    buffer = filled([packed(0, [b"a", b"b"]), packed(0, [b"a", b"b"]), packed(2, [b"c"])])

    assert seen(drained(buffer)) == [(0, 2, [0, 1, 2])]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_chunk_is_cut_at_the_stop(stop: int) -> None:
    (chunk,) = drained(filled([packed(0, [b"a", b"b", b"c"]), Gap(3)]))

    assert seen([chunk.until(stop)]) == [(0, stop - 1, list(range(min(stop, 3))))]
    assert chunk.until(None) is chunk
    assert chunk.until(99) is chunk


def test_record_over_the_cap_is_refused_and_its_neighbours_stay() -> None:
    buffer = filled([packed(0, [b"a", bytes(11), b"c"])], caps=Caps(max_record_bytes=10))

    chunks = drained(buffer)

    assert seen(chunks) == [(0, 2, [0, 2])]
    assert refusals(chunks) == [(1, 1, "record.too_large")]
    assert chunks[0].refused[0].message == "record t[3]@1: expected at most 10 bytes. Received: 11."
    assert chunks[0].refused[0].timestamp == 1001


def test_record_at_the_cap_passes() -> None:
    chunks = drained(filled([packed(0, [bytes(10)])], caps=Caps(max_record_bytes=10)))

    assert seen(chunks) == [(0, 0, [0])]
    assert refusals(chunks) == []


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_bomb_is_refused_as_a_range_and_the_stream_goes_on(codec: int) -> None:
    bomb = packed(0, [bytes(5000)] * 4, codec)
    buffer = filled([bomb, packed(4, [b"x"], codec)], caps=Caps(max_inflated_bytes=10_000))

    chunks = drained(buffer)

    assert seen(chunks) == [(0, 4, [4])]
    assert refusals(chunks) == [(0, 3, "record.bomb")]


def test_damaged_batch_is_refused_from_where_we_are() -> None:
    buffer = filled([Damaged(0, 5, 1234), packed(6, [b"x"])], start=2)

    chunks = drained(buffer)

    assert seen(chunks) == [(2, 6, [6])]
    assert refusals(chunks) == [(2, 5, "record.corrupt")]


def test_batch_that_cannot_be_parsed_is_corrupt() -> None:
    whole = packed(0, [b"abc", b"def"])
    broken = RawRecordBatch.read(memoryview(bytes(whole.data[:61]) + b"\xff" * (len(whole.data) - 61)))

    chunks = drained(filled([broken]))

    assert seen(chunks) == [(0, 1, [])]
    assert refusals(chunks) == [(0, 1, "record.corrupt")]


def test_refusal_after_the_stop_is_left_for_later() -> None:
    (chunk,) = drained(filled([packed(0, [b"a"]), Damaged(1, 9, 0)]))

    assert refusals([chunk.until(1)]) == []
    assert refusals([chunk.until(5)]) == [(1, 4, "record.corrupt")]


@settings(deadline=None, max_examples=80)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    gaps=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    start=st.integers(0, 10),
    max_frames=st.integers(1, 12),
    batch_bytes=st.integers(1, 60),
)
def test_every_record_comes_once_in_order_under_any_caps(
    sizes: list[int], gaps: list[int], start: int, max_frames: int, batch_bytes: int
) -> None:
    items: list[FetchItem] = []
    offsets: list[int] = []
    position = 0
    for size, gap in zip(sizes, gaps, strict=False):
        items.append(packed(position, [b"value"] * size))
        offsets.extend(range(position, position + size))
        position += size + gap
        if gap:
            items.append(Gap(position - 1))

    chunks = drained(filled(items, start, Caps(max_frames=max_frames, batch_bytes=batch_bytes)))

    assert [offset for _, _, part in seen(chunks) for offset in part] == [o for o in offsets if o >= start]
    assert all(len(part) <= max_frames for _, _, part in seen(chunks))
    assert [c.first for c in chunks[1:]] == [c.last + 1 for c in chunks[:-1]]
