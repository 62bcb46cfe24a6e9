"""``make demo``: two real streams, from training to a decoded signal, on a Kafka of their own.

Every step is a command a user could type; it is printed before it runs. What they
leave behind is in demo-out/: models, Parquet, decoded frames and pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.local import demo_report

OUT = Path("demo-out")
COMMAND = Path(sys.executable).with_name("latentstream")
BAD_SHARE = "0.01"
START_MS = "1767225600000"  # 2026-01-01T00:00:00Z, when the replayed frames say they were taken

STREAMS = {
    "server-telemetry": {
        "train": "tests/data/smd/machine-1-6.npz::train",
        "test": "tests/data/smd/machine-1-6.npz::test",
        "decoded": "telemetry.npz",
        "bad_share": BAD_SHARE,
    },
    "spoken-digits": {
        "train": "tests/data/fsdd/train",
        "test": "tests/data/fsdd/test",
        "decoded": "digits.npz",
        "bad_share": BAD_SHARE,
    },
}


def main() -> int:
    """Run the demo; returns the exit code."""
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    command("services", "up")
    try:
        with ThreadPoolExecutor(len(STREAMS)) as side_by_side:
            list(side_by_side.map(train, STREAMS))
        results = {stream: follow(stream) for stream in STREAMS}
    finally:
        command("services", "down")
    demo_report.write(results, OUT, time.monotonic() - started)
    return 0 if all(result["audit"]["ok"] for result in results.values()) else 1


def train(stream: str) -> None:
    """Train one stream; both run at the same time, as neither keeps two cores busy."""
    command("train", stream, "--data", STREAMS[stream]["train"], "--models", f"{OUT}/models")


def follow(stream: str) -> dict[str, Any]:
    """Replay, run, decode and check one trained stream."""
    facts, models, parquet = STREAMS[stream], f"{OUT}/models", f"{OUT}/parquet/{stream}"
    command("topics", "create", stream)
    replayed = command(
        "replay", facts["test"], "--stream", stream, "--bad-share", facts["bad_share"], "--start-ms", START_MS, json_out=True
    )
    run = command("run", stream, "--models", models, "--until", "latest", "--parquet", parquet, json_out=True)
    decoded = command("decode", stream, "--models", models, "--out", f"{OUT}/{facts['decoded']}", json_out=True)
    scored = command("score", stream, "--data", facts["test"], "--models", models, "--out", f"{OUT}/scored/{stream}", json_out=True)
    audit = command("verify", parquet, "--stream", stream, json_out=True)
    return {"replayed": replayed, "run": run, "decoded": decoded, "scored": scored, "audit": audit}


def command(*words: str, json_out: bool = False) -> Any:
    """Run one command of the project, shown as a user would type it.

    Raises:
        SystemExit: it failed; its own message is on the screen.
    """
    print(f"\n$ latentstream {' '.join(words)}", flush=True)
    extra = ["-o", "json"] if json_out else []
    done = subprocess.run([str(COMMAND), *words, *extra], stdout=subprocess.PIPE if json_out else None, check=False)
    if done.returncode:
        raise SystemExit(f"latentstream {words[0]} ended with exit code {done.returncode}; see its message above.")
    return json.loads(done.stdout) if json_out else None


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
