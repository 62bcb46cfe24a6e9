"""A stream under faults: records that prove themselves, a job, and a reader that watches what comes out.

Each record's key carries its sequence number and the CRC of its value, so that the checker
knows from any output which record it came from and whether that is still the same.
"""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import small_models
import stream_rig as rig
from kafka import TopicPartition
from kafka import errors as kafka_errors

from ae_model.exceptions import ConnectError
from pipelines.kafka import hooks
from pipelines.kafka.client import KafkaSettings, make_consumer, make_producer
from pipelines.kafka.offsets import end_offsets
from pipelines.stream_file import StreamFile, load_stream

PARTITIONS = 3
# One record in so many is bad; 0 for none.
BAD_EVERY = 100
MARK = struct.Struct(">QI")
PROGRAM = "import sys; from pipelines.cli import main; sys.exit(main(sys.argv[1:]))"
FRAME_BLOCK = 500
# Records between two looks at whether all have been taken.
PIECE = 30_000
PRODUCE_OPTIONS = {"batch_size": 1 << 16, "linger_ms": 10, "delivery_timeout_ms": 30_000, "max_block_ms": 15_000}


class Records:
    """Records of one seed, by sequence number: the partition is seq % 3, the offset seq // 3."""

    def __init__(self, seed: int, bad_every: int = BAD_EVERY) -> None:
        self.seed = seed
        # Ends a sender that is still at it.
        self.stopped = threading.Event()
        self.frames = small_models.make_frames(FRAME_BLOCK, seed)
        self._bad_every = bad_every
        self._values = [frame.tobytes() for frame in self.frames]

    def is_bad(self, seq: int) -> bool:
        return bool(self._bad_every) and seq % self._bad_every == 7

    def value(self, seq: int) -> bytes:
        if self.is_bad(seq):
            return np.random.default_rng((self.seed, seq)).bytes(1 + seq % 40)
        return self._values[seq % FRAME_BLOCK]

    def key(self, seq: int) -> bytes:
        return MARK.pack(seq, zlib.crc32(self.value(seq)))

    def send(self, bootstrap: str, topic: str, count: int, *, first: int = 0, rate: int | None = None) -> None:
        """Send ``count`` from ``first`` on, in pieces; where a producer hangs, a new one goes on at the topic's ends.

        ``first`` and ``count`` are multiples of the number of partitions.
        """
        kafka, start = KafkaSettings(bootstrap), time.monotonic()
        sent = dict.fromkeys(range(PARTITIONS), first // PARTITIONS)
        stop, producer = (first + count) // PARTITIONS, None
        while min(sent.values()) < stop and not self.stopped.is_set():
            step = max(PIECE if rate is None else int((time.monotonic() - start) * rate), 1) // PARTITIONS
            due = min(stop, first // PARTITIONS + step) if rate else min(stop, min(sent.values()) + step)
            try:
                producer = producer or make_producer(kafka, **PRODUCE_OPTIONS)
                sent = self._send_piece(producer, topic, sent, due)
            except (ConnectError, kafka_errors.KafkaError):
                if producer is not None:
                    hooks.close_producer(producer, 0)
                producer, sent = None, self._find_ends(kafka, topic, sent)
            if rate:
                time.sleep(0.1)
        if producer is not None:
            producer.close()

    def _send_piece(self, producer: Any, topic: str, sent: dict[int, int], due: int) -> dict[int, int]:
        futures = [
            producer.send(topic, self.value(seq), key=self.key(seq), partition=seq % PARTITIONS)
            for seq in (
                offset * PARTITIONS + partition
                for partition, begin in sent.items()
                for offset in range(begin, max(begin, due))
            )
        ]
        producer.flush(timeout=15)
        for future in futures:
            future.get(0)
        return {partition: max(begin, due) for partition, begin in sent.items()}

    def _find_ends(self, kafka: KafkaSettings, topic: str, sent: dict[int, int]) -> dict[int, int]:
        time.sleep(1)
        try:
            return end_offsets(kafka, topic, range(PARTITIONS))
        except ConnectError:
            return sent


class Watcher:
    """Reads the codes topic all the while, as a consumer downstream would, and notes when frames came."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.arrivals: list[tuple[float, int]] = []
        self.by_partition: list[tuple[float, int]] = []
        self._settings, self._topic = KafkaSettings(bootstrap), topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        consumer = make_consumer(self._settings)
        consumer.assign([TopicPartition(self._topic, partition) for partition in range(PARTITIONS)])
        consumer.seek_to_beginning()
        frames = 0
        while not self._stop.is_set():
            for tp, records in consumer.poll(timeout_ms=100).items():
                self.by_partition.append((time.monotonic(), tp.partition))
                frames += sum(int(dict(record.headers)["ls-frames"]) for record in records)
                self.arrivals.append((time.monotonic(), frames))
        consumer.close()

    @property
    def frames(self) -> int:
        return self.arrivals[-1][1] if self.arrivals else 0

    def wait_for(self, frames: int, patience_s: float = 300) -> None:
        deadline = time.monotonic() + patience_s
        while self.frames < frames:
            assert time.monotonic() < deadline, f"codes stalled at {self.frames} of {frames} frames"
            time.sleep(0.02)

    def longest_gap(self, start: float, end: float) -> float:
        """Seconds without a frame, between two moments."""
        times = [start, *(moment for moment, _ in self.arrivals if start < moment < end), end]
        return float(np.diff(times).max())

    def first_after(self, moment: float) -> float:
        """Seconds from a moment to the next frame."""
        return next(at for at, _ in self.arrivals if at > moment) - moment

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Job:
    """``latentstream run`` in a process of its own."""

    def __init__(self, words: Sequence[str], program: str = PROGRAM) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait(self, timeout_s: float = 400) -> tuple[int, Any, str]:
        """Exit code, summary, and what it said on stderr."""
        try:
            out, error = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, error = self.process.communicate()
            raise AssertionError(f"still running after {timeout_s} s, and said: {error[-3000:]}") from None
        return self.process.returncode, json.loads(out) if out.startswith("{") else None, error

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        code, _, error = self.wait(60)
        assert code == -signal.SIGKILL, error


class Scene:
    """One stream with its topics, its sender, its jobs and its watcher."""

    def __init__(
        self, bootstrap: str, topic: str, models: Path, folder: Path, *, count: int, seed: int = 5, **changes: Any
    ) -> None:
        self.bootstrap, self.models, self.count = bootstrap, models, count
        self.records, self.parquet = Records(seed), folder / "parquet"
        self.path = rig.write_stream(folder, topic, bootstrap, **changes)
        self.watcher: Watcher | None = None
        self._sender: threading.Thread | None = None
        self.jobs: list[Job] = []

    @cached_property
    def stream(self) -> StreamFile:
        return load_stream(str(self.path))

    @property
    def good(self) -> int:
        return self.count - sum(map(self.records.is_bad, range(self.count)))

    def send(self, rate: int | None = None) -> None:
        self.records.send(self.bootstrap, self.stream.input.topic, self.count, rate=rate)

    def send_more(self, count: int) -> None:
        """The next ``count``."""
        self.records.send(self.bootstrap, self.stream.input.topic, count, first=self.count)
        self.count += count

    def send_behind(self, rate: int) -> None:
        """Send at a steady rate while the rest goes on."""
        self._sender = threading.Thread(target=self.send, args=(rate,))
        self._sender.start()

    def watch(self) -> Watcher:
        self.watcher = Watcher(self.bootstrap, self.stream.outputs.codes or "")
        return self.watcher

    def start(self, *flags: str, until: str | None = None, program: str = PROGRAM) -> Job:
        """Run to the end of what is sent, or will be."""
        until = until or json.dumps(dict.fromkeys(map(str, range(PARTITIONS)), self.count // PARTITIONS))
        words = ["run", str(self.path), "--models", str(self.models), "--parquet", str(self.parquet)]
        self.jobs.append(Job([*words, "--until", until, "--no-panel", "-o", "json", *flags], program))
        return self.jobs[-1]

    def finish(self, until: str | None = None, timeout_s: float = 400) -> dict[str, Any]:
        """Run to the end; what it says of itself must be right."""
        code, summary, error = self.start(until=until).wait(timeout_s)
        assert (code, error, summary["balance"]) == (0, "", 0)
        return dict(summary)

    def close(self) -> None:
        for job in self.jobs:
            if job.process.poll() is None:
                job.process.kill()
                job.process.communicate()
        self.records.stopped.set()
        if self._sender is not None:
            self._sender.join()
        if self.watcher is not None:
            self.watcher.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
