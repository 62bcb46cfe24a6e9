"""Keeps the libraries from talking over the command's own words."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "NONE"}
# They print the traceback of an error on its way to whoever tells it.
ECHOES = tuple(f"apache_beam.runners.{name}" for name in ("common", "worker.sdk_worker", "worker.data_plane"))


def set_loudness(verbose: bool) -> None:
    """Keep the libraries quiet unless asked; must come before they are imported."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    if verbose:
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ECHOES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(is_no_echo)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def is_no_echo(record: logging.LogRecord) -> bool:
    """Whether a record of the root logger is not what a job server said of a job's end, which the error says too."""
    return record.module != "portable_runner"


@contextmanager
def silenced() -> Iterator[None]:
    """Close stderr to this process while TensorFlow is imported, whose C++ greets whatever it is told."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
