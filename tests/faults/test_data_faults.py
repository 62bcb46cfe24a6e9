"""Input that is huge, hostile, misdated or lopsided: counted, kept, and bounded in memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_models
import stream_rig as rig
from fault_check import check
from fault_rig import PARTITIONS, PROGRAM, Records, Scene

from infra.local import kafka
from pipelines.audit import Audit, audit_stream
from pipelines.dlq import read_letters
from pipelines.kafka.client import KafkaSettings, make_producer
from pipelines.parquet_files import read_table

Note = Callable[..., None]
Make = Callable[..., Scene]
MIB = 1 << 20
# Tells on stderr how much memory the run took at most; what getrusage says is the parent's, if that had more.
MEASURED = f"""
import atexit, re, sys
def tell():
    print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) >> 10, file=sys.stderr)
atexit.register(tell)
{PROGRAM}
"""


@pytest.fixture(scope="module")
def wide_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that takes what others would not."""
    folder = tmp_path_factory.mktemp("wide")
    properties = {"socket.request.max.bytes": "200000000", "log.message.timestamp.after.max.ms": str(2**63 - 1)}
    running = kafka.start(folder, max_message_bytes=120 * MIB, properties=properties)
    yield running.bootstrap
    kafka.stop(folder)


@pytest.fixture
def make(wide_broker: str, models: Path, topic_name: Callable[..., str], tmp_path: Path) -> Iterator[Make]:
    """Make a scene with nothing sent yet; its folder is its own."""
    scenes: list[Scene] = []

    def make(count: int = 0, **changes: Any) -> Scene:
        folder = tmp_path / str(len(scenes))
        folder.mkdir()
        scenes.append(Scene(wide_broker, topic_name(), models, folder, count=count, **changes))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


def measure(scene: Scene) -> tuple[dict[str, Any], int]:
    """Run to the end of the topic: what the run says, and its MiB at the most."""
    code, summary, error = scene.start(until="latest", program=MEASURED).wait(300)
    assert (code, summary["balance"]) == (0, 0), error
    return summary, int(error.splitlines()[-1])


def audit(scene: Scene) -> Audit:
    found = audit_stream(scene.stream, KafkaSettings(scene.bootstrap))
    assert found.ok, found
    return found


def send(scene: Scene, values: list[bytes], **options: Any) -> None:
    """Values in turn over the partitions, each a batch of its own."""
    producer = make_producer(KafkaSettings(scene.bootstrap), max_request_size=120 * MIB, delivery_timeout_ms=180_000)
    for row, value in enumerate(values):
        producer.send(scene.stream.input.topic, value, partition=row % PARTITIONS, **options).get(60)
    producer.close()


def test_d4_huge_records_stay_where_they_are_and_memory_stays_bounded(make: Make, note: Note) -> None:
    plain, huge = make(), make()
    good = [frame.tobytes() for frame in small_models.make_frames(9, 5)]
    send(plain, good)
    send(huge, [*good, b"1" * MIB, b"2" * (10 * MIB), b"3" * (100 * MIB), *good])

    _, floor = measure(plain)
    summary, peak = measure(huge)

    letters = read_letters(KafkaSettings(huge.bootstrap), huge.stream.outputs.dead_letters).letters.values()
    shown = f"peak {peak} MiB against {floor} MiB without them"
    note("D4", "records of 1, 10, 100 MiB, cap 1 MiB", note=shown, lost=audit(huge).lost_count)
    # One of exactly 1 MiB is at the cap, and no frame; its bytes fit among the dead letters.
    assert sorted((letter.code, letter.by_reference) for letter in letters) == [
        ("frame.size", False),
        ("record.too_large", True),
        ("record.too_large", True),
    ]
    assert (summary["ok"], summary["dead"]) == (18, 3)
    # What a fetch brings is held once as it came and once in the buffer of the socket.
    assert peak - floor <= 400


def test_d5_bomb_is_refused_at_the_cap(make: Make, note: Note) -> None:
    plain, bombed = make(), make()
    good = [frame.tobytes() for frame in small_models.make_frames(9, 5)]
    send(plain, good)
    send(bombed, good)
    producer = make_producer(
        KafkaSettings(bombed.bootstrap),
        compression_type="zstd",
        batch_size=600 * MIB,
        linger_ms=60_000,
        max_request_size=1 << 30,
    )
    for _ in range(512):
        producer.send(bombed.stream.input.topic, bytes(MIB - 64), partition=0)
    producer.flush()
    producer.close()
    send(bombed, good)

    _, floor = measure(plain)
    summary, peak = measure(bombed)

    shown = f"512 MiB in one batch, peak {peak} MiB against {floor} MiB"
    note("D5", "decompression bomb, cap 64 MiB", note=shown, lost=audit(bombed).lost_count)
    assert (summary["ok"], summary["dead"]) == (18, 512)
    assert peak - floor <= 200


