"""Finds the error raised on purpose inside whatever an engine wrapped around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ae_model import exceptions
from ae_model.exceptions import LatentstreamError

KNOWN = {
    name: kind
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, LatentstreamError) and not issubclass(kind, exceptions.RecordError)
}
# A worker's error crosses to the runner as the text of its traceback.
_IN_TEXT = re.compile(rf"^\s*(?:[\w.]+[.:] ?)?({'|'.join(KNOWN)}): (.+)$", re.MULTILINE)
_STEPS = re.compile(r"\s*\[while running [^\]]*\]")


def find_cause(exc: BaseException) -> LatentstreamError | None:
    """The error of ours that ``exc`` is, was raised from, or quotes; None when it is no such thing."""
    chain = list(_chain(exc))
    for link in chain:
        if isinstance(link, LatentstreamError):
            return link
    for link in chain:
        found = _IN_TEXT.findall(str(link))
        if found:
            name, message = found[-1]
            return KNOWN[name](message)
    return None


def one_line(exc: BaseException) -> str:
    """The message without the names of the steps it passed; a stream file's faults keep a line each."""
    return _STEPS.sub("", str(exc)).strip()


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__
