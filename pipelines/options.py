"""What the verbs of the command line hand to the pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.detectors import DEFAULT_CACHE_MIB


@dataclass(frozen=True)
class RunSettings:
    """How one run of a stream goes; nothing here can change a score.

    Args:
        bootstrap: ``host:port`` of the brokers.
        models: folder of artifacts; the stream's name is the model's.
        version: of the artifact; None takes the one that CURRENT names.
        until: None for ever, ``latest``, a time, or offsets as JSON (``{"0": 120}``).
        start: None for the group's commits, else ``earliest``, ``latest``, a time, or offsets as JSON.
        parquet: folder of the tables; None leaves it to the stream file.
        runner: Beam's name of the engine.
        beam_args: flags that are Beam's own.
        panel: whether to show the figures while it runs.
        model_cache_mib: what loaded models may take in a worker process.
    """

    bootstrap: str
    models: Path
    version: int | None = None
    until: str | None = None
    start: str | None = None
    parquet: str | None = None
    runner: str = "FnApiRunner"
    beam_args: tuple[str, ...] = ()
    panel: bool = True
    model_cache_mib: int = DEFAULT_CACHE_MIB
