"""The splittable part of the source: a partition, its offsets, and who claimed them.

    element      KafkaShard(topic, partition)      its bytes are an engine's key of the state, and its place
    restriction  OffsetSpan(next, stop or None)    its bytes are in every savepoint

Both have coders of their own, with a version byte: they outlive this build.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

_VERSION = 1
_SALTED_VERSION = 2
_SHARD = struct.Struct(">BI")
_SALTED_SHARD = struct.Struct(">BIH")
_SPAN = struct.Struct(">Bqq")
_NO_STOP = -1
# Claimed instead of an offset: everything after the last claim is given up, and the span ends there.
END = -1


@dataclass(frozen=True)
class KafkaShard:
    """One partition to read; ``salt`` says nothing, and moves it to another subtask of Flink's."""

    topic: str
    partition: int
    salt: int = 0


@dataclass(frozen=True)
class OffsetSpan:
    """Offsets ``next`` to ``stop`` - 1; without a stop the span has no end."""

    next: int
    stop: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.stop is not None and self.next >= self.stop


class _VersionedCoder(Coder):  # type: ignore[misc]
    """What the coders here share: equal by kind, and the same bytes for the same value."""

    def is_deterministic(self) -> bool:
        """The bytes are an engine's key."""
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class KafkaShardCoder(_VersionedCoder):
    """Version, partition, salt if there is one, topic in UTF-8."""

    def encode(self, value: KafkaShard) -> bytes:
        """To bytes."""
        if value.salt:
            return _SALTED_SHARD.pack(_SALTED_VERSION, value.partition, value.salt) + value.topic.encode()
        return _SHARD.pack(_VERSION, value.partition) + value.topic.encode()

    def decode(self, encoded: bytes) -> KafkaShard:
        """From bytes."""
        if encoded[0] == _SALTED_VERSION:
            _, partition, salt = _SALTED_SHARD.unpack_from(encoded)
            return KafkaShard(encoded[_SALTED_SHARD.size :].decode(), partition, salt)
        version, partition = _SHARD.unpack_from(encoded)
        _require_version("shard", version)
        return KafkaShard(encoded[_SHARD.size :].decode(), partition)

    def to_type_hint(self) -> type:
        """The Python type."""
        return KafkaShard


class OffsetSpanCoder(_VersionedCoder):
    """Version, next offset, stop offset or -1."""

    def encode(self, value: OffsetSpan) -> bytes:
        """To bytes."""
        return _SPAN.pack(_VERSION, value.next, _NO_STOP if value.stop is None else value.stop)

    def decode(self, encoded: bytes) -> OffsetSpan:
        """From bytes."""
        version, next_offset, stop = _SPAN.unpack(encoded)
        _require_version("offsets", version)
        return OffsetSpan(next_offset, None if stop == _NO_STOP else stop)

    def to_type_hint(self) -> type:
        """The Python type."""
        return OffsetSpan


def _require_version(what: str, version: int) -> None:
    if version != _VERSION:
        raise ValueError(
            f"{what} in the job's state: expected version {_VERSION}. Received: {version}. "
            "Start from a savepoint of this release."
        )


class OffsetSpanTracker(RestrictionTracker):  # type: ignore[misc]
    """Claims rise by the last offset of each raw batch; only what is unclaimed can be split off.

    Kafka has no cheap way to read one partition from two places, so a split at
    any fraction but 0, which is a checkpoint, is declined.
    """

    def __init__(self, span: OffsetSpan, highwater: int | None = None) -> None:
        """Track ``span``; ``highwater`` is the partition's end as last seen, for progress alone."""
        self._span = span
        self._next = span.next
        self._highwater = highwater

    def current_restriction(self) -> OffsetSpan:
        """The whole span this call answers for, claimed offsets included."""
        return self._span

    def try_claim(self, position: int) -> bool:
        """Claim everything up to offset ``position``, or END to give up the rest.

        Raises:
            ValueError: the claim goes backwards.
        """
        if position == END:
            self._span = OffsetSpan(self._span.next, self._next)
            return True
        if position < self._next:
            raise ValueError(f"claim: expected an offset from {self._next}. Received: {position}.")
        if self._span.stop is not None and position >= self._span.stop:
            return False
        self._next = position + 1
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[OffsetSpan, OffsetSpan] | None:
        """At 0 the claimed part and the rest, else None."""
        if fraction_of_remainder != 0 or self._is_exhausted:
            return None
        rest = OffsetSpan(self._next, self._span.stop)
        self._span = OffsetSpan(self._span.next, self._next)
        return self._span, rest

    def check_done(self) -> bool:
        """True when every offset of the span is claimed.

        Raises:
            ValueError: some are not; the source returned too early.
        """
        if not self._is_exhausted:
            raise ValueError(f"offsets: expected all of {self._span} claimed. Received: next={self._next}.")
        return True

    def current_progress(self) -> RestrictionProgress:
        """Offsets claimed, and offsets known to be left."""
        end = self._span.stop if self._span.stop is not None else self._highwater
        remaining = 0 if end is None else max(0, end - self._next)
        return RestrictionProgress(completed=float(self._next - self._span.next), remaining=float(remaining))

    def is_bounded(self) -> bool:
        """Whether the span has a stop; without one a drain must not wait for its end."""
        return self._span.stop is not None

    @property
    def _is_exhausted(self) -> bool:
        return self._span.stop is not None and self._next >= self._span.stop


def beam_timestamp(milliseconds: int) -> Timestamp:
    """Event time for Beam; what its range cannot hold becomes the nearest it can."""
    micros = min(max(milliseconds * 1000, MIN_TIMESTAMP.micros), MAX_TIMESTAMP.micros)
    return Timestamp(micros=micros)
