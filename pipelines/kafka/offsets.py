"""Topics and offsets, asked once at the start and once at the end of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec, OffsetTimestamp
from kafka.structs import OffsetAndMetadata

from ae_model.exceptions import ConfigError, ConnectError, SourceGoneError
from pipelines.kafka.client import KafkaSettings, make_admin

# A broker that was killed is named among those alive for some nine seconds.
PATIENCE_S = 12.0
_PASSING = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.LeaderNotAvailableError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.NotLeaderForPartitionError,
)
_Answer = TypeVar("_Answer")

EARLIEST = "earliest"
LATEST = "latest"
Given = str | Mapping[Any, int] | None
_UNKNOWN_TOPIC = 3
_DENIED_TOPIC = 29
_NO_OFFSET = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class AbsentTopicError(ConnectError):
    """A topic that should be there is not."""


def create_topics(
    settings: KafkaSettings,
    topics: Mapping[str, int],
    replication: int = -1,
    configs: Mapping[str, str] | None = None,
) -> list[str]:
    """Create the topics that are not there yet.

    Args:
        settings: which cluster.
        topics: number of partitions by name.
        replication: copies of each partition; -1 takes the broker's default.
        configs: Kafka's own settings for the new topics.

    Returns:
        Names of those created, sorted; an existing one is left as it is.

    Raises:
        ConnectError: no broker, or no right to create.
    """
    wanted = {
        name: {"num_partitions": count, "replication_factor": replication, "configs": dict(configs or {})}
        for name, count in topics.items()
    }
    with make_admin(settings) as admin:
        existing = set(_patiently(admin.list_topics))
        new = {name: wanted[name] for name in sorted(wanted) if name not in existing}
        if new:
            admin.create_topics(new, wait_for_metadata=True)
    return list(new)


def check_topics(
    settings: KafkaSettings, names: Iterable[str], stream: str, rights: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Number of partitions of each topic.

    Args:
        settings: which cluster.
        names: the first that is at fault is told.
        stream: whose they are, for the command that makes them.
        rights: what this user must be allowed, ``READ`` or ``WRITE``, by topic.

    Raises:
        AbsentTopicError: a topic is absent.
        ConnectError: it may not be seen or not be used as it must; no broker.
    """
    wanted = list(dict.fromkeys(names))
    with make_admin(settings) as admin:
        described = {topic["name"]: topic for topic in _patiently(lambda: admin.describe_topics(wanted))}
    for name in wanted:
        code = described[name]["error_code"] if name in described else _UNKNOWN_TOPIC
        if code == _DENIED_TOPIC:
            raise ConnectError(f"topic {name}: expected the right to describe it. Received: none. Ask for an ACL.")
        if code:
            raise AbsentTopicError(
                f"topic {name} on {settings.bootstrap}: expected it to exist. Received: none. "
                f"Run `latentstream topics create {stream}`."
            )
    for name, right in (rights or {}).items():
        # Not every broker tells; one that does not will refuse the first request.
        granted = described[name].get("authorized_operations")
        if granted and right not in granted:
            raise ConnectError(
                f"topic {name}: expected the right to {right.lower()} it. "
                f"Received: rights={', '.join(sorted(granted))}. Ask for an ACL of this user."
            )
    return {name: len(described[name]["partitions"]) for name in wanted}


