"""Records that the source does not let in, named by place and never carried along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RefusalCode = Literal["record.too_large", "record.bomb", "record.corrupt"]


@dataclass(frozen=True)
class RefusedRecords:
    """Offsets that become dead letters by reference: their bytes stay where they are, in the topic.

    Args:
        topic: where they are.
        partition: likewise.
        first_offset: the first one; the same as the last for a single record.
        last_offset: the last one.
        timestamp: event time in milliseconds since 1970; of a range, the latest.
        code: why, in a closed set.
        message: why, for a person.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    timestamp: int
    code: RefusalCode
    message: str

    def __len__(self) -> int:
        """How many offsets, which is an upper bound of how many records."""
        return self.last_offset - self.first_offset + 1
