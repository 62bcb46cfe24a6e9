"""``latentstream services``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipelines.commands.addresses import local_kafka
from pipelines.commands.output import note, show

EXIT_NOT_RUNNING = 1


def up(args: argparse.Namespace) -> int:
    """Start the broker, unless it runs already."""
    folder = _folder(args)
    broker = local_kafka().status(folder)
    if broker is None:
        note("Starting Kafka (the first time its jars are downloaded, 43 MB)")
        broker = local_kafka().start(folder, port=args.port)
    show(_describe(broker), args.output)
    return 0


def down(args: argparse.Namespace) -> int:
    """Stop the broker; its topics stay."""
    show({"stopped": local_kafka().stop(_folder(args))}, args.output)
    return 0


def status(args: argparse.Namespace) -> int:
    """Say where the broker is; 1 when none runs."""
    broker = local_kafka().status(_folder(args))
    show(_describe(broker), args.output)
    return 0 if broker is not None else EXIT_NOT_RUNNING


def _folder(args: argparse.Namespace) -> Path | None:
    return Path(args.folder) if args.folder else None


def _describe(broker: Any) -> dict[str, Any]:
    if broker is None:
        return {"running": False}
    return {"running": True, "bootstrap": broker.bootstrap, "pid": broker.pid, "log": broker.log}
