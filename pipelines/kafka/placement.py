"""Which subtask of Flink's reads which partition, so that they share the work evenly.

Flink places a shard by a hash of its bytes: three partitions may well meet on one
subtask while another has nothing to do. A salt among the bytes chooses the place.

    bytes with their length ── murmur3 ──> key's hash ── murmur ──> a key group ──> subtask
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.kafka.tracker import KafkaShard, KafkaShardCoder

_MASK_32, _MASK_64 = (1 << 32) - 1, (1 << 64) - 1
_SALTS = 1 << 16


@dataclass(frozen=True)
class Subtasks:
    """How a job on Flink is divided.

    Args:
        count: subtasks of the source.
        groups: of keys, the most subtasks that the job can ever have.
    """

    count: int
    groups: int


def spread(shards: Sequence[KafkaShard], subtasks: Subtasks) -> list[KafkaShard]:
    """The shards in order, salted so that they go to the subtasks in turn."""
    return [_place(shard, index % subtasks.count, subtasks) for index, shard in enumerate(shards)]


def subtask_of(shard: KafkaShard, subtasks: Subtasks) -> int:
    """Where Beam's runner for Flink reads a shard, by number from 0."""
    encoded = KafkaShardCoder().encode(shard)
    group = _flink_hash(_murmur3(_length(len(encoded)) + encoded)) % subtasks.groups
    return group * subtasks.count // subtasks.groups


def _place(shard: KafkaShard, subtask: int, subtasks: Subtasks) -> KafkaShard:
    salted = (replace(shard, salt=salt) for salt in range(_SALTS))
    return next((candidate for candidate in salted if subtask_of(candidate, subtasks) == subtask), shard)


def _length(count: int) -> bytes:
    """As Beam writes it before the bytes."""
    head = b""
    while count > 127:
        head, count = head + bytes([count & 127 | 128]), count >> 7
    return head + bytes([count])


def _flink_hash(code: int) -> int:
    """``MathUtils.murmurHash`` of Flink: a mix of an int's bits, made positive."""
    code = _rotate(code * 0xCC9E2D51 & _MASK_32, 15, 32) * 0x1B873593 & _MASK_32
    code = (_rotate(code, 13, 32) * 5 + 0xE6546B64 & _MASK_32) ^ 4
    code = (code ^ code >> 16) * 0x85EBCA6B & _MASK_32
    code = (code ^ code >> 13) * 0xC2B2AE35 & _MASK_32
    code ^= code >> 16
    return code if code < 1 << 31 else ((1 << 32) - code) & 0x7FFFFFFF


def _murmur3(data: bytes) -> int:
    """The first 32 bits of MurmurHash3 for x64, 128 bits, seed 0."""
    whole = len(data) - len(data) % 16
    h1 = h2 = 0
    for at in range(0, whole, 16):
        h1 ^= _mix_1(data[at : at + 8])
        h1 = (_rotate(h1, 27) + h2) * 5 + 0x52DCE729 & _MASK_64
        h2 ^= _mix_2(data[at + 8 : at + 16])
        h2 = (_rotate(h2, 31) + h1) * 5 + 0x38495AB5 & _MASK_64
    h1 ^= _mix_1(data[whole : whole + 8]) ^ len(data)
    h2 ^= _mix_2(data[whole + 8 :]) ^ len(data)
    h1 = h1 + h2 & _MASK_64
    h2 = h2 + h1 & _MASK_64
    return (_finish(h1) + _finish(h2)) & _MASK_32


def _mix_1(eight: bytes) -> int:
    return _rotate(int.from_bytes(eight, "little") * 0x87C37B91114253D5 & _MASK_64, 31) * 0x4CF5AD432745937F & _MASK_64


def _mix_2(eight: bytes) -> int:
    return _rotate(int.from_bytes(eight, "little") * 0x4CF5AD432745937F & _MASK_64, 33) * 0x87C37B91114253D5 & _MASK_64


def _finish(part: int) -> int:
    part = (part ^ part >> 33) * 0xFF51AFD7ED558CCD & _MASK_64
    part = (part ^ part >> 33) * 0xC4CEB9FE1A85EC53 & _MASK_64
    return part ^ part >> 33


def _rotate(value: int, bits: int, width: int = 64) -> int:
    return (value << bits | value >> width - bits) & (1 << width) - 1
