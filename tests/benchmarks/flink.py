"""The same topic through FnApiRunner and through Flink: frames per second once codes come, and Flink's checkpoints.

    python tests/benchmarks/flink.py --frames 600000 --rounds 3

Each engine runs ``latentstream run --until latest`` in processes of its own on a Kafka and a Flink
started for this, in turn. The rate is taken between a tenth and nine tenths of the codes, as a consumer
of the codes sees them: how long an engine takes to start is printed beside it and not in it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from kafka import TopicPartition

from infra.local import flink as local_flink
from infra.local import kafka as local_kafka
from pipelines.bench import PARTITIONS, fill_topic, make_bench_stream, publish_bench_model
from pipelines.flink_master import Master
from pipelines.kafka.client import KafkaSettings, make_consumer
from pipelines.kafka.offsets import create_topics, end_offsets

ENGINES = ("FnApiRunner", "FlinkRunner")


def main() -> None:
    """Start both services, fill a topic, run both engines in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flag", action="append", default=[], help="a flag of Beam's for the runs on Flink")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="latentstream-bench-") as folder:
        cache = Path(folder) / "latentstream"
        broker, flink = local_kafka.start(cache / "kafka"), local_flink.start(cache / "flink")
        try:
            compare(Path(folder), broker.bootstrap, Master(flink.web), args)
        finally:
            local_flink.stop(cache / "flink")
            local_kafka.stop(cache / "kafka")


def compare(folder: Path, bootstrap: str, master: Master, args: argparse.Namespace) -> None:
    """All rounds, and the medians."""
    stream = make_bench_stream("bench.flink.frames.v1", bootstrap)
    publish_bench_model(stream, folder)
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(stream.model_dump(mode="json", exclude_unset=True)))
    create_topics(KafkaSettings(bootstrap), dict.fromkeys([stream.input.topic, *stream.outputs.topics], PARTITIONS))
    fill_topic(stream.input.topic, KafkaSettings(bootstrap), args.frames)
    rates: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for number in range(args.rounds):
        for engine in ENGINES:
            flags = args.flag if engine == "FlinkRunner" else []
            first_s, rate = drain(engine, path, folder, bootstrap, stream.outputs.codes or "", args.frames, flags)
            rates[engine].append(rate)
            print(f"round {number + 1}, {engine}: first code after {first_s:.1f} s, {rate:,.0f} frames/s", flush=True)
        print(f"round {number + 1}, checkpoints: {checkpoints(master)}", flush=True)
    both = [statistics.median(rates[engine]) for engine in ENGINES]
    print(f"medians: {both[0]:,.0f} and {both[1]:,.0f} frames/s, ratio {both[1] / both[0]:.2f}")


def drain(
    engine: str, path: Path, folder: Path, bootstrap: str, codes: str, frames: int, flags: list[str]
) -> tuple[float, float]:
    """Seconds to the first code, and frames per second from a tenth to nine tenths of them."""
    consumer = make_consumer(KafkaSettings(bootstrap))
    consumer.assign([TopicPartition(codes, partition) for partition in range(PARTITIONS)])
    for partition, end in end_offsets(KafkaSettings(bootstrap), codes, range(PARTITIONS)).items():
        consumer.seek(TopicPartition(codes, partition), end)
    words = ["run", str(path), "--models", str(folder), "--runner", engine, "--until", "latest", "--start", "earliest"]
    line = [sys.executable, "-m", "pipelines.cli", *words, "--no-panel", *flags]
    start = time.monotonic()
    with subprocess.Popen(line, env={**os.environ, "XDG_CACHE_HOME": str(folder)}) as run:
        marks = watch(consumer, frames, run)
    consumer.close()
    if run.returncode != 0:
        raise SystemExit(f"{engine}: exit {run.returncode}")
    low, high = (next(mark for mark in marks if mark[1] >= share * frames) for share in (0.1, 0.9))
    return marks[0][0] - start, (high[1] - low[1]) / max(high[0] - low[0], 1e-9)


def watch(consumer: Any, frames: int, run: subprocess.Popen[bytes]) -> list[tuple[float, int]]:
    """When how many frames had come as codes, until all have or the run has ended."""
    marks: list[tuple[float, int]] = []
    seen = 0
    while seen < frames:
        ended = run.poll() is not None
        for records in consumer.poll(timeout_ms=100).values():
            seen += sum(int(dict(record.headers)["ls-frames"]) for record in records)
            marks.append((time.monotonic(), seen))
        if ended and seen < frames and not consumer.poll(timeout_ms=1000):
            break
    return marks


def checkpoints(master: Master) -> str:
    """How long those of the last job took."""
    jobs = sorted(master.ask("/jobs/overview")["jobs"], key=lambda job: job["start-time"])
    found = master.ask(f"/jobs/{jobs[-1]['jid']}/checkpoints")
    took, size = found["summary"]["end_to_end_duration"], found["summary"]["checkpointed_size"]
    return (
        f"{found['counts']['completed']} completed, {took['min']} to {took['max']} ms, median {took['p50']} ms, "
        f"{size['min']} to {size['max']} bytes"
    )


if __name__ == "__main__":
    main()
