"""``latentstream stop``."""

from __future__ import annotations

import argparse

from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import local_flink
from pipelines.commands.output import show
from pipelines.flink import UP, job_name
from pipelines.flink_master import Master
from pipelines.stream_file import load_stream


def stop(args: argparse.Namespace) -> int:
    """End a stream's job on Flink, and say where its savepoint is if one was asked for."""
    master = Master(args.flink_master or _local_address())
    name = job_name(load_stream(args.stream).name)
    job = master.find_job(name)
    if job is None:
        raise ConfigError(f"job {name}: expected it on Flink at {master.address}. Received: none that runs.")
    savepoint = None
    if args.savepoint:
        savepoint = master.stop(job)
    else:
        master.cancel(job)
    show({"stopped": True, "job": job, "savepoint": savepoint}, args.output)
    return 0


def _local_address() -> str:
    flink = local_flink().status()
    if flink is None:
        raise ConfigError(
            "--flink-master: expected HOST:PORT of Flink's REST interface, or a Flink of this machine. Received: "
            f"neither. {UP}"
        )
    return str(flink.web)
