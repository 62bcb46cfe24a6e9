"""``latentstream run``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import find_bootstrap, flink_addresses
from pipelines.commands.beam_flags import check_beam_flags
from pipelines.commands.output import show
from pipelines.options import RunSettings
from pipelines.stream import run_stream
from pipelines.stream_file import load_stream

EXIT_SIGTERM = 143


def run(args: argparse.Namespace) -> int:
    """Run until the input ends or a signal drains it; the summary comes either way."""
    stream = load_stream(args.stream)
    check_beam_flags(args.runner, args.beam_args)
    settings = RunSettings(
        bootstrap=find_bootstrap(args.bootstrap, stream),
        models=Path(args.models),
        version=args.model_version,
        until=args.until,
        start=args.start,
        parquet=args.parquet,
        runner=args.runner,
        beam_args=(*flink_addresses(args.runner, args.beam_args), *_state(args)),
        panel=not args.no_panel,
        model_cache_mib=args.model_cache_mib,
    )
    summary = run_stream(stream, settings)
    show(summary, args.output)
    return EXIT_SIGTERM if summary.drained else 0


def _state(args: argparse.Namespace) -> tuple[str, ...]:
    """Beam's flag for the state to go on from."""
    if args.savepoint is None:
        return ()
    if not args.runner.lower().startswith("flink"):
        raise ConfigError(f"--from: expected it with --runner=FlinkRunner. Received: --runner={args.runner}.")
    return (f"--savepoint_path={args.savepoint}",)
