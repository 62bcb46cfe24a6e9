"""``latentstream services``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import local_flink, local_kafka
from pipelines.commands.output import note, show

EXIT_NOT_RUNNING = 1
PORTS = {"kafka": 9092, "flink": 8081}


def up(args: argparse.Namespace) -> int:
    """Start a service, unless it runs already."""
    folder = _folder(args)
    service, running = _module(args), _module(args).status(folder)
    port = PORTS[args.service] if args.port is None else args.port
    if args.service == "kafka":
        _require_no_slots(args)
        if running is None:
            note("Starting Kafka (the first time its jars are downloaded, 43 MB)")
            running = service.start(folder, port=port)
    elif running is None:
        note("Starting Flink (the first time its jars are downloaded, 160 MB, some minutes)")
        running = service.start(folder, port=port, slots=args.slots or 0)
    show(_describe(running), args.output)
    return 0


def down(args: argparse.Namespace) -> int:
    """Stop a service; topics and checkpoints stay."""
    show({"stopped": _module(args).stop(_folder(args))}, args.output)
    return 0


def status(args: argparse.Namespace) -> int:
    """Say where the service is; 1 when none runs."""
    running = _module(args).status(_folder(args))
    show(_describe(running), args.output)
    return 0 if running is not None else EXIT_NOT_RUNNING


def _module(args: argparse.Namespace) -> Any:
    return local_flink() if args.service == "flink" else local_kafka()


def _require_no_slots(args: argparse.Namespace) -> None:
    if args.slots is not None:
        raise ConfigError(f"--slots: expected it with flink alone. Received: --slots={args.slots} for kafka.")


def _folder(args: argparse.Namespace) -> Path | None:
    return Path(args.folder) if args.folder else None


def _describe(running: Any) -> dict[str, Any]:
    return {"running": False} if running is None else {"running": True, **running.describe()}
