"""Contracts with the inside of kafka-python; when one breaks, the source reads record by record."""

from __future__ import annotations

import inspect
import socket
import struct
import types

import pytest
from crc32c import crc32c
from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaConnectionError
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.consumer import IsolationLevel
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.structs import TopicPartition

from pipelines.kafka.hooks import (
    RawPartitionRecords,
    ResponseBytes,
    data_before_error,
    has_raw_fetch,
    read_large,
    with_better_reads,
)
from pipelines.kafka.raw_batches import Damaged, Gap, ParsedRecords, RawRecordBatch

TP = TopicPartition("t", 0)
ABORT, COMMIT = 0, 1


def batch(first: int, count: int = 2, producer: int = -1, transactional: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer, 0 if producer >= 0 else -1, 0, 1 << 20)
    for row in range(count):
        builder.append(row, 1000, None, b"value", [])
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def marker(offset: int, kind: int, producer: int) -> bytes:
    """A control batch, as the broker writes it when a transaction ends."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    builder.append(0, 1000, struct.pack(">hh", 0, kind), b"", [])
    data = bytearray(builder.build())
    data[22] |= 0x20
    data[17:21] = crc32c(bytes(data[21:])).to_bytes(4, "big")
    return offset.to_bytes(8, "big") + bytes(data)[8:]


def unpack(data: bytes, start: int = 0, aborted: list[types.SimpleNamespace] | None = None) -> RawPartitionRecords:
    return RawPartitionRecords(
        start,
        TP,
        MemoryRecords(data),
        None,
        None,
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=aborted,
    )


def kinds(part: RawPartitionRecords) -> list[tuple[type, int]]:
    return [(type(item), item.last_offset) for item in part.take(100)]


def test_raw_fetch_holds_with_the_installed_kafka_python() -> None:
    assert has_raw_fetch()


def test_fetcher_is_built_as_the_raw_records_expect() -> None:
    parameters = list(inspect.signature(Fetcher.PartitionRecords.__init__).parameters)
    unpacking = list(inspect.signature(Fetcher.PartitionRecords._unpack_records).parameters)

    assert parameters[:4] == ["self", "fetch_offset", "tp", "records"]
    assert unpacking == ["self", "tp", "records", "key_deserializer", "value_deserializer"]
    assert "PartitionRecords" in Fetcher._parse_fetched_data.__code__.co_names


def test_transport_is_read_as_the_large_read_expects() -> None:
    assert list(inspect.signature(KafkaTCPTransport._sock_recv).parameters) == ["self"]
    assert "_sock_recv" in KafkaTCPTransport._read_from_sock.__code__.co_names
    assert inspect.iscoroutinefunction(KafkaConnectionManager._build_transport)


def test_protocol_copies_what_it_is_given() -> None:
    protocol = KafkaProtocol()
    buffer = bytearray(struct.pack(">i", 8) + b"abcd")

    protocol.receive_bytes(memoryview(buffer))
    buffer[:] = bytes(8)

    assert bytes(protocol._rbuffer[:4]) == b"abcd"


def test_change_of_the_inside_falls_back(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delattr(Fetcher.PartitionRecords, "_maybe_skip_record")
    monkeypatch.setattr(RawPartitionRecords, "_maybe_skip_record", None)
    has_raw_fetch.cache_clear()

    assert not has_raw_fetch()

    has_raw_fetch.cache_clear()
    assert "reading record by record" in caplog.text


def test_fetch_gives_whole_batches_from_the_one_that_holds_the_start() -> None:
    part = unpack(batch(0) + batch(2) + batch(4), start=3)

    assert kinds(part) == [(RawRecordBatch, 3), (RawRecordBatch, 5)]
    assert part.next_fetch_offset == 6
    assert not part


def test_control_batches_are_gaps() -> None:
    part = unpack(batch(0, producer=9, transactional=True) + marker(2, COMMIT, 9) + batch(3))

    assert kinds(part) == [(RawRecordBatch, 1), (Gap, 2), (RawRecordBatch, 4)]


def test_aborted_transaction_is_a_gap_and_the_next_one_of_its_producer_is_not() -> None:
    data = batch(0, producer=9, transactional=True) + marker(2, ABORT, 9) + batch(3, producer=9, transactional=True)
    aborted = [types.SimpleNamespace(first_offset=0, producer_id=9)]

    part = unpack(data, aborted=aborted)

    assert kinds(part) == [(Gap, 1), (Gap, 2), (RawRecordBatch, 4)]


def test_wrong_checksum_is_damage_and_the_next_batch_is_read() -> None:
    bad = bytearray(batch(0))
    bad[-1] ^= 1

    part = unpack(bytes(bad) + batch(2))

    assert kinds(part) == [(Damaged, 1), (RawRecordBatch, 3)]


def test_damage_in_the_head_passes_over_one_offset_at_least() -> None:
    bad = bytearray(batch(10))
    bad[23:27] = (1 << 30).to_bytes(4, "big")

    assert kinds(unpack(bytes(bad), start=11)) == [(Damaged, 11)]


def test_old_format_is_read_record_by_record() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for row in range(2):
        builder.append(row, 1000 + row, b"k", b"v%d" % row)

    (first, second) = unpack(bytes(builder.build())).take(10)

    assert isinstance(first, ParsedRecords)
    assert [item.columns.offsets.tolist() for item in (first, second)] == [[0], [1]]
    assert [item.columns.timestamps.tolist() for item in (first, second)] == [[1000], [1001]]


def transport(sock: socket.socket, size: int = 1 << 20, parser: KafkaProtocol | None = None) -> types.SimpleNamespace:
    protocol = types.SimpleNamespace(parser=parser)
    return types.SimpleNamespace(_sock=sock, _read_buffer=memoryview(bytearray(size)), _protocol=protocol)


def echoing_protocol() -> KafkaProtocol:
    """A protocol whose responses are their own type and bytes."""
    protocol = KafkaProtocol()
    protocol._process_response = lambda body: (type(body), bytes(body.read(2)), bytes(body.read()))
    return protocol


def receive(sock: socket.socket, sent: socket.socket, data: bytes, piece: int) -> list[tuple[type, bytes, bytes]]:
    """The responses in ``data``, which is sent a piece at a time."""
    protocol = echoing_protocol()
    reader = transport(sock, size=4096, parser=protocol)
    responses = []
    for start in range(0, len(data), piece):
        sent.sendall(data[start : start + piece])
        while len(got := read_large(reader)[0]):
            responses += protocol.receive_bytes(got)
    return responses


def test_large_read_takes_all_that_is_there() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(b"x" * 50_000)

    with ours, theirs:
        data, error = read_large(transport(ours))
        nothing, no_error = read_large(transport(ours))

        assert (bytes(data), error) == (b"x" * 50_000, None)
        assert (bytes(nothing), no_error) == (b"", None)


def test_large_read_stops_at_its_buffer_and_goes_on() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(b"abcdef")

    with ours, theirs:
        reader = transport(ours, size=4)

        assert [bytes(read_large(reader)[0]) for _ in range(2)] == [b"abcd", b"ef"]


def test_what_came_before_a_hang_up_is_read_first() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(b"why")
    theirs.close()

    with ours:
        reader = transport(ours)
        data, no_error = read_large(reader)
        first = (bytes(data), no_error)
        nothing, error = read_large(reader)

    assert first == (b"why", None)
    assert bytes(nothing) == b""
    assert isinstance(error, KafkaConnectionError)


@pytest.mark.parametrize("piece", [1_000, 7_000, 65_536, 100_000])
def test_large_response_is_received_in_place_and_small_ones_around_it_are_whole(piece: int) -> None:
    bodies = [b"small", bytes(range(256)) * 900, b"next", b"x" * 70_000]
    data = b"".join(struct.pack(">i", len(body)) + body for body in bodies)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    with ours, theirs:
        found = receive(ours, theirs, data, piece)

    assert [(start + rest) for _, start, rest in found] == bodies
    assert [kind for kind, _, _ in found] == [KafkaBytes, ResponseBytes, KafkaBytes, ResponseBytes]


def test_hang_up_within_a_large_response_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    protocol = echoing_protocol()
    reader = transport(ours, size=64, parser=protocol)
    theirs.sendall(struct.pack(">i", 1 << 20) + bytes(50_000))
    theirs.close()

    with ours:
        protocol.receive_bytes(read_large(reader)[0])
        held_back = read_large(reader)
        told = read_large(reader)

    assert (bytes(held_back[0]), held_back[1]) == (b"", None)
    assert protocol._rbuffer.tell() == 50_000
    assert isinstance(told[1], KafkaConnectionError)


def test_error_waits_until_the_data_before_it_is_read() -> None:
    hang_up = KafkaConnectionError("socket disconnected")
    answers = iter([(b"why", hang_up), (b"", None)])
    receive = data_before_error(lambda: next(answers))

    assert [receive(), receive(), receive()] == [(b"why", None), (b"", hang_up), (b"", None)]


def test_only_plain_connections_are_read_large() -> None:
    async def build() -> object:
        return types.SimpleNamespace(_sock_recv=lambda: (b"", None))

    building = with_better_reads(build)()

    with pytest.raises(StopIteration) as stop:
        building.send(None)

    assert not hasattr(stop.value.value, "_read_buffer")
