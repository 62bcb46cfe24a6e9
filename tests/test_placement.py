"""Partitions go to Flink's subtasks in turn; that Flink does what is computed here is proved on a real one."""

from __future__ import annotations

import pytest

from pipelines.kafka.placement import Subtasks, _murmur3, spread, subtask_of
from pipelines.kafka.tracker import KafkaShard


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0), (b"hello", 0x41BD9B02), (b"The quick brown fox jumps over the lazy dog", 0xBC071B6C)],
)
def test_hash_is_murmur3(data: bytes, expected: int) -> None:
    assert hex(_murmur3(data)) == hex(expected)


@pytest.mark.parametrize(("count", "groups"), [(1, 32), (2, 32), (3, 32), (32, 32), (7, 128), (100, 256)])
def test_shards_go_to_the_subtasks_in_turn(count: int, groups: int) -> None:
    subtasks = Subtasks(count, groups)
    shards = [KafkaShard("plant.pump.frames.v1", partition) for partition in range(8)]

    salted = spread(shards, subtasks)

    assert [subtask_of(shard, subtasks) for shard in salted] == [partition % count for partition in range(8)]
    assert [(shard.topic, shard.partition) for shard in salted] == [(shard.topic, shard.partition) for shard in shards]
    assert spread(shards, subtasks) == salted


def test_three_unsalted_shards_may_meet_on_one_subtask() -> None:
    # Seen on a real Flink: one subtask was given all three, the other none.
    shards = [KafkaShard("test.e1.frames.v1", partition) for partition in range(3)]

    assert [subtask_of(shard, Subtasks(2, 128)) for shard in shards] == [0, 0, 0]
