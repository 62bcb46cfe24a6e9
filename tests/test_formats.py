"""Every record becomes a frame or a dead letter, in order, whatever its bytes are."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_batches import TOPIC, make_raw

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from pipelines.formats import Decoded, make_decoder

TWO_BY_TWO = FrameContract(length=2, hop=2, channels=("flow", "level"))
ONE_SAMPLE = FrameContract(length=1, hop=1, channels=("flow", "level"))
FRAME = [[1.0, 2.0], [3.0, 4.0]]


def raw_value(*samples: float, dtype: str = "<f4") -> bytes:
    return np.array(samples, dtype).tobytes()


def arrow_value(columns: dict[str, Any], **options: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def example_value(values: list[float] | None, name: str = "frame", kind: str = "float") -> bytes:
    """A tf.Example by hand: one feature, packed as protocol buffers have it."""
    if values is None:
        return b""
    packed = np.array(values, "<f4").tobytes() if kind == "float" else bytes(int(value) for value in values)
    feature = field(2 if kind == "float" else 3, field(1, packed))
    return field(1, field(1, field(1, name.encode()) + field(2, feature)))


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def codes(decoded: Decoded) -> list[tuple[int, str]]:
    return [(letter.offset, letter.code) for letter in decoded.bad]


GOOD = {
    "raw": raw_value(1, 2, 3, 4),
    "json": json.dumps({"frame": FRAME}).encode(),
    "tf_example": example_value([1, 2, 3, 4]),
    "arrow": arrow_value({"frame": [[1.0, 2.0, 3.0, 4.0]]}),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_record_among_bad_ones_survives_in_every_format(name: str) -> None:
    good = GOOD[name]
    raw = make_raw([b"\xff\xfe\x00", good, None, good, b"", b"[" * 5000, good[:-3], good], first=10)

    decoded = make_decoder(name, TWO_BY_TWO).decode(raw)

    assert decoded.good.records.offsets.tolist() == [11, 13, 17]
    assert decoded.good.frames.tolist() == [FRAME, FRAME, FRAME]
    assert [offset for offset, _ in codes(decoded)] == [10, 12, 14, 15, 16]
    assert [letter.value for letter in decoded.bad] == [b"\xff\xfe\x00", None, b"", b"[" * 5000, good[:-3]]
    assert codes(decoded)[1:3] == [(12, "frame.empty"), (14, "frame.empty")]


@pytest.mark.parametrize("name", GOOD)
def test_no_records_give_no_frames_of_the_right_shape(name: str) -> None:
    decoded = make_decoder(name, TWO_BY_TWO).decode(make_raw([]))

    assert decoded.good.frames.shape == (0, 2, 2)
    assert decoded.bad == []


@pytest.mark.parametrize("name", GOOD)
def test_decoder_survives_pickling_after_use(name: str) -> None:
    decoder = make_decoder(name, TWO_BY_TWO)
    decoder.decode(make_raw([GOOD[name]]))

    again = pickle.loads(pickle.dumps(decoder))

    assert again.decode(make_raw([GOOD[name]])).good.frames.tolist() == [FRAME]


@pytest.mark.parametrize("name", GOOD)
@given(values=st.lists(st.none() | st.binary(max_size=60) | st.just("good"), max_size=9))
def test_every_record_is_on_one_side_and_in_order(name: str, values: list[Any]) -> None:
    raw = make_raw([GOOD[name] if value == "good" else value for value in values], first=7)

    decoded = make_decoder(name, TWO_BY_TWO).decode(raw)

    good, bad = decoded.good.records.offsets.tolist(), [letter.offset for letter in decoded.bad]
    assert good == sorted(good)
    assert bad == sorted(bad)
    assert sorted(good + bad) == raw.offsets.tolist()
    assert {7 + place for place, value in enumerate(values) if value == "good"} <= set(good)
    assert np.isfinite(decoded.good.frames).all()


def test_raw_frames_are_the_bytes_that_came_without_a_copy() -> None:
    raw = make_raw([raw_value(*range(place, place + 4)) for place in range(5)])

    frames = make_decoder("raw", TWO_BY_TWO).decode(raw).good.frames

    assert np.shares_memory(frames, np.frombuffer(raw.values.buffers()[2], np.uint8))
    assert frames[:, 0, 0].tolist() == [0, 1, 2, 3, 4]


@given(st.integers(0, 6), st.integers(0, 6), st.binary(max_size=7))
def test_raw_reads_the_right_bytes_of_a_sliced_and_shifted_array(start: int, count: int, prefix: bytes) -> None:
    values = [prefix, *(raw_value(place, 0, 0, 0) for place in range(12))]
    raw = make_raw(values).slice(1 + start, 1 + start + count)

    frames = make_decoder("raw", TWO_BY_TWO).decode(raw).good.frames

    assert frames[:, 0, 0].tolist() == list(range(start, start + count))
    assert frames.flags.aligned


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_raw_takes_each_dtype_little_endian(dtype: str) -> None:
    raw = make_raw([np.array([1, -2, 3, 4], np.dtype(dtype).newbyteorder("<")).tobytes()])

    decoded = make_decoder("raw", TWO_BY_TWO, dtype=dtype).decode(raw)

    assert decoded.good.frames.tolist() == [[[1.0, -2.0], [3.0, 4.0]]]
    assert decoded.good.frames.dtype == np.float32


def test_float64_beyond_float32_is_refused_and_not_made_infinite() -> None:
    raw = make_raw([raw_value(1, 2, 3, 1e300, dtype="<f8"), raw_value(1, 2, 3, 4, dtype="<f8")])

    decoded = make_decoder("raw", TWO_BY_TWO, dtype="float64").decode(raw)

    assert codes(decoded) == [(0, "frame.nonfinite")]
    assert decoded.good.records.offsets.tolist() == [1]


def test_pcm16_is_scaled_to_one() -> None:
    raw = make_raw([np.array([-32768, 0, 16384, 32767], "<i2").tobytes()])

    frames = make_decoder("pcm16", TWO_BY_TWO).decode(raw).good.frames

    assert frames.ravel().tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


def test_wrong_size_says_what_was_expected() -> None:
    decoded = make_decoder("raw", TWO_BY_TWO).decode(make_raw([raw_value(1, 2, 3)], first=5))

    [letter] = decoded.bad
    assert (letter.topic, letter.partition, letter.offset, letter.stage) == (TOPIC, 3, 5, "decode")
    assert letter.code == "frame.size"
    assert letter.message == "frame: expected 16 bytes (2 samples x 2 channels of float32). Received: 12 bytes."


def test_with_one_sample_a_wrong_size_is_a_wrong_number_of_channels() -> None:
    decoded = make_decoder("raw", ONE_SAMPLE).decode(make_raw([raw_value(1, 2, 3), raw_value(1, 2)[:-1]]))

    assert codes(decoded) == [(0, "frame.channels"), (1, "frame.size")]


def test_values_that_are_no_numbers_or_too_large_are_counted() -> None:
    values = [raw_value(np.nan, 1, np.inf, 1), raw_value(1, 1, 1, -1e16), raw_value(1e-42, 1, 1, 1)]

    decoded = make_decoder("raw", TWO_BY_TWO).decode(make_raw(values))

    assert [(letter.code, letter.message) for letter in decoded.bad] == [
        (
            "frame.nonfinite",
            "frame: expected finite samples of moderate size. Received: 2 NaN or infinite of 4.",
        ),
        (
            "frame.nonfinite",
            "frame: expected finite samples of moderate size. Received: a magnitude of 1e+16.",
        ),
    ]
    assert decoded.good.records.offsets.tolist() == [2]


@pytest.mark.parametrize(
    "document",
    [
        {"frame": FRAME},
        {"frame": [1, 2, 3, 4], "site": "north"},
        FRAME,
        [1.0, 2.0, 3.0, 4.0],
    ],
)
def test_json_takes_nested_and_flat_frames_with_or_without_a_field(document: Any) -> None:
    decoded = make_decoder("json", TWO_BY_TWO).decode(make_raw([json.dumps(document).encode()]))

    assert decoded.good.frames.tolist() == [FRAME]


def test_json_takes_channels_by_name_in_any_order() -> None:
    raw = make_raw([b'{"level": 2, "note": "x", "flow": 1.5}'])

    assert make_decoder("json", ONE_SAMPLE).decode(raw).good.frames.tolist() == [[[1.5, 2.0]]]


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (
            b'{"frame": [[1, 2], [3, "4"]]}',
            "frame.dtype",
            "sample 1, channel level: expected a number. Received: string",
        ),
        (b'{"frame": [[1, 2], [3, null]]}', "frame.dtype", "Received: null"),
        (b'{"frame": [[1, 2], [true, 4]]}', "frame.dtype", "Received: boolean"),
        (b'{"frame": [[1, 2], 3]}', "frame.dtype", "frame[1]: expected an array. Received: number"),
        (b'{"frame": "abcd"}', "frame.dtype", "Received: string"),
        (b'"abcd"', "frame.dtype", "Received: string"),
        (b'{"frame": [[1, 2], [3]]}', "frame.channels", "frame[1]: expected 2 channels. Received: 1"),
        (b'{"frame": [[1, 2]]}', "frame.size", "Received: 2"),
        (b'{"frame": []}', "frame.size", "Received: 0"),
        (b'{"other": 1}', "schema.incompatible", "expected a field 'frame'. Received: ['other']"),
        (b'{"frame": [1, 2, 3, 4]', "schema.unknown", "expected JSON"),
        (b"\xff\xfe", "schema.unknown", "expected JSON"),
        (b'{"frame": [1, 2, 3, NaN]}', "frame.nonfinite", "1 NaN"),
        (b'{"frame": [1, 2, 3, 1e999]}', "frame.nonfinite", "1 NaN or infinite"),
        (b'{"frame": [1, 2, 3, ' + b"9" * 400 + b"]}", "frame.nonfinite", "too large"),
        (b'{"frame": [1, 2, 3, ' + b"9" * 5000 + b"]}", "schema.unknown", "expected JSON"),
    ],
)
def test_json_that_is_no_frame_says_where_and_why(value: bytes, code: str, words: str) -> None:
    [letter] = make_decoder("json", TWO_BY_TWO).decode(make_raw([value])).bad

    assert letter.code == code
    assert words in letter.message


def test_json_without_a_channel_names_it() -> None:
    [letter] = make_decoder("json", ONE_SAMPLE).decode(make_raw([b'{"flow": 1}'])).bad

    assert letter.code == "frame.channels"
    assert "without ['level']" in letter.message


def test_each_bad_tf_example_is_named_for_its_own_fault() -> None:
    values = [
        GOOD["tf_example"],
        example_value([1, 2, 3]),
        example_value([1, 2, 3, 4], name="other"),
        example_value([1, 2, 3, 4], kind="int"),
        b"junk",
        GOOD["tf_example"],
    ]

    decoded = make_decoder("tf_example", TWO_BY_TWO).decode(make_raw(values))

    assert codes(decoded) == [
        (1, "frame.size"),
        (2, "schema.incompatible"),
        (3, "frame.dtype"),
        (4, "schema.unknown"),
    ]
    assert decoded.good.records.offsets.tolist() == [0, 5]


def test_a_failed_tf_example_leaves_nothing_in_the_next_batch() -> None:
    decoder = make_decoder("tf_example", TWO_BY_TWO)
    decoder.decode(make_raw([GOOD["tf_example"], b"junk"]))

    decoded = decoder.decode(make_raw([GOOD["tf_example"]] * 3))

    assert len(decoded.good) == 3


@pytest.mark.parametrize(
    "columns",
    [
        {"frame": [[1.0, 2.0, 3.0, 4.0]]},
        {"frame": [FRAME]},
        {"frame": pa.array([[1, 2, 3, 4]], pa.list_(pa.int16(), 4))},
        {"frame": pa.array([FRAME], pa.large_list(pa.list_(pa.float64(), 2)))},
        {"level": [2.0, 4.0], "flow": [1, 3], "note": ["a", "b"]},
    ],
)
def test_arrow_takes_lists_of_any_kind_and_columns_by_name(columns: dict[str, Any]) -> None:
    decoded = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([arrow_value(columns)]))

    assert decoded.good.frames.tolist() == [FRAME]


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"frame": [[1.0, 2.0, 3.0, 4.0]] * 2}, "frame.size", "Send one record per frame"),
        ({"flow": [1.0] * 4, "level": [1.0] * 4}, "frame.size", "expected one frame, which is 2 rows. Received: 4"),
        ({"flow": [1.0, 2.0]}, "schema.incompatible", "Received: ['flow']"),
        ({"frame": [[1.0, 2.0, 3.0]]}, "frame.size", "Received: 3"),
        ({"frame": [[[1.0], [2.0]]]}, "frame.channels", "frame[0]: expected 2 channels. Received: 1"),
        ({"frame": [["a", "b", "c", "d"]]}, "frame.dtype", "Received: string"),
        ({"frame": [[1.0, None, 3.0, 4.0]]}, "frame.dtype", "1 nulls"),
        ({"frame": [1.0]}, "frame.dtype", "expected lists of numbers. Received: double"),
        ({"frame": [[1.0, 2.0, 3.0, float("nan")]]}, "frame.nonfinite", "1 NaN"),
    ],
)
def test_arrow_that_is_no_frame_says_why(columns: dict[str, Any], code: str, words: str) -> None:
    [letter] = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([arrow_value(columns)])).bad

    assert letter.code == code
    assert words in letter.message


def test_a_compressed_arrow_body_is_refused_before_it_grows() -> None:
    bomb = arrow_value({"frame": [[0.0] * 8_000_000]}, compression="zstd")

    before = pa.total_allocated_bytes()
    [letter] = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([bomb])).bad

    assert len(bomb) < 100_000
    assert letter.code == "schema.unknown"
    assert "a compressed body" in letter.message
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_arrow_dictionaries_are_refused() -> None:
    value = arrow_value({"frame": [[1.0, 2.0, 3.0, 4.0]], "site": pa.array(["north"]).dictionary_encode()})

    [letter] = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([value])).bad

    assert (letter.code, "a dictionary" in letter.message) == ("schema.unknown", True)


@given(st.data())
def test_a_damaged_arrow_record_never_breaks_the_batch(data: st.DataObject) -> None:
    damaged = bytearray(GOOD["arrow"])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))

    decoded = make_decoder("arrow", TWO_BY_TWO).decode(make_raw([bytes(damaged), GOOD["arrow"]]))

    assert decoded.good.records.offsets.tolist()[-1] == 1
    assert len(decoded.good) + len(decoded.bad) == 2


def test_decoding_leaves_the_records_as_they_were() -> None:
    raw = make_raw([GOOD["raw"], b"bad", GOOD["raw"]])
    before = raw.to_bytes()

    make_decoder("raw", TWO_BY_TWO).decode(raw)

    assert raw.to_bytes() == before


def test_unknown_formats_and_dtypes_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'json'"):
        make_decoder("jsn", TWO_BY_TWO)
    with pytest.raises(ConfigError, match="Did you mean 'float32'"):
        make_decoder("raw", TWO_BY_TWO, dtype="flot32")
