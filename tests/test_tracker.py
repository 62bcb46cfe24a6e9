from __future__ import annotations

import pytest
from apache_beam.coders import TimestampCoder, registry
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pipelines.kafka.source import ReadFrames
from pipelines.kafka.tracker import (
    END,
    KafkaShard,
    KafkaShardCoder,
    OffsetSpan,
    OffsetSpanCoder,
    OffsetSpanTracker,
    beam_timestamp,
)

# These bytes are in savepoints: a change here is a change that no running job survives.
SHARD_BYTES = [
    (KafkaShard("plant.pump.frames.v1", 7), "0100000007" + b"plant.pump.frames.v1".hex()),
    (KafkaShard("ü", 0), "0100000000c3bc"),
    (KafkaShard("ü", 258, salt=7), "02000001020007c3bc"),
]
SPAN_BYTES = [
    (OffsetSpan(0), "010000000000000000ffffffffffffffff"),
    (OffsetSpan(258, 1 << 40), "0100000000000001020000010000000000"),
]


@pytest.mark.parametrize(("shard", "expected"), SHARD_BYTES)
def test_shard_keeps_its_bytes(shard: KafkaShard, expected: str) -> None:
    encoded = KafkaShardCoder().encode(shard)

    assert encoded.hex() == expected
    assert KafkaShardCoder().decode(encoded) == shard


@pytest.mark.parametrize(("span", "expected"), SPAN_BYTES)
def test_span_keeps_its_bytes(span: OffsetSpan, expected: str) -> None:
    encoded = OffsetSpanCoder().encode(span)

    assert encoded.hex() == expected
    assert OffsetSpanCoder().decode(encoded) == span


def test_state_of_another_release_is_refused() -> None:
    for coder, encoded in [(KafkaShardCoder(), SHARD_BYTES[0][1]), (OffsetSpanCoder(), SPAN_BYTES[0][1])]:
        foreign = bytes.fromhex("09" + encoded[2:])

        with pytest.raises(ValueError, match=r"expected version 1\. Received: 9"):
            coder.decode(foreign)


def test_beam_finds_the_coders_and_never_pickles() -> None:
    assert [type(registry.get_coder(kind)) for kind in (KafkaShard, OffsetSpan)] == [KafkaShardCoder, OffsetSpanCoder]
    assert all(coder.is_deterministic() for coder in (KafkaShardCoder(), OffsetSpanCoder(), TimestampCoder()))
    assert ReadFrames.__module__ == "pipelines.kafka.source"


def test_claims_move_forward_up_to_the_stop() -> None:
    tracker = OffsetSpanTracker(OffsetSpan(10, 20))

    claims = [tracker.try_claim(offset) for offset in (12, 13, 19, 20, 99)]

    assert claims == [True, True, True, False, False]
    assert tracker.check_done()


def test_claim_of_an_offset_that_was_claimed_is_an_error() -> None:
    tracker = OffsetSpanTracker(OffsetSpan(10))
    tracker.try_claim(15)

    with pytest.raises(ValueError, match=r"expected an offset from 16\. Received: 15"):
        tracker.try_claim(15)


def test_split_gives_away_what_is_unclaimed_and_only_that() -> None:
    tracker = OffsetSpanTracker(OffsetSpan(10))
    tracker.try_claim(15)

    assert [tracker.try_split(fraction) for fraction in (0.1, 0.5, 1.0)] == [None, None, None]
    assert tracker.try_split(0) == (OffsetSpan(10, 16), OffsetSpan(16))
    assert tracker.check_done()
    assert tracker.try_claim(16) is False
    assert tracker.try_split(0) is None


def test_end_gives_up_the_rest() -> None:
    tracker = OffsetSpanTracker(OffsetSpan(10))
    tracker.try_claim(15)

    assert tracker.try_claim(END)
    assert tracker.check_done()
    assert tracker.current_restriction() == OffsetSpan(10, 16)
    assert tracker.try_split(0) is None


def test_unclaimed_rest_is_not_done() -> None:
    for span in (OffsetSpan(10, 20), OffsetSpan(10)):
        tracker = OffsetSpanTracker(span)
        tracker.try_claim(15)

        with pytest.raises(ValueError, match="next=16"):
            tracker.check_done()


def test_empty_span_is_done_at_once() -> None:
    tracker = OffsetSpanTracker(OffsetSpan(5, 5))

    assert tracker.check_done()
    assert OffsetSpan(5, 5).is_done


def test_only_a_stop_bounds_a_span() -> None:
    assert [OffsetSpanTracker(span).is_bounded() for span in (OffsetSpan(0), OffsetSpan(0, 1))] == [False, True]


def test_progress_counts_offsets() -> None:
    bounded, unbounded = OffsetSpanTracker(OffsetSpan(10, 20)), OffsetSpanTracker(OffsetSpan(10), highwater=40)
    for tracker in (bounded, unbounded):
        tracker.try_claim(12)

    progress = [tracker.current_progress() for tracker in (bounded, unbounded)]

    assert [(p.completed_work, p.remaining_work) for p in progress] == [(3.0, 7.0), (3.0, 27.0)]


def test_time_that_beam_cannot_hold_becomes_the_nearest() -> None:
    found = [beam_timestamp(ms) for ms in (1500, -1, -(1 << 62), 1 << 62)]

    assert found == [Timestamp(1.5), Timestamp(-0.001), MIN_TIMESTAMP, MAX_TIMESTAMP]


@given(
    start=st.integers(0, 50),
    length=st.integers(0, 60),
    steps=st.lists(st.one_of(st.integers(1, 9), st.just("split")), max_size=40),
)
def test_every_offset_is_claimed_once_over_any_checkpoints(start: int, length: int, steps: list[int | str]) -> None:
    stop = start + length
    tracker = OffsetSpanTracker(OffsetSpan(start, stop))
    claimed: list[int] = []

    position = start
    for step in [*steps, *[1] * length]:
        if step == "split":
            parts = tracker.try_split(0)
            if parts is not None:
                assert tracker.check_done()
                tracker = OffsetSpanTracker(parts[1])
            continue
        last = min(position + int(step), stop) - 1
        if last >= position and tracker.try_claim(last):
            claimed.extend(range(position, last + 1))
            position = last + 1

    assert claimed == list(range(start, stop))
    assert tracker.check_done()
