"""What is written to Kafka: one Arrow schema per output, and how each is read back."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.frame_batch import Headers


@dataclass(frozen=True)
class OutputRecord:
    """One record for a topic, before the client adds anything.

    Args:
        key: bytes of the key, or None.
        value: bytes of the value; None is a tombstone.
        headers: in order; a name may come twice.
        partition: where to write it, or None to let the client choose by key.
        timestamp_ms: event time in milliseconds since 1970, or None for now.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    partition: int | None = None
    timestamp_ms: int | None = None
