"""A dead letter keeps the record's own bytes, and all that is known of its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_batches import START_MS, TOPIC, make_raw

from ae_model.exceptions import DeadLetterBreakerError, FrameError, RecordError
from pipelines.dead_letters import CODES, Breaker, DeadLetter
from pipelines.records import OutputRecord

HEADERS = [("trace", b"\x00\xff"), ("trace", b"2")]


def make_letter(**changes: object) -> DeadLetter:
    raw = make_raw([b"\x00\xffbytes"], first=18446, headers=(HEADERS,))
    letter = DeadLetter.of(raw, 0, FrameError("frame.size", "frame: expected 16 bytes. Received: 7 bytes."), "decode")
    return replace(letter, pipeline="pumps", **changes)  # type: ignore[arg-type]


def test_the_record_is_the_original_with_the_fault_in_headers() -> None:
    record = make_letter().to_record()

    assert (record.key, record.value) == (b"pump-1", b"\x00\xffbytes")
    assert (record.partition, record.timestamp_ms) == (3, START_MS + 18446 * 1000)
    assert record.headers == [
        ("trace", b"\x00\xff"),
        ("trace", b"2"),
        ("__dlq.errors.topic", TOPIC.encode()),
        ("__dlq.errors.partition", b"3"),
        ("__dlq.errors.offset", b"18446"),
        ("__dlq.errors.timestamp", str(START_MS + 18446 * 1000).encode()),
        ("__dlq.errors.stage", b"decode"),
        ("__dlq.errors.code", b"frame.size"),
        ("__dlq.errors.exception.class.name", b"FrameError"),
        ("__dlq.errors.exception.message", b"frame: expected 16 bytes. Received: 7 bytes."),
        ("__dlq.errors.pipeline", b"pumps"),
        ("__dlq.errors.attempt", b"1"),
    ]


@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3),
    st.sampled_from(sorted(CODES)),
    st.text(max_size=2000),
    st.integers(-1, 2**62),
)
def test_a_letter_survives_the_topic(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], code: str, message: str, timestamp: int
) -> None:
    letter = make_letter(key=key, value=value, headers=headers, code=code, message=message, timestamp=timestamp)

    again = DeadLetter.from_record(letter.to_record())

    assert again == letter
    assert len(letter.message.encode()) <= 1024


def test_a_letter_by_reference_carries_no_payload_and_says_so() -> None:
    letter = make_letter(value=None, by_reference=True, code="record.too_large")

    record = letter.to_record()

    assert record.value is None
    assert ("__dlq.errors.payload", b"reference") in record.headers
    assert DeadLetter.from_record(record) == letter


def test_a_tombstone_is_not_a_reference() -> None:
    record = make_letter(value=None).to_record()

    assert "__dlq.errors.payload" not in dict(record.headers)


def test_a_letter_without_key_and_value_is_sent_as_empty_and_read_back_as_null() -> None:
    letter = make_letter(key=None, value=None)

    record = letter.to_record()

    assert record.value == b""
    assert ("__dlq.errors.payload", b"null") in record.headers
    assert DeadLetter.from_record(record) == letter


def test_a_retry_is_the_original_record_and_counts_the_next_attempt() -> None:
    retried = make_letter().retry()

    raw = make_raw([retried.value], headers=(retried.headers,))
    again = DeadLetter.of(raw, 0, RecordError("schema.unknown", "no"), "decode")
    assert (retried.key, retried.value) == (b"pump-1", b"\x00\xffbytes")
    assert retried.headers == [*HEADERS, ("__dlq.errors.attempt", b"1")]
    assert again.attempt == 2
    assert [header for header in again.to_record().headers if "attempt" in header[0]] == [
        ("__dlq.errors.attempt", b"2")
    ]


@pytest.mark.parametrize("forged", [b"", b"-3", b"many", b"\xff"])
def test_an_attempt_that_is_no_number_counts_for_nothing(forged: bytes) -> None:
    raw = make_raw([b"x"], headers=([("__dlq.errors.attempt", forged)],))

    assert DeadLetter.of(raw, 0, RecordError("schema.unknown", "no"), "decode").attempt == 1


def test_a_reference_cannot_be_retried() -> None:
    with pytest.raises(RecordError, match=r"@18446: expected its value\. Received: a reference"):
        make_letter(by_reference=True).retry()


@pytest.mark.parametrize("name", ["topic", "offset", "code", "attempt", "exception.message"])
def test_a_record_without_the_headers_is_no_dead_letter(name: str) -> None:
    record = make_letter().to_record()
    headers = [header for header in record.headers if header[0] != f"__dlq.errors.{name}"]

    with pytest.raises(RecordError, match=r"expected headers __dlq\.errors"):
        DeadLetter.from_record(replace(record, headers=headers))


def test_a_record_of_the_input_is_no_dead_letter() -> None:
    with pytest.raises(RecordError, match="dead letter"):
        DeadLetter.from_record(OutputRecord(b"k", b"v", [("trace", b"1")]))


def test_a_code_outside_the_closed_set_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match=r"code=.frame\.sise"):
        make_letter(code="frame.sise")


def test_a_long_message_is_cut_between_characters() -> None:
    letter = make_letter(message="é" * 1000)

    assert letter.message == "é" * 512


def test_a_message_that_is_no_unicode_still_goes_out() -> None:
    assert make_letter(message="field \ud800").message == "field ?"


def test_breaker_stays_closed_at_the_share_and_opens_above_it() -> None:
    breaker = Breaker(share=0.5, records=10)

    breaker.observe(10, 5)
    with pytest.raises(DeadLetterBreakerError, match=r"at most 50% of the last 11 records\. Received: dead=6"):
        breaker.observe(1, 1)


def test_breaker_judges_nothing_before_it_has_seen_enough() -> None:
    breaker = Breaker(share=0.1, records=100)

    for _ in range(99):
        breaker.observe(1, 1)

    with pytest.raises(DeadLetterBreakerError):
        breaker.observe(1, 1)


def test_breaker_forgets_old_records_so_a_late_fault_still_opens_it() -> None:
    breaker = Breaker(share=0.5, records=10)
    for _ in range(1000):
        breaker.observe(5, 0)

    breaker.observe(5, 5)

    with pytest.raises(DeadLetterBreakerError):
        breaker.observe(5, 5)


def test_breaker_forgets_old_faults_too() -> None:
    breaker = Breaker(share=0.5, records=10)
    breaker.observe(4, 4)
    breaker.observe(6, 1)

    for _ in range(100):
        breaker.observe(5, 2)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda p: (p[0], min(p))), max_size=40))
def test_breaker_agrees_with_counting_the_tail(batches: list[tuple[int, int]]) -> None:
    breaker, seen = Breaker(share=0.4, records=30), []

    for read, dead in batches:
        seen.append((read, dead))
        tail = [seen[-n:] for n in range(1, len(seen) + 1) if sum(r for r, _ in seen[-n:]) >= 30][:1]
        opens = any(sum(d for _, d in part) > 0.4 * sum(r for r, _ in part) for part in tail)
        if opens:
            with pytest.raises(DeadLetterBreakerError):
                breaker.observe(read, dead)
            return
        breaker.observe(read, dead)
