"""Every place where we rely on what kafka-python does not promise; nothing else may.

    RawPartitionRecords   a fetch gives whole record batches, not an object per record
    with_better_reads     a socket is read by the megabyte, not by 4096 bytes, and to its end
    ResponseBytes         a large response is received and decoded in place, not copied four times
    close_producer        a producer that hangs is ended
    StrictBootstrap       what waiting will not mend ends the start at once, and the last error is known

``has_raw_fetch`` tries the first on a record set made here. When it does not hold,
the source uses plain ``poll()``: the same raw batches, a tenth of the speed.
"""

from __future__ import annotations

import functools
import logging
import socket
import types
from collections.abc import Callable, Iterator
from typing import Any

from crc32c import crc32c
from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.consumer import IsolationLevel
from kafka.protocol.frame import KafkaBytes
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.structs import TopicPartition

from pipelines.kafka.raw_batches import (
    CRC_STARTS_AT,
    Damaged,
    FetchItem,
    Gap,
    RawRecordBatch,
    from_client_records,
    is_current_format,
    split_record_set,
)

RECEIVE_BYTES = 64 << 10
# Less of a response than this goes the ordinary way, through the protocol's own buffer.
_LARGE_BODY_BYTES = 64 << 10
_MAX_BATCH_RECORDS = 1 << 24
Received = tuple[bytes, KafkaError | None]
log = logging.getLogger(__name__)


class RawPartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch, as FetchItems; positions and epochs are kept as the base class does."""

    def _maybe_skip_record(self, item: FetchItem) -> bool:
        return item.last_offset < int(self.fetch_offset)

    def _unpack_records(self, tp: TopicPartition, records: MemoryRecords, *_: Any) -> Iterator[FetchItem]:
        for data in split_record_set(memoryview(records._buffer)):
            item = self._unpack_batch(data)
            if item is None:
                continue
            self.next_fetch_offset = item.last_offset + 1
            self.records_read += 1
            self.bytes_read += len(data)
            yield item
        self.drain()

    def _unpack_batch(self, data: memoryview) -> FetchItem | None:
        if not is_current_format(data):
            parsed = from_client_records(LegacyRecordBatch(data, data[16]))
            return parsed if parsed.count else None
        batch = RawRecordBatch.read(data)
        if crc32c(data[CRC_STARTS_AT:]) != batch.crc:
            return self._damaged(batch)
        self.leader_epoch = batch.leader_epoch
        return Gap(batch.last_offset) if self._is_hidden(batch) else batch

    def _damaged(self, batch: RawRecordBatch) -> Damaged:
        """The offsets to pass over; where the head makes no sense either, the one that was asked for."""
        length = batch.last_offset - batch.base_offset + 1
        trusted = 0 < batch.count <= length <= _MAX_BATCH_RECORDS
        last = batch.last_offset if trusted else max(batch.base_offset, self.fetch_offset)
        return Damaged(batch.base_offset, last, batch.max_timestamp)

    def _is_hidden(self, batch: RawRecordBatch) -> bool:
        """Whether it is a control batch or of an aborted transaction; keeps the base class's books of those."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.producer_id >= 0:
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if batch.is_control:
                if self._contains_abort_marker(DefaultRecordBatch(batch.data)):
                    self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return batch.is_control


def install(consumer: KafkaConsumer) -> bool:
    """Make ``consumer.poll`` give FetchItems, if the raw fetch holds here; says whether it does."""
    if has_raw_fetch():
        consumer._fetcher.PartitionRecords = RawPartitionRecords
    return has_raw_fetch()


@functools.cache
def has_raw_fetch() -> bool:
    """Whether the fetcher's insides are as RawPartitionRecords expects, by trying it on two batches."""
    try:
        _try_raw_fetch()
    except Exception as exc:  # any failure at all means: do not rely on it
        log.warning("kafka-python's fetcher has changed (%r): reading record by record, which is slower.", exc)
        return False
    return True


def _try_raw_fetch() -> None:
    data = b"".join(_small_batch(offset) for offset in (0, 2))
    wanted = TopicPartition("contract", 0)
    part = RawPartitionRecords(
        1, wanted, MemoryRecords(data), None, None, isolation_level=IsolationLevel.READ_COMMITTED
    )
    items = part.take(10)
    found = [(item.base_offset, item.last_offset, item.parse(1000).offsets.tolist()) for item in items]
    plain = Fetcher.PartitionRecords(1, wanted, MemoryRecords(data), None, None)
    offsets = [record.offset for record in plain.take(10)]
    fits = found == [(0, 1, [0, 1]), (2, 3, [2, 3])] and offsets == [1, 2, 3] and part.next_fetch_offset == 4
    if not fits or "PartitionRecords" not in Fetcher._parse_fetched_data.__code__.co_names:
        raise RuntimeError(f"raw fetch gave {found}, plain fetch {offsets}")


