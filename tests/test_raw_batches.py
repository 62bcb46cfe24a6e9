from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Sequence

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from pipelines.kafka.columns import from_values, to_binary_array, to_raw_batch
from pipelines.kafka.inflate import GZIP, LZ4, SNAPPY, ZSTD, BombError, inflate
from pipelines.kafka.parse import parse_batches, parse_records
from pipelines.kafka.raw_batches import RawRecordBatch, from_client_records, is_current_format, split_record_set
from pipelines.kafka.runs import BatchHead
from pipelines.kafka.varints import CorruptError

Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
CODECS = (0, GZIP, LZ4, ZSTD)
MIB = 1 << 20


def build(records: Sequence[Record], codec: int = 0, base_offset: int = 0, offsets: Sequence[int] = ()) -> bytes:
    """A record batch as kafka-python's producer writes it; ``offsets`` are deltas, 0.. without."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for row, (timestamp, key, value, headers) in enumerate(records):
        builder.append(offsets[row] if offsets else row, timestamp, key, value, headers)
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def rows(columns) -> list[tuple]:
    """Columns as one tuple per record."""
    batch = to_raw_batch("t", 0, columns)
    headers = batch.headers or [[]] * len(batch)
    return list(
        zip(
            batch.offsets.tolist(),
            batch.timestamps.tolist(),
            batch.keys.to_pylist(),
            batch.values.to_pylist(),
            headers,
            strict=True,
        )
    )


def expected_rows(data: bytes) -> list[tuple]:
    """The same by kafka-python's own reader."""
    return [
        (r.offset, r.timestamp, r.key, r.value, [(name, value or b"") for name, value in r.headers])
        for r in DefaultRecordBatch(data)
    ]


def parsed_rows(data: bytes) -> list[tuple]:
    return rows(RawRecordBatch.read(memoryview(data)).parse(64 * MIB))


keys = st.one_of(st.none(), st.binary(max_size=70))
values = st.one_of(
    st.none(), st.binary(max_size=140), st.sampled_from([bytes(63), bytes(64), bytes(8191), bytes(8192)])
)
headers = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=5))), max_size=3)
timestamps = st.one_of(st.integers(0, 200), st.integers(-(1 << 40), 1 << 40))
records = st.tuples(timestamps, keys, values, headers)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.data_too_large])
@given(batch=st.lists(records, min_size=1, max_size=40), codec=st.sampled_from(CODECS), base=st.integers(0, 1 << 50))
def test_any_batch_reads_as_kafka_python_reads_it(batch: list[Record], codec: int, base: int) -> None:
    data = build(batch, codec, base)

    assert parsed_rows(data) == expected_rows(data)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 300),
    size=st.sampled_from([0, 1, 62, 63, 64, 65, 200, 8190]),
    key=st.sampled_from([None, b"", b"pump-7", bytes(64)]),
    step=st.sampled_from([0, 1, 7, 64, 8192, -3]),
    gap=st.integers(1, 70),
    codec=st.sampled_from(CODECS),
)
@example(count=300, size=64, key=None, step=1, gap=64, codec=0)
def test_frames_of_one_size_read_as_kafka_python_reads_them(
    count: int, size: int, key: bytes | None, step: int, gap: int, codec: int
) -> None:
    batch: list[Record] = [(1000 + step * row, key, bytes([row % 256]) * size, []) for row in range(count)]
    data = build(batch, codec, 5, [row * gap for row in range(count)])

    assert parsed_rows(data) == expected_rows(data)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([0, 40, 40, 40, 200]), min_size=1, max_size=6),
    counts=st.lists(st.integers(1, 80), min_size=6, max_size=6),
    key=st.sampled_from([None, b"", b"pump-7"]),
    steps=st.lists(st.integers(-3, 900), min_size=80, max_size=80),
    late=st.sampled_from([0, 0, 100]),
)
def test_batches_read_together_are_as_kafka_python_reads_each(
    sizes: list[int], counts: list[int], key: bytes | None, steps: list[int], late: int
) -> None:
    batches = []
    for place, (size, count) in enumerate(zip(sizes, counts, strict=False)):
        # A record out of order makes its delta wider or narrower than those around it.
        times = [1000 + sum(steps[:row]) - (late * 100 if row % 7 == 6 else 0) for row in range(count)]
        batches.append(build([(time, key, bytes([place]) * size, []) for time in times], base_offset=100 * place))

    lots = parse_batches([RawRecordBatch.read(memoryview(data)).unpack(MIB) for data in batches])

    assert [row for lot in lots for row in rows(lot)] == [row for data in batches for row in expected_rows(data)]