def test_d7_timestamps_of_any_kind_change_nothing_but_themselves(make: Make, note: Note) -> None:
    scene = make()
    records, now = Records(5), int(time.time() * 1000)
    day = 86_400_000
    times = [now, now + day, now - 365 * day, 0, now - 3_600_000, now + 3650 * day, 1, now - day]
    producer = make_producer(KafkaSettings(scene.bootstrap))
    count = 240
    for seq in range(count):
        stamp = times[seq // PARTITIONS % len(times)]
        key, value = records.key(seq), records.value(seq)
        producer.send(scene.stream.input.topic, value, key=key, partition=seq % PARTITIONS, timestamp_ms=stamp)
    producer.close()
    scene.count = count

    summary = scene.finish(until="latest")

    found = check(scene)
    stamps = Counter(stamp.value for stamp in read_table(scene.parquet, "scores").column("timestamp"))
    note("D6, D7", "late, early, 0, out of order", found, note=f"{len(stamps)} distinct times kept")
    found.require(5)
    assert summary["read"] == count
    assert set(stamps) == set(times)


def test_d10_hot_partition_does_not_hold_the_others_back(make: Make, note: Note) -> None:
    scene = make()
    records = Records(5, bad_every=0)
    producer = make_producer(KafkaSettings(scene.bootstrap), batch_size=1 << 17, linger_ms=20)
    for _ in range(200):
        for seq in range(500):
            producer.send(scene.stream.input.topic, records.value(seq), partition=0 if seq % 20 else 1 + seq // 20 % 2)
    producer.close()
    watcher = scene.watch()

    summary, _ = measure(scene)

    end = watcher.arrivals[-1][0] - watcher.arrivals[0][0]
    others = [moment for moment, partition in watcher.by_partition if partition]
    done = max(others) - watcher.arrivals[0][0]
    note("D10", "90 % in one partition", lost=audit(scene).lost_count, note=f"others done at {done:.1f} of {end:.1f} s")
    assert summary["ok"] == 100_000
    # They are a tenth; turn by turn they end long before the hot one.
    assert done <= max(0.6 * end, 1.0)


def test_d8_empty_partitions_hold_nothing_back(make: Make, note: Note) -> None:
    scene = make()
    producer = make_producer(KafkaSettings(scene.bootstrap))
    for frame in small_models.make_frames(40, 5):
        producer.send(scene.stream.input.topic, frame.tobytes(), partition=1)
    producer.send(scene.stream.input.topic, rig.strange_frame().tobytes(), partition=1)
    producer.close()

    summary = scene.finish(until="latest")

    note("D8", "two of three partitions empty", lost=audit(scene).lost_count, note=f"alerts {summary['alerts']}")
    assert (summary["ok"], summary["alerts"] >= 1) == (41, True)


def test_w7_ten_times_the_backlog_takes_no_more_memory(make: Make, note: Note) -> None:
    peaks, rates = [], []
    for count in (30_000, 300_000):
        scene = make()
        records = Records(5, bad_every=0)
        producer = make_producer(KafkaSettings(scene.bootstrap), batch_size=1 << 17, linger_ms=20)
        for seq in range(count):
            producer.send(scene.stream.input.topic, records.value(seq), partition=seq % PARTITIONS)
        producer.close()
        summary, peak = measure(scene)
        peaks.append(peak)
        rates.append(round(summary["ok"] / summary["seconds"]))
        assert summary["ok"] == count

    shown = f"peak {peaks[0]} and {peaks[1]} MiB; {rates[0]} and {rates[1]} frames/s"
    note("W7", "backlog of 30,000 and 300,000", note=shown)
    assert peaks[1] <= 1.3 * peaks[0]


def test_d1_one_bad_record_in_a_hundred_costs_little(make: Make, note: Note) -> None:
    rates = {}
    for name, bad_every in (("clean", 0), ("poisoned", 100), ("clean again", 0)):
        scene = make()
        records = Records(5, bad_every)
        producer = make_producer(KafkaSettings(scene.bootstrap), batch_size=1 << 17, linger_ms=20)
        for seq in range(100_000):
            producer.send(scene.stream.input.topic, records.value(seq), partition=seq % PARTITIONS)
        producer.close()
        summary, _ = measure(scene)
        rates[name] = summary["read"] / summary["seconds"]
        assert summary["dead"] == (1000 if bad_every == 100 else 0)

    clean = max(rates["clean"], rates["clean again"])
    note("D1", "1 % poison", note=f"speed {rates['poisoned'] / clean:.2f} of clean; clean {clean:,.0f} frames/s")
