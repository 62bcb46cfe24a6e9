"""Brokers that stop, die, move and refuse, under a stream that goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stream_rig as rig
from command_rig import committed
from fault_check import check
from fault_rig import PARTITIONS, Scene
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from infra.local import kafka
from infra.local.cluster import Cluster
from infra.local.kafka import Broker
from pipelines.audit import audit_stream
from pipelines.kafka.client import KafkaSettings, make_admin, make_producer

Note = Callable[..., None]
Make = Callable[..., Scene]
COUNT, RATE = 45_000, 1_500
# How long nothing may come, by row of the fault matrix.
RESTART_S, KILL_S, MOVE_S = 15, 30, 2
PATIENCE_S = 400
# Of the kinds of election.
PREFERRED = 0
GUARANTEES = ("at_least_once", "exactly_once")


@pytest.fixture
def make(models: Path, topic_name: Callable[..., str], tmp_path: Path) -> Iterator[Make]:
    """Make a scene on the brokers given, which begins with the job at work."""
    scenes: list[Scene] = []

    def make(bootstrap: str, **changes: Any) -> Scene:
        scenes.append(Scene(bootstrap, topic_name(), models, tmp_path, **{"count": COUNT, **changes}))
        scene = scenes[-1]
        watcher = scene.watch()
        scene.send_behind(RATE)
        scene.start()
        watcher.wait_for(int(0.2 * scene.good))
        return scene

    yield make
    for scene in scenes:
        scene.close()


def await_end(scene: Scene) -> int:
    """Wait for all frames as a supervisor does: a run that gives up is started again. How often that was."""
    assert scene.watcher is not None
    restarts, deadline = 0, time.monotonic() + PATIENCE_S
    while scene.watcher.frames < scene.good:
        if time.monotonic() > deadline:
            scene.jobs[-1].signal(signal.SIGKILL)
            said = scene.jobs[-1].wait(60)[2][-2000:]
            pytest.fail(
                f"codes stalled at {scene.watcher.frames} of {scene.good}, restarts {restarts}; it said: {said}"
            )
        if scene.jobs[-1].process.poll() not in (None, 0):
            code, _, error = scene.jobs[-1].wait()
            assert (code, restarts < 9) in ((3, True), (7, True)), error
            restarts += 1
            scene.start()
        time.sleep(0.1)
    return restarts


def conclude(scene: Scene, write: Note, row: str, fault: str, since: float, limit_s: float, **figures: Any) -> None:
    """Wait for the end, check all, and write the row; the silence is counted from ``since``."""
    restarts = await_end(scene)
    assert scene.watcher is not None
    gap = scene.watcher.longest_gap(since, scene.watcher.arrivals[-1][0])
    code, summary, error = scene.jobs[-1].wait(240)
    found, lines = check(scene), len(error.splitlines())
    shown = f"within {limit_s:.0f} s: {'yes' if gap <= limit_s else 'no'}; log lines {lines}; restarts {restarts}"
    more = f"; {figures.pop('note')}" if "note" in figures else ""
    write(row, fault, found, gap_s=gap, **figures, note=shown + more)
    found.require(scene.records.seed)
    assert (code, summary["balance"]) == (0, 0), error
    assert lines <= 100
    if scene.stream.guarantee == "exactly_once":
        assert found.replayed == 0


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_b1_broker_restarts(guarantee: str, own_broker: Broker, make: Make, note: Note) -> None:
    scene = make(own_broker.bootstrap, guarantee=guarantee)

    fell = time.monotonic()
    kafka.stop(Path(own_broker.folder))
    time.sleep(max(0.0, fell + 5 - time.monotonic()))
    kafka.start(Path(own_broker.folder), port=own_broker.port)
    back = time.monotonic()
    # What nobody can mend while the broker is away counts from its return.
    conclude(scene, note, "B1", f"broker away for 5 s, {guarantee}", fell, RESTART_S + back - fell)


def leaders(cluster: Cluster, topic: str) -> list[int]:
    with make_admin(KafkaSettings(cluster.bootstrap)) as admin:
        found = admin.describe_topics([topic])[0]["partitions"]
    return [part["leader_id"] for part in sorted(found, key=lambda part: part["partition_index"])]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_b2_one_of_three_brokers_is_killed(guarantee: str, cluster: Cluster, make: Make, note: Note) -> None:
    scene = make(cluster.bootstrap, guarantee=guarantee)
    victim = leaders(cluster, scene.stream.input.topic)[0]

    fell = time.monotonic()
    cluster.kill(victim)
    time.sleep(10)
    cluster.start(victim)

    conclude(scene, note, "B2", f"1 of 3 brokers killed, back after 10 s, {guarantee}", fell, KILL_S)


def test_b3_all_leaders_move(cluster: Cluster, make: Make, note: Note) -> None:
    scene = make(cluster.bootstrap)
    stream = scene.stream
    topics = [stream.input.topic, *stream.outputs.topics]
    before = leaders(cluster, stream.input.topic)
    turned = {
        TopicPartition(topic, partition): [(partition + step + 1) % 3 + 1 for step in range(3)]
        for topic in topics
        for partition in range(PARTITIONS)
    }
    wanted = [turned[TopicPartition(stream.input.topic, p)][0] for p in range(PARTITIONS)]
    if wanted == before:
        turned = {tp: [copies[1], copies[2], copies[0]] for tp, copies in turned.items()}

    fell = time.monotonic()
    with make_admin(KafkaSettings(cluster.bootstrap)) as admin:
        admin.alter_partition_reassignments(turned)
        admin.elect_leaders(PREFERRED, {topic: list(range(PARTITIONS)) for topic in topics})
    after = leaders(cluster, stream.input.topic)

    conclude(scene, note, "B3", "all leaders move", fell, MOVE_S, note=f"{before} to {after}")
    assert all(one != other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("which", ["input", "codes"])
def test_b4_leader_is_gone_and_no_copy_can_take_over(which: str, cluster: Cluster, make: Make, note: Note) -> None:
    scene = make(cluster.bootstrap)
    topic = scene.stream.input.topic if which == "input" else scene.stream.outputs.codes or ""
    with make_admin(KafkaSettings(cluster.bootstrap)) as admin:
        admin.alter_partition_reassignments({TopicPartition(topic, p): [p + 1] for p in range(PARTITIONS)})
        while admin.list_partition_reassignments():
            time.sleep(0.2)

    fell = time.monotonic()
    cluster.kill(1)
    time.sleep(20)
    seen = leaders(cluster, topic)
    cluster.start(1)
    back = time.monotonic()

    conclude(scene, note, "B4", f"only copy's broker away, {which}", fell, KILL_S + back - fell, note=f"leaders {seen}")
    assert seen[0] == -1


def test_b5_group_coordinator_is_killed_and_commits_go_on(cluster: Cluster, make: Make, note: Note) -> None:
    scene = make(cluster.bootstrap)
    victim = leaders(cluster, "__consumer_offsets")[0]

    fell = time.monotonic()
    cluster.kill(victim)
    time.sleep(5)
    cluster.start(victim)

    conclude(scene, note, "B5", "group coordinator killed", fell, KILL_S)
    assert committed(scene.bootstrap, scene.stream) == dict.fromkeys(range(PARTITIONS), COUNT // PARTITIONS)


def test_b6_writes_are_refused_for_want_of_replicas(cluster: Cluster, make: Make, note: Note) -> None:
    scene = make(cluster.bootstrap)
    with make_admin(KafkaSettings(cluster.bootstrap)) as admin:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, name, configs={"min.insync.replicas": "3"})
                for name in scene.stream.outputs.topics
            ]
        )

    fell = time.monotonic()
    cluster.stop(3)
    time.sleep(15)
    cluster.start(3)
    back = time.monotonic()

    conclude(scene, note, "B6", "NOT_ENOUGH_REPLICAS", fell, KILL_S + back - fell)


def test_b8_partitions_that_are_added_are_read_by_the_next_run(own_broker: Broker, make: Make, note: Note) -> None:
    scene = make(own_broker.bootstrap)
    topics = [scene.stream.input.topic, *scene.stream.outputs.topics]

    with make_admin(KafkaSettings(own_broker.bootstrap)) as admin:
        admin.create_partitions(dict.fromkeys(topics, 6))
    await_end(scene)
    assert scene.jobs[-1].wait()[0] == 0
    check(scene).require(scene.records.seed)
    producer = make_producer(KafkaSettings(own_broker.bootstrap))
    for partition in (3, 4, 5):
        for value in rig.good_values(10):
            producer.send(topics[0], value, partition=partition)
    producer.close()
    summary = scene.finish(until="latest")

    audit = audit_stream(scene.stream, KafkaSettings(own_broker.bootstrap))
    shown = f"the next run reads them: {summary['read']}, lost {audit.lost_count}"
    note("B8", "partitions 3 to 6 while it runs", note=shown)
    assert (summary["read"], audit.records, audit.ok) == (30, COUNT + 30, True)
