"""``latentstream bench stream``: how much of the model's own speed is left behind Kafka.

Both legs run in one process on one core, in turn, on the same frames and artifact:

    bare     Detector.infer on frame batches in memory
    stream   Kafka -> decode -> infer -> codes per batch -> Kafka, the graph of ``run``

Only the ratio within a round is evidence: these figures move together when the
machine's speed does.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.bench_report import BenchReport, Leg
from pipelines.kafka.client import KafkaSettings, make_admin, make_producer
from pipelines.kafka.offsets import create_topics
from pipelines.options import RunSettings
from pipelines.stream_file import StreamFile, parse_stream

if TYPE_CHECKING:
    from ae_model.model import Detector

CHANNELS = 256
PARTITIONS = 16
# Records that follow each other in a partition.
RUN_LENGTH = 256
POISON = b"no frame"
# 2 GB: enough that the start of a pipeline is a twentieth of its time, and that memory which grows is seen to.
FRAMES = 2_000_000
ROUNDS = 5
BARE_FRAMES = 1_000_000
SAMPLE_PERIOD_S = 0.2


def bench_stream(bootstrap: str, *, frames: int = FRAMES, rounds: int = ROUNDS) -> BenchReport:
    """Fill a topic, then run both legs in turn; the topics are deleted afterwards.

    Args:
        bootstrap: a real broker.
        frames: of 1 KiB each, over 16 partitions.
        rounds: of both legs; the median counts.
    """
    settings = KafkaSettings(bootstrap)
    stream = make_bench_stream(f"bench.{os.getpid()}.frames.v1", bootstrap)
    topics = [stream.input.topic, *stream.outputs.topics]
    with tempfile.TemporaryDirectory(prefix="latentstream-bench-") as folder, one_core():
        models = Path(folder)
        publish_bench_model(stream, models)
        create_topics(settings, dict.fromkeys(topics, PARTITIONS))
        try:
            fill_topic(stream.input.topic, settings, frames)
            return run_rounds(stream, models, bootstrap, frames, rounds)
        finally:
            with make_admin(settings) as admin:
                admin.delete_topics(topics)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep all threads of this process on one core; afterwards they may go where they could before."""
    before = os.sched_getaffinity(0)
    _pin_threads({min(before)})
    try:
        yield
    finally:
        _pin_threads(before)


def _pin_threads(cores: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        # A thread may end meanwhile; a new one is where the one is that started it.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def run_rounds(stream: StreamFile, models: Path, bootstrap: str, frames: int, rounds: int) -> BenchReport:
    """One round to warm up, then the rounds that count."""
    from ae_model import artifact
    from pipelines.detectors import DETECTORS

    detector = DETECTORS.get(str(artifact.resolve(models, stream.name)))
    bare: list[Leg] = []
    streamed: list[Leg] = []
    for counted in range(-1, rounds):
        bare_leg = time_leg(lambda: infer_bare(detector, min(frames, BARE_FRAMES)))
        with sample_rss() as rss_mb:
            stream_leg = time_leg(lambda: drain_topic(stream, models, bootstrap))
        if counted >= 0:
            bare.append(bare_leg)
            streamed.append(stream_leg)
    return BenchReport(bare, streamed, rss_mb, backlog_mb=frames * CHANNELS * 4 / 2**20)


def time_leg(leg: Callable[[], int]) -> Leg:
    """Run a leg, which returns its number of frames, under both clocks."""
    cpu, wall = _cpu_s(), time.perf_counter()
    frames = leg()
    return Leg(frames, time.perf_counter() - wall, _cpu_s() - cpu)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def infer_bare(detector: Detector, frames: int) -> int:
    """The model alone, on frame batches of the size its manifest names."""
    step = detector.manifest.batch_frames
    batch = make_frames(step)
    calls = math.ceil(frames / step)
    for _ in range(calls):
        detector.infer(batch)
    return calls * step


def drain_topic(stream: StreamFile, models: Path, bootstrap: str) -> int:
    """The whole topic through the graph of ``run``."""
    from pipelines.stream import run_stream

    summary = run_stream(stream, RunSettings(bootstrap, models, until="latest", start="earliest", panel=False))
    return int(summary.ok)


@contextmanager
def sample_rss() -> Iterator[list[float]]:
    """Note the resident memory, in MiB, while the block runs."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_PERIOD_S):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            samples.append(pages * resource.getpagesize() / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def make_frames(count: int) -> NDArray[np.float32]:
    """(count, 1, 256) noise, the same every time."""
    return np.random.default_rng(0).standard_normal((count, 1, CHANNELS), dtype=np.float32)


def make_bench_stream(topic: str, bootstrap: str) -> StreamFile:
    """1 KiB frames, dense 256-128-16, codes per batch and nothing else."""
    return parse_stream(
        {
            "name": "bench",
            "input": {"topic": topic, "format": "raw", "channels": CHANNELS, "partitions": PARTITIONS},
            "model": {"network": "dense", "hidden": [128], "latent": 16, "epochs": 1},
            "outputs": {"denoised": None, "alerts": None},
            "kafka": {"bootstrap": bootstrap},
        },
        "bench",
    )


def publish_bench_model(stream: StreamFile, models: Path) -> None:
    """Train for an epoch on noise: the speed of a network does not depend on its weights."""
    from pipelines.train import train_stream

    length, channels = stream.contract.shape
    noise = np.random.default_rng(0).standard_normal((4096 * length, channels), dtype=np.float32)
    data = models / "noise.npz"
    np.savez(data, train=noise)
    train_stream(stream, f"{data}::train", models, (), lambda line: None)


def fill_topic(topic: str, settings: KafkaSettings, frames: int, poison: int = 0) -> None:
    """Fill a topic's partitions evenly with frames of 1 KiB; ``poison`` in a hundred records are no frames."""
    values = [row.tobytes() for row in make_frames(512)]
    producer = make_producer(settings, batch_size=1 << 18, linger_ms=20)
    for index in range(frames):
        value = POISON if index * poison % 100 < poison else values[index % 512]
        producer.send(topic, value, partition=index // RUN_LENGTH % PARTITIONS)
    producer.flush()
    producer.close()
