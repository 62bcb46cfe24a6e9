"""``latentstream verify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipelines.audit import Audit, audit_stream
from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import say, show
from pipelines.parquet_files import verify_folder
from pipelines.stream_file import load_stream

EXIT_NOT_PROVED = 1


def verify(args: argparse.Namespace) -> int:
    """Verify a folder of tables, the topics of a stream, or one against the other; 1 when it does not hold."""
    folder = Path(args.target) if Path(args.target).is_dir() else None
    name = args.stream or (None if folder else args.target)
    audit = _audit(name, args.bootstrap) if name else None
    report: dict[str, Any] = {} if audit is None else audit.as_json()
    if folder is not None:
        tables = verify_folder(folder)
        report = tables if audit is None else compare(tables, audit)
    if args.output == "json":
        show(report, "json")
    else:
        partitions = report.pop("partitions", [])
        show(report, "text")
        if partitions:
            say("")
            show(partitions, "text")
    return 0 if report["ok"] else EXIT_NOT_PROVED


def _audit(name: str, bootstrap: str | None) -> Audit:
    stream = load_stream(name)
    return audit_stream(stream, find_kafka(bootstrap, stream))


def compare(tables: dict[str, Any], audit: Audit) -> dict[str, Any]:
    """Both reports; the tables must hold a score for each id among the codes, and none twice.

    A dead letter has no row, so offsets that the tables alone would miss are counted and not named.
    """
    whole = not any(part["duplicated"] or part["damaged"] for part in tables["partitions"])
    rows = sum(part["rows"] for part in tables["partitions"] if part["kind"] == "scores")
    return {**audit.as_json(), **tables, "rows": rows, "ok": audit.ok and whole and rows == audit.coded}
