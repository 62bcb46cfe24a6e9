"""``latentstream verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.audit import audit_stream
from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import as_plain, show
from pipelines.parquet_files import verify_folder
from pipelines.stream_file import load_stream

EXIT_NOT_PROVED = 1


def verify(args: argparse.Namespace) -> int:
    """Verify a folder of tables or the topics of a stream; 1 when something is missing or there twice."""
    if Path(args.target).is_dir():
        report = as_plain(verify_folder(Path(args.target)))
    else:
        stream = load_stream(args.target)
        report = as_plain(audit_stream(stream, find_kafka(args.bootstrap, stream)))
    show(report, args.output)
    return 0 if report["ok"] else EXIT_NOT_PROVED
