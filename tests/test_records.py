"""Output records are read back as they were written, by us and by anyone who reads Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_batches import COHORT, OWN, START_MS, TOPIC, make_inferred, score_by

from ae_model.exceptions import RecordError
from pipelines.frame_batch import InferredBatch, Scorer
from pipelines.records import (
    CodeRows,
    encode_codes,
    encode_denoised,
    event_time,
    read_codes,
)
from pipelines.tables import CODE_SCHEMA, SCORE_SCHEMA, code_table, score_table


def read_all(batch: InferredBatch, per: str) -> list[CodeRows]:
    records = encode_codes(batch, per)  # type: ignore[arg-type]
    return [
        read_codes(record.value, record.headers, key=record.key, timestamp_ms=record.timestamp_ms or -1)
        for record in records
    ]


def test_a_batch_is_one_arrow_stream_that_anyone_can_read() -> None:
    [record] = encode_codes(make_inferred([5, 6, 9], version=7))

    table = pa.ipc.open_stream(record.value).read_all()
    assert table.schema.remove_metadata() == pa.schema(
        [
            ("offset", pa.int64()),
            ("timestamp", pa.timestamp("ms", "UTC")),
            ("key", pa.binary()),
            ("code", pa.list_(pa.float32(), 2)),
        ]
    )
    assert table.schema.metadata == {
        b"topic": TOPIC.encode(),
        b"partition": b"3",
        b"model": b"pumps",
        b"version": b"7",
        b"layer": b"global",
    }
    assert table.column("offset").to_pylist() == [5, 6, 9]
    assert table.column("key").to_pylist() == [b"pump-5", b"pump-6", b"pump-9"]
    assert table.column("code").to_pylist() == [[5.0, 5.0], [6.0, 6.0], [9.0, 9.0]]
    assert table.column("timestamp").to_pylist()[0] == datetime(2026, 11, 21, 4, 0, 5, tzinfo=timezone.utc)


def test_a_batch_carries_its_lineage_in_headers_and_keeps_its_partition() -> None:
    [record] = encode_codes(make_inferred([5, 6, 9], version=7))

    assert record.headers == [
        ("ls-topic", TOPIC.encode()),
        ("ls-partition", b"3"),
        ("ls-first-offset", b"5"),
        ("ls-last-offset", b"9"),
        ("ls-frames", b"3"),
        ("ls-model", b"pumps"),
        ("ls-version", b"7"),
        ("ls-layer", b"global"),
        ("content-type", b"application/vnd.apache.arrow.stream"),
    ]
    assert (record.key, record.partition, record.timestamp_ms) == (None, 3, START_MS + 9000)


def test_a_batch_by_several_models_is_a_stream_for_each_that_says_which() -> None:
    batch = score_by(make_inferred([5, 6, 8, 9]), [OWN, COHORT], [1, 0, 1, 0])

    records = encode_codes(batch)

    parts = [read_codes(record.value, record.headers) for record in records]
    assert [(part.model, part.version, part.layer, part.offsets.tolist()) for part in parts] == [
        ("pumps.cohort.hall", 2, "cohort", [5, 8]),
        ("pumps.own.pump-7", 3, "own", [6, 9]),
    ]
    assert [part.codes.tolist() for part in parts] == [[[5, 5], [8, 8]], [[6, 6], [9, 9]]]
    assert [part.keys.to_pylist() for part in parts] == [[b"pump-5", b"pump-8"], [b"pump-6", b"pump-9"]]
    assert [dict(record.headers)["ls-first-offset"] for record in records] == [b"5", b"6"]
    assert [dict(record.headers)["ls-last-offset"] for record in records] == [b"8", b"9"]
    assert [dict(record.headers)["ls-frames"] for record in records] == [b"2", b"2"]
    assert [record.timestamp_ms for record in records] == [START_MS + 8000, START_MS + 9000]


def test_per_frame_the_order_holds_across_models() -> None:
    batch = score_by(make_inferred([5, 6, 8]), [OWN, COHORT], [1, 0, 1])

    parts = read_all(batch, "frame")

    assert [(part.offsets.tolist(), part.layer) for part in parts] == [([5], "cohort"), ([6], "own"), ([8], "cohort")]


def test_per_frame_each_record_has_the_frames_key_and_bare_floats() -> None:
    records = encode_codes(make_inferred([5, 6]), "frame")

    assert [record.key for record in records] == [b"pump-5", b"pump-6"]
    assert [record.value for record in records] == [
        np.array([5, 5], "<f4").tobytes(),
        np.array([6, 6], "<f4").tobytes(),
    ]
    assert [dict(record.headers)["ls-first-offset"] for record in records] == [b"5", b"6"]
    assert [dict(record.headers)["ls-last-offset"] for record in records] == [b"5", b"6"]
    assert [record.timestamp_ms for record in records] == [START_MS + 5000, START_MS + 6000]
    assert [record.partition for record in records] == [3, 3]


def test_denoised_frames_are_flat_and_in_their_own_units() -> None:
    [record] = encode_denoised(make_inferred([5], shape=(2, 2)))

    table = pa.ipc.open_stream(record.value).read_all()
    assert table.schema.field("frame").type == pa.list_(pa.float32(), 4)
    assert table.column("frame").to_pylist() == [[4.5, 4.5, 4.5, 4.5]]


@pytest.mark.parametrize("encode", [encode_codes, encode_denoised])
@pytest.mark.parametrize("per", ["batch", "frame"])
def test_an_empty_batch_writes_nothing(encode: object, per: str) -> None:
    assert encode(make_inferred([]), per) == []  # type: ignore[operator]


@given(
    st.lists(st.integers(0, 2**24), unique=True, min_size=1, max_size=8).map(sorted),
    st.sampled_from(["batch", "frame"]),
    st.integers(1, 2**31 - 1),
)
def test_codes_come_back_as_they_went(offsets: list[int], per: str, version: int) -> None:
    batch = make_inferred(offsets, version=version)

    rows = CodeRows.join(read_all(batch, per))

    assert (rows.topic, rows.partition, rows.model, rows.version) == (TOPIC, 3, "pumps", version)
    assert rows.offsets.tolist() == offsets
    assert rows.timestamps.tolist() == batch.records.timestamps.tolist()
    assert rows.keys.to_pylist() == batch.records.keys.to_pylist()
    assert rows.codes.tolist() == batch.codes.tolist()


def whole_steps(offsets: Sequence[int], latent: int = 2) -> InferredBatch:
    """The same batches with codes of int8: the offset, and below it its negative."""
    codes = np.array([[offset, -offset] * (latent // 2) for offset in offsets], np.int8)
    return replace(make_inferred(offsets), codes=codes)


def test_codes_of_int8_take_one_byte_each_on_the_wire() -> None:
    batch = whole_steps([5, 6])

    [together] = encode_codes(batch)
    alone = encode_codes(batch, "frame")

    assert pa.ipc.open_stream(together.value).read_all().schema.field("code").type == pa.list_(pa.int8(), 2)
    assert [record.value for record in alone] == [b"\x05\xfb", b"\x06\xfa"]
    assert [dict(record.headers)["content-type"] for record in alone] == [b"application/vnd.latentstream.int8"] * 2


@pytest.mark.parametrize("per", ["batch", "frame"])
def test_codes_of_int8_come_back_as_they_went(per: str) -> None:
    rows = CodeRows.join(read_all(whole_steps([5, 6, 127]), per))

    assert rows.codes.dtype == np.int8
    assert rows.codes.tolist() == [[5, -5], [6, -6], [127, -127]]


def test_a_table_holds_codes_of_int8_as_floats_and_parquet_still_writes_one_byte_each(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    batch = replace(make_inferred(range(5000)), codes=random.integers(-127, 128, (5000, 32), np.int8))

    table = code_table(batch)
    pq.write_table(table.select(["code"]), tmp_path / "codes.parquet", compression="zstd")

    assert table.schema == CODE_SCHEMA
    assert table.column("code").to_pylist()[7] == batch.codes[7].tolist()
    # Random steps cannot be compressed: 160,000 bytes, and the lists' lengths and the dictionary besides.
    assert 160_000 <= (tmp_path / "codes.parquet").stat().st_size < 1.05 * 160_000


def test_a_batch_too_large_for_a_record_is_cut_in_order() -> None:
    batch = make_inferred(range(40), latent=16_384)

    parts = read_all(batch, "batch")

    assert [record.value is not None and len(record.value) < 1_000_000 for record in encode_codes(batch)] == [True] * 4
    assert CodeRows.join(parts).offsets.tolist() == list(range(40))
    assert [part.offsets[0] for part in parts] == [0, 10, 20, 30]


def test_a_frame_without_a_timestamp_writes_none() -> None:
    batch = make_inferred([5])
    records = replace(batch.records, timestamps=np.array([-1]))
    timeless = replace(batch, batch=replace(batch.batch, records=records))

    assert [record.timestamp_ms for record in encode_codes(timeless)] == [None]
    assert [record.timestamp_ms for record in encode_codes(timeless, "frame")] == [None]


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, []),
        (b"", []),
        (b"not arrow at all", []),
        (b"\x00\x00\x80?", [("content-type", b"application/vnd.latentstream.float32-le")]),
        (b"\x00\x00\x80", [("content-type", b"application/vnd.latentstream.float32-le"), ("ls-topic", b"t")]),
        (encode_denoised(make_inferred([1]))[0].value, []),
    ],
)
def test_what_holds_no_codes_is_refused(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(RecordError, match="expected"):
        read_codes(value, headers)


def test_score_table_has_the_promised_columns() -> None:
    table = score_table(make_inferred([5, 6], scores=[0.5, 1.0]))

    assert SCORE_SCHEMA.names == (
        [
            "topic",
            "partition",
            "offset",
            "timestamp",
            "key",
            "model",
            "version",
            "layer",
            "error",
            "latent_distance",
            "score",
            "threshold",
            "alert",
            "missing",
        ]
    )
    assert table.drop_columns(["timestamp"]).to_pylist() == [
        {
            "topic": TOPIC,
            "partition": 3,
            "offset": 5,
            "key": b"pump-5",
            "model": "pumps",
            "version": 1,
            "layer": "global",
            "error": 5.0,
            "latent_distance": 10.0,
            "score": 0.5,
            "threshold": 1.0,
            "alert": False,
            "missing": 0.0,
        },
        {
            "topic": TOPIC,
            "partition": 3,
            "offset": 6,
            "key": b"pump-6",
            "model": "pumps",
            "version": 1,
            "layer": "global",
            "error": 6.0,
            "latent_distance": 12.0,
            "score": 1.0,
            "threshold": 1.0,
            "alert": True,
            "missing": 0.0,
        },
    ]


def test_tables_say_row_by_row_what_scored_them() -> None:
    batch = score_by(make_inferred([5, 6, 8], scores=[1.0, 1.0, 2.0]), [OWN, COHORT], [0, 1, 1])

    scores, codes = score_table(batch).to_pydict(), code_table(batch).to_pydict()

    assert scores["model"] == codes["model"] == ["pumps.own.pump-7", "pumps.cohort.hall", "pumps.cohort.hall"]
    assert scores["version"] == codes["version"] == [3, 2, 2]
    assert scores["layer"] == codes["layer"] == ["own", "cohort", "cohort"]
    assert scores["threshold"] == [0.5, 2.0, 2.0]
    assert scores["alert"] == [True, False, True]


def test_a_score_on_the_threshold_says_the_same_in_every_column() -> None:
    # 0.7 is not a float32: read as float64, score and threshold would disagree.
    batch = replace(make_inferred([5], scores=[0.7]), scorers=(Scorer("pumps", 1, "global", 0.7),))

    [row] = score_table(batch).to_pylist()

    assert row["alert"] == (row["score"] >= row["threshold"]) == True  # noqa: E712


def test_code_table_has_a_list_of_floats_per_row() -> None:
    table = code_table(make_inferred([5, 6], latent=3))

    assert table.schema == CODE_SCHEMA
    assert table.column("code").to_pylist() == [[5.0, 5.0, 5.0], [6.0, 6.0, 6.0]]


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        (START_MS, datetime(2026, 11, 21, 4, tzinfo=timezone.utc)),
        (-2, datetime(1969, 12, 31, 23, 59, 59, 998000, tzinfo=timezone.utc)),
        (-1, None),
        (2**62, None),
        (-(2**62), None),
    ],
)
def test_event_time_is_none_where_there_is_none(timestamp_ms: int, expected: datetime | None) -> None:
    assert event_time(timestamp_ms) == expected