def test_regular_batches_become_one_lot() -> None:
    batches = [build([(row * 3, None, b"abcd", []) for row in range(count)]) for count in (1, 100, 3)]

    (lot,) = parse_batches([RawRecordBatch.read(memoryview(data)).unpack(MIB) for data in batches])

    assert rows(lot) == [(row, row * 3, None, b"abcd", []) for count in (1, 100, 3) for row in range(count)]


def test_corrupt_batch_costs_the_others_nothing() -> None:
    good = build([(0, None, b"a", []), (1, None, b"b", [])])
    headed = build([(5, None, b"c", [("h", b"x")])], base_offset=2)
    plain = from_client_records(DefaultRecordBatch(build([(9, None, b"d", [])], base_offset=3))).columns
    unpacked = [RawRecordBatch.read(memoryview(data)).unpack(MIB) for data in (good, headed)]

    lots = parse_batches([unpacked[0], (memoryview(b"\xff" * 70), BatchHead(2, 2, 0)), unpacked[1], plain])

    assert isinstance(lots[1], CorruptError)
    assert [rows(lot) for lot in lots if not isinstance(lot, CorruptError)] == [
        [(0, 0, None, b"a", []), (1, 1, None, b"b", [])],
        [(2, 5, None, b"c", [("h", b"x")])],
        [(3, 9, None, b"d", [])],
    ]


def test_no_batches_have_no_lots() -> None:
    assert parse_batches([]) == []


def test_long_run_crosses_every_width_of_the_deltas() -> None:
    batch: list[Record] = [(row * 3, None, b"abcd", []) for row in range(20_000)]

    found = rows(RawRecordBatch.read(memoryview(build(batch))).parse(MIB))

    assert found == [(row, row * 3, None, b"abcd", []) for row in range(20_000)]


def test_broker_time_replaces_the_producers() -> None:
    head = BatchHead(base_offset=3, count=2, first_timestamp=0, append_timestamp=777)
    data = build([(0, None, b"a", []), (9, None, b"b", [])])

    columns = parse_records(memoryview(data)[61:], head)

    assert columns.timestamps.tolist() == [777, 777]


