"""``latentstream bench stream``: how much of the model's own speed is left behind Kafka.

Both legs run in one process on one core, in turn, on the same frames and artifact:

    bare     Detector.infer on frame batches in memory
    stream   Kafka -> decode -> infer -> codes per batch -> Kafka, the graph of ``run``

Only the ratio within a round is evidence: these figures move together when the
machine's speed does.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.options import RunSettings
from pipelines.stream_file import StreamFile, parse_stream

if TYPE_CHECKING:
    from ae_model.model import Detector

CHANNELS = 256
PARTITIONS = 16
ROUNDS = 5
SAMPLE_PERIOD_S = 0.2


@dataclass(frozen=True)
class Leg:
    """One leg of one round.

    Args:
        frames: how many went through.
        wall_s: seconds on the clock.
        cpu_s: seconds of processor time of this process, all threads.
    """

    frames: int
    wall_s: float
    cpu_s: float

    @property
    def frames_per_s(self) -> float:
        """By the clock."""
        return self.frames / self.wall_s

    @property
    def frames_per_cpu_s(self) -> float:
        """By processor time, which other tenants of the machine do not change."""
        return self.frames / self.cpu_s


@dataclass(frozen=True)
class BenchReport:
    """Rounds of both legs, and what memory did while the topic drained.

    Args:
        bare: one leg per round.
        stream: likewise.
        rss_mb: resident memory through the last stream leg, in MiB, evenly spaced.
        backlog_mb: size of the topic, in MiB.
    """

    bare: list[Leg]
    stream: list[Leg]
    rss_mb: list[float]
    backlog_mb: float

    @property
    def ratios(self) -> list[float]:
        """Stream over bare by the clock, round by round."""
        return [s.frames_per_s / b.frames_per_s for s, b in zip(self.stream, self.bare, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        """Stream over bare by processor time, round by round."""
        return [s.frames_per_cpu_s / b.frames_per_cpu_s for s, b in zip(self.stream, self.bare, strict=True)]

    @property
    def rss_growth_mb(self) -> float:
        """Median memory of the last quarter of the drain less that of the second quarter."""
        quarter = max(1, len(self.rss_mb) // 4)
        return statistics.median(self.rss_mb[-quarter:]) - statistics.median(self.rss_mb[quarter : 2 * quarter])

    def as_json(self) -> dict[str, Any]:
        """Figures for ``-o json`` and the table."""
        bare = statistics.median(leg.frames_per_s for leg in self.bare)
        stream = statistics.median(leg.frames_per_s for leg in self.stream)
        overhead = [1e6 / s.frames_per_s - 1e6 / b.frames_per_s for s, b in zip(self.stream, self.bare, strict=True)]
        return {
            "rounds": len(self.ratios),
            "bare_frames_per_s": round(bare),
            "stream_frames_per_s": round(stream),
            "ratio": round(statistics.median(self.ratios), 3),
            "ratio_range": [round(min(self.ratios), 3), round(max(self.ratios), 3)],
            "cpu_ratio": round(statistics.median(self.cpu_ratios), 3),
            "overhead_us_per_frame": round(statistics.median(overhead), 2),
            "backlog_mb": round(self.backlog_mb),
            "rss_peak_mb": round(max(self.rss_mb)),
            "rss_growth_mb": round(self.rss_growth_mb, 1),
        }


def bench_stream(bootstrap: str, *, frames: int = 400_000, rounds: int = ROUNDS) -> BenchReport:
    """Fill a topic, then run both legs in turn.

    Args:
        bootstrap: a real broker.
        frames: of 1 KiB each, over 16 partitions.
        rounds: of both legs; the median counts.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="latentstream-bench-") as folder:
        stream = make_bench_stream(f"bench.{os.getpid()}.frames.v1", bootstrap)
        models = Path(folder)
        publish_bench_model(stream, models)
        fill_topic(stream, bootstrap, frames)
        return run_rounds(stream, models, bootstrap, frames, rounds)


def run_rounds(stream: StreamFile, models: Path, bootstrap: str, frames: int, rounds: int) -> BenchReport:
    """One round to warm up, then the rounds that count."""
    from ae_model import artifact
    from pipelines.inference import load_detector

    detector = load_detector(str(artifact.resolve(models, stream.name)))
    bare: list[Leg] = []
    streamed: list[Leg] = []
    for counted in range(-1, rounds):
        bare_leg = time_leg(lambda: infer_bare(detector, frames))
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
    for _ in range(frames // step):
        detector.infer(batch)
    return frames // step * step


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

    data = models / "noise.npz"
    np.savez(data, train=make_frames(4096).reshape(-1, CHANNELS))
    train_stream(stream, f"{data}::train", models, (), lambda line: None)


def fill_topic(stream: StreamFile, bootstrap: str, frames: int) -> None:
    """Create the topics and fill the input's partitions evenly."""
    from pipelines.kafka.offsets import create_topics

    settings = KafkaSettings(bootstrap)
    create_topics(settings, dict.fromkeys([stream.input.topic, *stream.outputs.topics], PARTITIONS))
    values = [row.tobytes() for row in make_frames(512)]
    producer = make_producer(settings, batch_size=1 << 18, linger_ms=20)
    for index in range(frames):
        producer.send(stream.input.topic, values[index % 512], partition=index // 256 % PARTITIONS)
    producer.flush()
    producer.close()
