"""``make demo``: two real streams, from training to a decoded signal, on a Kafka of their own.

Every step is a command that a user could type, shown before it runs. What they leave
behind is in demo-out/: models, Parquet, decoded frames and pictures.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.quiet import set_loudness, silenced

OUT = Path("demo-out")
COMMAND = Path(sys.executable).with_name("latentstream")
MODELS = f"{OUT}/models"
BAD_SHARE = "0.01"
START_MS = "1767225600000"  # The replayed frames say that they were taken from 2026-01-01 on.
TELEMETRY = "tests/data/smd/machine-1-6.npz"
DATA = {
    "server-telemetry": (f"{TELEMETRY}::train", f"{TELEMETRY}::test"),
    "spoken-digits": ("tests/data/fsdd/train", "tests/data/fsdd/test"),
}


def main() -> int:
    """Run the demo; the exit code is 1 when a record was lost."""
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    folder = ("--folder", f"{OUT}/kafka")
    broker = command("services", "up", *folder, "--port", "0")
    try:
        facts = follow_all(broker["bootstrap"])
    finally:
        command("services", "down", *folder)
    finish(facts, started)
    return 0 if all(fact["audit"]["ok"] for fact in facts.values()) else 1


def follow_all(bootstrap: str) -> dict[str, dict[str, Any]]:
    """Train both streams side by side, as one alone does not keep two cores busy; then follow each."""
    with ThreadPoolExecutor(len(DATA)) as side_by_side:
        trained = dict(zip(DATA, side_by_side.map(train, DATA), strict=True))
    facts = {stream: {"train": trained[stream], **follow(stream, bootstrap)} for stream in DATA}
    labels = ("--labels", f"{TELEMETRY}::test_label")
    data = DATA["server-telemetry"][1]
    out = ("--models", MODELS, "--out", f"{OUT}/evaluation")
    evaluation = command("evaluate", "server-telemetry", "--data", data, *labels, *out)
    facts["server-telemetry"]["evaluation"] = evaluation
    return facts


def train(stream: str) -> Any:
    """Train one stream and its PCA baseline."""
    return command("train", stream, "--data", DATA[stream][0], "--models", MODELS, label=stream)


def follow(stream: str, bootstrap: str) -> dict[str, Any]:
    """Replay one stream with bad records in it, run, decode at a receiver, and read the ids back."""
    parquet, decoded = f"{OUT}/parquet/{stream}", f"{OUT}/{stream}-decoded.npz"
    kafka = ("--bootstrap", bootstrap)
    command("topics", "create", stream, *kafka)
    bad = ("--bad-share", BAD_SHARE, "--start-ms", START_MS)
    return {
        "replayed": command("replay", DATA[stream][1], "--stream", stream, *bad, *kafka),
        "run": command("run", stream, "--models", MODELS, "--until", "latest", "--parquet", parquet, *kafka),
        "decoded": command("decode", stream, "--models", MODELS, "--out", decoded, *kafka),
        "audit": command("verify", parquet, "--stream", stream, *kafka),
    }


def finish(facts: dict[str, dict[str, Any]], started: float) -> None:
    """Compare, draw and tell."""
    with silenced():
        from infra.local import demo_check, demo_report

    print("\nComparing what came out with the files that went in, and drawing", flush=True)
    streams = {name: demo_check.follow(name, DATA[name][1], OUT, Path(facts[name]["decoded"]["out"])) for name in DATA}
    for name, followed in streams.items():
        _, length, channels = followed.frames.shape
        sizes = {
            "frame_bytes": length * channels * SAMPLE_BYTES[name],
            "code_bytes": 4 * followed.detector.manifest.codes.latent,
        }
        facts[name] |= {"check": demo_check.compare(followed), **sizes}
        demo_report.draw_training(followed, OUT)
    demo_report.draw_telemetry(streams["server-telemetry"], Path(TELEMETRY), OUT)
    demo_report.draw_digits(streams["spoken-digits"], OUT)
    demo_report.write_report(facts, OUT, time.monotonic() - started)


# On the wire: float32 readings, and audio of 16 bits.
SAMPLE_BYTES = {"server-telemetry": 4, "spoken-digits": 2}


def command(*words: str, label: str = "") -> Any:
    """Run one command of the project, shown as a user would type it, and return what it says as JSON.

    Args:
        words: what comes after ``latentstream``.
        label: put before each line of its progress, when two run at once.

    Raises:
        SystemExit: it failed; its own message is on the screen.
    """
    print(f"\n$ latentstream {' '.join(words)}", flush=True)
    call, pipe = [str(COMMAND), *words, "-o", "json"], subprocess.PIPE
    with subprocess.Popen(call, stdout=pipe, stderr=pipe if label else None, text=True) as running:
        for line in running.stderr or ():
            if not re.match(r"epoch \d*[1-9]/", line):  # every tenth epoch is enough
                print(f"{label}: {line}", end="", flush=True)
        result = running.stdout.read() if running.stdout else ""
    if running.returncode:
        raise SystemExit(f"latentstream {words[0]}: exit code {running.returncode}; its message is above.")
    facts = json.loads(result)
    print("  " + brief(facts), flush=True)
    return facts


def brief(facts: Any, depth: int = 3) -> str:
    """The figures of a result on one line, those of a part in brackets; of the deepest parts their number alone."""
    if not isinstance(facts, dict) or depth == 0:
        return f"{len(facts)} rows"
    parts = []
    for name, fact in facts.items():
        if isinstance(fact, dict):
            parts.append(f"{name} ({brief(fact, depth - 1)})")
        elif isinstance(fact, (int, float, str)):
            parts.append(f"{name} {fact:g}" if isinstance(fact, float) else f"{name} {fact}")
    return ", ".join(parts)


if __name__ == "__main__":
    set_loudness(verbose=False)
    sys.exit(main())