def test_batch_emptied_by_compaction_has_no_records() -> None:
    columns = parse_records(memoryview(b""), BatchHead(0, 0, 0))

    assert rows(columns) == []


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_records_are_corrupt_or_still_records(data: st.DataObject) -> None:
    batch: list[Record] = [(1000, b"key", bytes(40), [("h", b"x")] if row % 3 else []) for row in range(6)]
    body = bytearray(build(batch)[61:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    try:
        columns = parse_records(memoryview(bytes(body)), BatchHead(0, 6, 1000))
    except CorruptError:
        return

    assert len(rows(columns)) == 6


LONGER = build([(0, None, b"x", [])])[61:] + b"\0"


@pytest.mark.parametrize(
    ("body", "count"),
    [(b"", 1), (bytes(6), 1), (bytes(70), 10), (b"\xff" * 70, 10), (LONGER, 1), (b"", -1)],
)
def test_bytes_that_are_no_records_are_corrupt(body: bytes, count: int) -> None:
    with pytest.raises(CorruptError):
        parse_records(memoryview(body), BatchHead(0, count, 0))


def test_raw_batch_owns_its_bytes() -> None:
    data = bytearray(build([(0, b"k", b"value", []) for _ in range(50)]))
    before = bytes(data)

    batch = to_raw_batch("t", 0, RawRecordBatch.read(memoryview(data)).parse(MIB))
    assert bytes(data) == before
    data[:] = bytes(len(data))

    assert batch.keys.to_pylist() == [b"k"] * 50
    assert batch.values.to_pylist() == [b"value"] * 50


def test_record_set_is_split_and_a_cut_batch_left_out() -> None:
    first, second = build([(0, None, b"a", [])]), build([(0, None, b"bb", [])], base_offset=1)

    found = [bytes(part) for part in split_record_set(memoryview(first + second + first[:-1]))]

    assert found == [first, second]
    assert is_current_format(memoryview(first))
    assert not is_current_format(memoryview(first[:20]))


def test_records_of_the_plain_client_become_the_same_columns() -> None:
    batch: list[Record] = [(5, b"k", b"v", [("h", None)]), (6, None, None, []), (7, b"", b"", [])]
    data = build(batch, base_offset=40)

    plain = rows(from_client_records(DefaultRecordBatch(data)).columns)

    assert plain == parsed_rows(data)


def test_nulls_and_empty_values_stay_apart() -> None:
    array = to_binary_array(from_values([None, b"", b"ab", None]))

    assert array.to_pylist() == [None, b"", b"ab", None]
    assert to_binary_array(from_values([None, None])).null_count == 2
    assert to_binary_array(from_values([])).to_pylist() == []


def xerial(data: bytes, block: int = 1000) -> bytes:
    """Snappy as Java's producers frame it."""
    blocks = [pa.compress(data[i : i + block], "snappy", asbytes=True) for i in range(0, len(data), block)]
    return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)


def streamed_zstd(data: bytes) -> bytes:
    """zstd as a producer writes it that does not know the size beforehand."""
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


PACKERS = {
    "gzip": (GZIP, gzip.compress),
    "snappy": (SNAPPY, lambda data: pa.compress(data, "snappy", asbytes=True)),
    "snappy-java": (SNAPPY, xerial),
    "lz4": (LZ4, lz4.frame.compress),
    "zstd": (ZSTD, zstandard.compress),
    "zstd-stream": (ZSTD, streamed_zstd),
}


@pytest.mark.parametrize("name", PACKERS)
def test_data_within_the_cap_inflates(name: str) -> None:
    codec, pack = PACKERS[name]
    data = bytes(range(256)) * 40

    assert bytes(inflate(codec, memoryview(pack(data)), len(data))) == data


@pytest.mark.parametrize("name", PACKERS)
def test_data_beyond_the_cap_is_a_bomb(name: str) -> None:
    codec, pack = PACKERS[name]
    bomb = pack(bytes(4 * MIB))

    with pytest.raises(BombError):
        inflate(codec, memoryview(bomb), 4 * MIB - 1)


# A zstd stream that is cut just ends; the records then do not add up to what the head says.
DAMAGES = [
    (name, damage) for name in PACKERS for damage in ("cut", "noise") if (name, damage) != ("zstd-stream", "cut")
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damaged_data_is_refused(name: str, damage: str) -> None:
    codec, pack = PACKERS[name]
    packed = pack(bytes(range(256)) * 40)
    damaged = packed[: len(packed) // 2] if damage == "cut" else b"\x00\x01\x02\x03" * 20

    with pytest.raises(ValueError, match="compressed records: expected"):
        inflate(codec, memoryview(damaged), MIB)


def test_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match=r"codec: expected 0\.\.4\. Received: codec=7"):
        inflate(7, memoryview(b"x"), 10)


def test_bomb_costs_no_more_memory_than_its_cap() -> None:
    # Written without ever holding what it inflates to.
    writer = zlib.compressobj(1, zlib.DEFLATED, 31)
    bomb = b"".join([*(writer.compress(bytes(MIB)) for _ in range(256)), writer.flush()])
    tracemalloc.start()

    with pytest.raises(BombError):
        inflate(GZIP, memoryview(bomb), 16 * MIB)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 * MIB
