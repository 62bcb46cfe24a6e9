"""latentstream: the graph of ``latentstream run``, with all its checks, codes per batch as Arrow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from serving import Rig, serve

from pipelines.options import RunSettings
from pipelines.stream import run_stream
from pipelines.stream_file import load_stream


def prepare(rig: Rig) -> Callable[[], int]:
    """A pipeline for each pass."""
    stream = load_stream(rig.stream)
    until = json.dumps({str(number): rig.frames // rig.partitions for number in range(rig.partitions)})
    settings = RunSettings(rig.bootstrap, Path(rig.models), until=until, start="earliest", panel=False)

    def run() -> int:
        summary = run_stream(stream, settings)
        return int(summary.ok + summary.dead)

    return run


if __name__ == "__main__":
    serve(prepare, ("apache-beam", "kafka-python"))
