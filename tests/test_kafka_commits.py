from __future__ import annotations

from collections.abc import Callable

import pytest

from ae_model.exceptions import ConnectError
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.commits import CommitKey, Committer
from pipelines.kafka.offsets import create_topics, group_offsets
from pipelines.meters import METERS


@pytest.fixture(autouse=True)
def _fresh_meters() -> None:
    METERS.reset()


@pytest.fixture
def key(broker: str, topic_name: Callable[..., str]) -> CommitKey:
    topic = topic_name()
    create_topics(KafkaSettings(broker), {topic: 2})
    return CommitKey(KafkaSettings(broker), f"group.{topic}", topic)


def committed(key: CommitKey) -> dict[int, int]:
    return group_offsets(key.settings, key.group, key.topic)


def test_furthest_offset_is_committed_however_they_come(key: CommitKey) -> None:
    committer = Committer()

    for partition, offset in [(0, 5), (1, 7), (0, 12), (0, 9)]:
        committer.enqueue(key, partition, offset)
    committer.flush()
    committer.close()

    assert committed(key) == {0: 12, 1: 7}


def test_many_offsets_are_few_commits(key: CommitKey) -> None:
    committer = Committer(every_s=60.0)

    for offset in range(1, 500):
        committer.enqueue(key, 0, offset)
    committer.flush()
    committer.flush()
    committer.close()

    assert committed(key) == {0: 499}
    assert METERS.snapshot()[0]["commits"] <= 2


def test_nothing_to_commit_connects_nowhere() -> None:
    Committer().flush()

    assert METERS.snapshot()[0] == {}


def test_commit_that_fails_is_counted_told_and_kept(key: CommitKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.kafka.client.BOOTSTRAP_MS", 300)
    away = CommitKey(KafkaSettings("127.0.0.1:1"), key.group, key.topic)
    committer = Committer(every_s=60.0)
    with pytest.raises(ConnectError, match=f"group {key.group}: expected its offsets to be committed"):
        fail(committer, away)

    assert METERS.snapshot()[0]["commit_failures"] >= 1
    assert committer.waiting() == {away: {0: 3}}


def fail(committer: Committer, key: CommitKey) -> None:
    """Flush until it was this call that failed, and not the committer's own thread."""
    committer.enqueue(key, 0, 3)
    committer.flush()
    committer.flush()
