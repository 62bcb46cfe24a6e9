"""Many models of one stream: which layer a model is of, and under which name it is published.

    pumps.own.pump-7        of one key, trained on its data alone
    pumps.cohort.hall-2     of all keys of one cohort
    pumps                   global: of all keys
    pumps.statistics        median and spread of each channel, of all keys

A frame is scored by the first of them that there is. The name of a linear baseline is its
model's with ``.pca`` behind it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ae_model.config import require

Layer = Literal["own", "cohort", "global", "statistics"]
# In the order in which they are asked.
LAYERS: tuple[Layer, ...] = get_args(Layer)

_BASELINE = ".pca"
_PLAIN = re.compile(rb"[A-Za-z0-9_-]")
# With the stream's name and `.cohort.` around it, a folder's name keeps within the 255 bytes of file systems.
_LONGEST_SLUG = 120
_KEPT_OF_LONGER = 80


@dataclass(frozen=True)
class Scope:
    """For which keys a model answers.

    Args:
        layer: own, cohort, global or statistics.
        key: the key, or the cohort's name; None where it is for all.
        cohort: pattern whose first group names a key's cohort, of a cohort's model.
    """

    layer: Layer = "global"
    key: str | None = None
    cohort: str | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check that what is for one key or cohort names it, and nothing else does."""
        require(self.layer in LAYERS, "layer", f"one of {', '.join(LAYERS)}", self.layer)
        named = self.layer in ("own", "cohort")
        require((self.key is not None) == named, "key", "a name with layer own or cohort, and none otherwise", self.key)

    def name(self, stream: str) -> str:
        """Under which a stream's model of this scope is published."""
        if self.key is not None:
            return f"{stream}.{self.layer}.{slug(self.key)}"
        return stream if self.layer == "global" else f"{stream}.{self.layer}"


# Of a stream without a key.
EVERY_KEY = Scope()


def baseline_name(name: str) -> str:
    """Under which the linear baseline of a model is published."""
    return f"{name}{_BASELINE}"


def is_baseline(name: str) -> bool:
    """Whether it is the name of a baseline; no key's name ends like it."""
    return name.endswith(_BASELINE)


def find_cohort(pattern: str | None, key: str) -> str | None:
    r"""The cohort that a pattern's first group names in a key; None where it finds none.

    >>> find_cohort(r"^machine-(\d+)-", "machine-1-6")
    '1'
    """
    found = re.search(pattern, key) if pattern else None
    return (found[1] or None) if found else None


def slug(key: str) -> str:
    """A folder's name for a key: no two keys have the same, and most read as they are.

    Letters, digits, ``_`` and ``-`` stay; any other byte of the key's UTF-8 is ``.`` and two hex
    digits. A key that would be too long is cut and its SHA-256 follows, behind ``.h``, which no
    byte is written as.

    >>> slug("machine-1-6"), slug("hall 2/fan.b")
    ('machine-1-6', 'hall.202.2ffan.2eb')
    """
    data = key.encode()
    text = "".join(chr(byte) if _PLAIN.match(bytes([byte])) else f".{byte:02x}" for byte in data)
    if text and len(text) <= _LONGEST_SLUG:
        return text
    return f"{text[:_KEPT_OF_LONGER]}.h{hashlib.sha256(data).hexdigest()[:32]}"
