"""Does the memory of ``latentstream train`` grow with the data? Trains on 1x and 10x, each in a process of its own.

    python tests/benchmarks/training_memory.py [--mib 128] [--times 10] [--hop 16] [--runner FnApiRunner]

Frames are of 16 samples x 16 channels (1 KiB). Prints the peak of the resident memory of both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

CHANNELS, LENGTH = 16, 16
ROWS_AT_ONCE = 1 << 16


def write_data(path: Path, mib: int) -> None:
    """A Parquet file of so many MiB as float32; written a piece at a time."""
    names = [f"c{i}" for i in range(CHANNELS)]
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema([(name, pa.float32()) for name in names])) as writer:
        for _ in range(mib * 2**20 // (4 * CHANNELS * ROWS_AT_ONCE)):
            piece = rng.normal(size=(CHANNELS, ROWS_AT_ONCE)).astype(np.float32)
            writer.write_table(pa.table(dict(zip(names, piece, strict=True))))


def write_stream(path: Path, hop: int) -> None:
    """Two epochs of a small network: memory is what counts here."""
    document = {
        "name": "memory",
        "input": {"topic": "plant.memory.frames.v1", "channels": [f"c{i}" for i in range(CHANNELS)]},
        "frame": {"length": LENGTH, "hop": hop},
        "model": {"hidden": [32], "latent": 8, "epochs": 2, "batch_frames": 512},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def train(folder: Path, runner: str) -> tuple[float, float]:
    """Peak resident memory in MiB, and seconds."""
    words = ["train", "memory.yaml", "--data", "data.parquet", "--models", "models", "--runner", runner]
    start = time.monotonic()
    with (folder / "log").open("w") as log:
        job = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *words], cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(job.pid, 0)
    if status:
        sys.exit((folder / "log").read_text(encoding="utf-8"))
    return usage.ru_maxrss / 1024, time.monotonic() - start


def main() -> None:
    """Train at each size and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--hop", type=int, default=LENGTH)
    parser.add_argument("--runner", default="FnApiRunner")
    args = parser.parse_args()
    for times in (1, args.times):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_data(folder / "data.parquet", args.mib * times)
            write_stream(folder / "memory.yaml", args.hop)
            peak, seconds = train(folder, args.runner)
        print(f"{times:>3}x  {args.mib * times:>6} MiB of samples  peak {peak:>6.0f} MiB  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