def _small_batch(base_offset: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1000)
    for row in range(2):
        builder.append(row, 1000, None, b"x", [])
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def with_better_reads(build: Any) -> Any:
    """``build`` of a transport, with reads that take all there is and keep what came before an end."""

    async def build_transport(*args: Any, **kwargs: Any) -> Any:
        transport = await build(*args, **kwargs)
        if type(transport) is KafkaTCPTransport:
            transport._read_buffer = memoryview(bytearray(RECEIVE_BYTES))
            transport._sock_recv = types.MethodType(read_large, transport)
        else:
            transport._sock_recv = data_before_error(transport._sock_recv)
        return transport

    return build_transport


class ResponseBytes(KafkaBytes):  # type: ignore[misc]
    """A response that is decoded where it was received; the base class copies the rest of it twice."""

    def read(self, nbytes: int | None = None) -> bytes | memoryview:
        """The next bytes; all that is left is a view."""
        if nbytes is not None:
            return super().read(nbytes)  # type: ignore[no-any-return]
        rest = memoryview(self)[self.tell() :]
        self.seek(len(self))
        return rest


def read_large(transport: Any) -> tuple[memoryview, KafkaError | None]:
    """What the socket holds, in a buffer that the next call overwrites.

    The protocol copies what it is given before it reads on. Of a large response it
    is given the head and the last byte: all between is received where it will lie.
    An end of the connection is told when nothing is left before it.
    """
    body, direct = _large_body(transport), 0
    if body is not None:
        room = memoryview(body)[body.tell() : -1]
        direct, error = _receive(transport._sock, room)
        body.seek(body.tell() + direct)
        if direct < len(room):
            return memoryview(b""), None if direct else error
    size, error = _receive(transport._sock, transport._read_buffer)
    return transport._read_buffer[:size], None if size or direct else error


def _large_body(transport: Any) -> ResponseBytes | None:
    """The response that is being received, if much of it is still to come."""
    body = getattr(getattr(transport._protocol, "parser", None), "_rbuffer", None)
    if not isinstance(body, KafkaBytes) or len(body) - body.tell() < _LARGE_BODY_BYTES:
        return None
    body.__class__ = ResponseBytes
    return body  # type: ignore[no-any-return]


def _receive(sock: socket.socket, room: memoryview) -> tuple[int, KafkaError | None]:
    """Fill ``room`` with what is there without waiting; how much, and what ended it early."""
    size = 0
    while size < len(room):
        try:
            received = sock.recv_into(room[size:])
        except (BlockingIOError, InterruptedError):
            break
        except OSError as exc:
            return size, KafkaConnectionError(exc)
        if not received:
            return size, KafkaConnectionError("socket disconnected")
        size += received
    return size, None


def data_before_error(receive: Callable[[], Received]) -> Callable[[], Received]:
    """``receive`` with an error put off while there is data: a broker says why, then hangs up."""
    put_off: list[KafkaError] = []

    def receive_in_order() -> Received:
        if put_off:
            return b"", put_off.pop()
        data, error = receive()
        if data and error is not None:
            put_off.append(error)
            return data, None
        return data, error

    return receive_in_order


def close_producer(producer: KafkaProducer, timeout_s: float) -> None:
    """Close it within ``timeout_s``, at the price of what it did not send.

    Its own ``close`` gives up when a flush takes too long, and leaves the thread that
    would send the same records again one day.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaTimeoutError:
        producer._sender.force_close()


class StrictBootstrap:
    """Watch the first connections of one client: some errors will not mend by waiting."""

    def __init__(self, fatal: Callable[[BaseException], bool]) -> None:
        """End the start at once on an error of which ``fatal`` says so."""
        self._fatal = fatal
        self._client: KafkaNetClient | None = None
        self.last_error: BaseException | None = None

    def make_client(self, **options: Any) -> KafkaNetClient:
        """What kafka-python calls to make its network client."""
        self._client = KafkaNetClient(**options)
        manager = self._client._manager
        manager._build_transport = with_better_reads(manager._build_transport)
        connect = manager.get_connection

        def get_connection(*args: Any, **kwargs: Any) -> Any:
            if self.last_error is not None and self._fatal(self.last_error) and not manager.bootstrapped:
                raise self.last_error
            connection = connect(*args, **kwargs)
            connection.close_future.add_errback(self._remember)
            return connection

        manager.get_connection = get_connection
        return self._client

    def close(self) -> None:
        """Stop what a client whose start failed leaves running."""
        if self._client is not None:
            self._client.close()

    def _remember(self, exc: BaseException) -> None:
        self.last_error = exc
