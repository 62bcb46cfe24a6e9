"""Decompress a record batch, and stop when it grows out of bounds.

Sixteen kilobytes can inflate to half a gigabyte; the broker limits only what is
sent. Each codec here is read to one byte past the cap and no further.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import lz4.frame
import pyarrow as pa
import zstandard

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
_CHUNK = 1 << 20
# Java's framing of snappy blocks: magic, two versions; then a length before each block.
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_BLOCK = struct.Struct(">i")


class BombError(Exception):
    """The data inflates beyond the cap."""


def inflate(codec: int, data: memoryview, cap: int) -> memoryview:
    """``data`` decompressed.

    Args:
        codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd, as in a record batch's attributes.
        data: the compressed records.
        cap: most bytes it may give.

    Raises:
        BombError: it gives more.
        ValueError: the data is damaged, or the codec unknown.
    """
    if codec == NONE:
        return data
    try:
        return memoryview(_CODECS[codec](data, cap))
    except KeyError:
        raise ValueError(f"codec: expected 0..4. Received: codec={codec}.") from None
    except (zlib.error, RuntimeError, EOFError, OSError, zstandard.ZstdError, pa.ArrowException, struct.error) as exc:
        raise ValueError(f"compressed records: expected whole data. Received: {exc}.") from exc


def _gzip(data: memoryview, cap: int) -> bytes:
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    inflated = _within(reader.decompress(data, cap + 1), cap)
    if not reader.eof:
        raise ValueError("compressed records: expected whole data. Received: a gzip stream cut short.")
    return inflated


def _lz4(data: memoryview, cap: int) -> bytes:
    reader = lz4.frame.LZ4FrameDecompressor()
    inflated = _within(reader.decompress(data, max_length=cap + 1), cap)
    if not reader.eof:
        raise ValueError("compressed records: expected whole data. Received: an lz4 frame cut short.")
    return bytes(inflated)


def _zstd(data: memoryview, cap: int) -> bytes:
    size = zstandard.frame_content_size(data)
    if size > cap:
        raise BombError(f"{size} bytes")
    reader = zstandard.ZstdDecompressor()
    if size > 0:
        return bytes(reader.decompress(data))
    parts: list[bytes] = []
    total = 0
    for part in reader.read_to_iter(data, write_size=_CHUNK):
        parts.append(part)
        total += len(part)
        if total > cap:
            raise BombError(f"more than {cap} bytes")
    return b"".join(parts)


def _snappy(data: memoryview, cap: int) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(data, cap)
    parts: list[bytes] = []
    position, room = _XERIAL_HEADER_BYTES, cap
    while position < len(data):
        (size,) = _BLOCK.unpack_from(data, position)
        position += _BLOCK.size
        part = _snappy_block(data[position : position + size], room)
        position, room = position + size, room - len(part)
        parts.append(part)
    return b"".join(parts)


def _snappy_block(block: memoryview, cap: int) -> bytes:
    size = _snappy_size(block)
    if size > cap:
        raise BombError(f"{size} bytes or more")
    return bytes(pa.decompress(pa.py_buffer(block), size, codec="snappy", asbytes=True))


def _snappy_size(block: memoryview) -> int:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return size
    raise ValueError("compressed records: expected a snappy length. Received: none.")


def _within(inflated: bytes, cap: int) -> bytes:
    if len(inflated) > cap:
        raise BombError(f"more than {cap} bytes")
    return inflated


_CODECS: dict[int, Callable[[memoryview, int], bytes]] = {GZIP: _gzip, SNAPPY: _snappy, LZ4: _lz4, ZSTD: _zstd}
