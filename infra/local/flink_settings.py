"""What the programs of a local Flink are told: jars, memory, ports, folders."""

from __future__ import annotations

from pathlib import Path

from infra.local.processes import HOST

# Beam's own job server 2.77 for Flink 2.2 is one jar, and these lines may name it alone where it can be had:
# "org.apache.beam:beam-runners-flink-2.2-job-server:2.77.0". Maven Central does not serve it everywhere, so what
# is named here is the newest runner that it does serve, with the parts that go together.
FLINK_JARS = (
    "org.apache.beam:beam-runners-flink-1.19:2.70.0",
    "org.apache.beam:beam-runners-java-job-service:2.65.0",
    # An older harness and expansion service would come with the job service, and hide classes of the runner.
    "org.apache.beam:beam-sdks-java-harness:2.70.0",
    "org.apache.beam:beam-sdks-java-expansion-service:2.70.0",
    # Brought in its oldest version by others, without methods that the runner calls.
    "joda-time:joda-time:2.14.0",
    "org.apache.flink:flink-runtime-web:1.19.0",
    "org.slf4j:slf4j-api:2.0.16",
    "org.slf4j:slf4j-simple:2.0.16",
)
OPENED = ("java.util", "java.lang", "java.net", "java.util.concurrent")
JAVA_FLAGS = (
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
HEAPS = {"jobmanager": "512m", "taskmanager": "1280m", "jobserver": "256m"}
# Flink's own scripts would compute them from the machine.
TASK_MEMORY = {
    "task.heap.size": "1024m",
    "task.off-heap.size": "128m",
    "managed.size": "128m",
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "jvm-metaspace.size": "256m",
    "network.min": "64m",
    "network.max": "64m",
    "jvm-overhead.min": "192m",
    "jvm-overhead.max": "192m",
}


def write_settings(folder: Path, rpc_port: int, web_port: int, slots: int) -> Path:
    """Flink's configuration folder; all of it listens on the loopback address, since who reaches Flink runs code.

    Args:
        folder: of the service.
        rpc_port: where the JobManager is found by the TaskManager.
        web_port: of the REST interface and the page.
        slots: how many subtasks the TaskManager takes.
    """
    lines = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": rpc_port,
        "jobmanager.bind-host": HOST,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": web_port,
        "rest.bind-port": web_port,
        "web.submit.enable": "false",
        "metrics.fetcher.update-interval": 1000,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.cpu.cores": slots,
        **{f"taskmanager.memory.{name}": size for name, size in TASK_MEMORY.items()},
        "io.tmp.dirs": folder / "tmp",
        "state.backend.type": "hashmap",
        "state.checkpoints.dir": (folder / "checkpoints").as_uri(),
        "state.savepoints.dir": (folder / "savepoints").as_uri(),
        "state.checkpoints.num-retained": 2,
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 10000,
        # Eight months, the most it takes: a job waits for a TaskManager that was killed, and does not fail until then.
        "resourcemanager.standalone.start-up-time": 21_000_000_000,
        # A worker that was killed is back in seconds; a fault that repeats ends the job.
        "restart-strategy.type": "failure-rate",
        "restart-strategy.failure-rate.max-failures-per-interval": 20,
        "restart-strategy.failure-rate.failure-rate-interval": "10 min",
        "restart-strategy.failure-rate.delay": "1 s",
    }
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "flink-conf.yaml").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return conf