def begin_offsets(settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The first offset each partition still has."""
    return _list_offsets(settings, topic, dict.fromkeys(partitions, OffsetSpec.EARLIEST))


def end_offsets(settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The offset after the last record that may be read, open transactions not counted."""
    return _list_offsets(settings, topic, dict.fromkeys(partitions, OffsetSpec.LATEST))


def offsets_at(settings: KafkaSettings, topic: str, partitions: Iterable[int], timestamp_ms: int) -> dict[int, int]:
    """The first offset at or after a time in milliseconds since 1970; the end where nothing is later."""
    wanted = list(partitions)
    found = _list_offsets(settings, topic, dict.fromkeys(wanted, OffsetTimestamp(timestamp_ms)))
    late = [partition for partition in wanted if found[partition] == _NO_OFFSET]
    return {**found, **(end_offsets(settings, topic, late) if late else {})}


def group_offsets(settings: KafkaSettings, group: str, topic: str) -> dict[int, int]:
    """Next offset by partition as the group committed it; empty for an unknown group."""
    with make_admin(settings) as admin:
        try:
            found = _patiently(lambda: admin.list_group_offsets({group: None})[group])
        except kafka_errors.GroupIdNotFoundError:
            return {}
    return {tp.partition: at.offset for tp, at in found.items() if tp.topic == topic and at.offset >= 0}


def group_notes(settings: KafkaSettings, group: str, topic: str) -> dict[int, str]:
    """What was noted beside the committed offset of each partition.

    Raises:
        ConnectError: no broker.
    """
    with make_admin(settings) as admin:
        found = _patiently(lambda: admin.list_group_offsets({group: None})[group])
    return {tp.partition: at.metadata for tp, at in found.items() if tp.topic == topic and at.offset >= 0}


def commit_offsets(settings: KafkaSettings, group: str, topic: str, offsets: Mapping[int, int], note: str = "") -> None:
    """Commit next offsets for a group that has no members, with a note beside each.

    Raises:
        ConnectError: no broker, no right, or somebody consumes in the group.
    """
    with make_admin(settings) as admin:
        commit_with(admin, group, topic, offsets, note)


def commit_with(admin: Any, group: str, topic: str, offsets: Mapping[int, int], note: str = "") -> None:
    """Like ``commit_offsets``, with a client that is there already; Kafka's errors stay Kafka's."""
    wanted = {TopicPartition(topic, p): OffsetAndMetadata(next_offset, note, -1) for p, next_offset in offsets.items()}
    answers = _patiently(lambda: admin.alter_group_offsets(group, wanted))
    failed = [error for error in answers.values() if error is not kafka_errors.NoError]
    if failed:
        raise failed[0](f"group {group}")


def start_offsets(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], group: str | None, given: Given = None
) -> dict[int, int]:
    """Where to start: what is given, else what the group committed, else the earliest.

    A runner that restores its own state never asks.

    Args:
        settings: which cluster.
        topic: what will be read.
        partitions: of it.
        group: whose commits to look up; None skips them.
        given: ``earliest``, ``latest``, an ISO time, or offsets by partition (mapping or JSON).

    Raises:
        ConfigError: ``given`` is none of these, or names other partitions.
        ConnectError: no broker.
    """
    wanted = list(partitions)
    if given is not None:
        found = _resolve(settings, topic, wanted, given)
        missing = [partition for partition in wanted if partition not in found]
        return {**begin_offsets(settings, topic, missing), **found} if missing else found
    begin = begin_offsets(settings, topic, wanted)
    committed = group_offsets(settings, group, topic) if group else {}
    return {partition: committed.get(partition, begin[partition]) for partition in wanted}


def check_start(settings: KafkaSettings, topic: str, start: Mapping[int, int]) -> None:
    """Check that the offsets to start from are there.

    Raises:
        SourceGoneError: retention deleted what comes next, or the topic is not the one it was.
        ConnectError: no broker.
    """
    begin, end = begin_offsets(settings, topic, start), end_offsets(settings, topic, start)
    for partition, offset in start.items():
        first, stop = begin[partition], end[partition]
        if first <= offset <= stop:
            continue
        lost = f"{first - offset} offsets were deleted unread" if offset < first else "The topic was cut or made anew"
        raise SourceGoneError(
            f"input {topic}[{partition}]@{offset}: expected an offset from {first} to {stop}. "
            f"Received: offset={offset}. {lost}; go on with `--start earliest`."
        )


def until_offsets(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], until: Given
) -> dict[int, int] | None:
    """Where to stop: None for never; offsets by partition, the first one not to read.

    Raises:
        ConfigError: ``until`` is not ``latest``, an ISO time or offsets of all the partitions.
        ConnectError: no broker.
    """
    if until is None:
        return None
    wanted = list(partitions)
    found = _resolve(settings, topic, wanted, until)
    missing = [partition for partition in wanted if partition not in found]
    if missing:
        raise ConfigError(f"until: expected an offset for every partition. Received: none for {missing}.")
    return found


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Ask until a broker that can answer does.

    One that never kept a group first makes a topic for it; of several, one may have gone a
    moment ago, and the client asks another next time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except _PASSING:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _resolve(
    settings: KafkaSettings, topic: str, partitions: list[int], given: str | Mapping[Any, int]
) -> dict[int, int]:
    if given == EARLIEST:
        return begin_offsets(settings, topic, partitions)
    if given == LATEST:
        return end_offsets(settings, topic, partitions)
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        return offsets_at(settings, topic, partitions, parse_time(given))
    return _parse_offsets(given, partitions)


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an ISO time; UTC where it names no zone.

    Raises:
        ConfigError: it is no time.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(
            "offsets: expected earliest, latest, an ISO time such as 2026-01-31T12:00:00Z, or JSON such as "
            f'{{"0": 120}}. Received: {text!r}.'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _parse_offsets(given: str | Mapping[Any, int], partitions: list[int]) -> dict[int, int]:
    try:
        mapping = json.loads(given) if isinstance(given, str) else given
        offsets = {int(partition): int(offset) for partition, offset in mapping.items()}
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f'offsets: expected JSON such as {{"0": 120, "1": 96}}. Received: {given!r}.') from None
    wrong = sorted(set(offsets) - set(partitions)) or [p for p, offset in offsets.items() if offset < 0]
    if wrong:
        raise ConfigError(f"offsets: expected partitions {partitions} and offsets from 0. Received: {offsets}.")
    return offsets


def _list_offsets(settings: KafkaSettings, topic: str, specs: Mapping[int, Any]) -> dict[int, int]:
    wanted = {TopicPartition(topic, partition): spec for partition, spec in specs.items()}
    if not wanted:
        return {}
    with make_admin(settings) as admin:
        found = _patiently(lambda: admin.list_partition_offsets(wanted, isolation_level="read_committed"))
    return {tp.partition: int(at.offset) for tp, at in found.items()}
