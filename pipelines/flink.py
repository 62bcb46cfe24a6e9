"""Flink, the durable engine: what a job needs there, and watching one from outside until it ends.

The job is Flink's: it goes on when this process is killed. So nothing here keeps
it alive; the watcher reads Flink's state and counters, and ends the job when its
input is read or a signal comes.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from ae_model import exceptions
from ae_model.exceptions import ConfigError, ConnectError, LatentstreamError
from pipelines.flink_master import ENDED, Master
from pipelines.kafka.placement import Subtasks
from pipelines.meters import METERS

RUNNER = "FlinkRunner"
UP = "Run: latentstream services up flink"
FLAGS = (
    "--streaming",
    # Without it what an interrupted bundle had given waits for the next bundle, which may never come.
    "--finish_bundle_before_checkpointing",
    "--checkpointing_interval=2000",
    "--externalized_checkpoints_enabled",
    "--retain_externalized_checkpoints_on_cancellation",
    "--max_bundle_time_mills=200",
    "--max_bundle_size=1000",
    # Key groups, of which each makes every state cost memory.
    "--max_parallelism=32",
)
OLDEST = (1, 19)
START_S = 60.0
# As long as a source bears with a broker that is away.
LOST_S = 300.0
SETTLE_S = 10.0
# A job with more is started anew.
MAX_STATE_BYTES = 32 << 20
COUNTERS = ("read", "ok", "dead", "alerts", "clipped")
# How Beam begins what was raised in a Python worker.
_WORKER_FAULT = "Error received from SDK harness"
# What would only happen again; Flink itself starts a job over whatever the fault.
_FATAL = re.compile(
    "|".join(
        rf"\b{name}: "
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type)
        and issubclass(kind, LatentstreamError)
        and kind is not LatentstreamError
        and not kind.retriable
        and not issubclass(kind, exceptions.RecordError)
    )
)

log = logging.getLogger(__name__)


def flink_flags(beam_args: Sequence[str]) -> tuple[str, ...]:
    """The flags that every job gets, before the user's own; refuses those that lose records.

    Raises:
        ConfigError: no job server, no worker environment, or a flag that cannot work.
    """
    given = {name: value for name, _, value in (arg.partition("=") for arg in beam_args)}
    if "--job_endpoint" not in given or "--flink_master" not in given:
        raise ConfigError(
            "--runner=FlinkRunner: expected a Flink of this machine, or --job_endpoint=HOST:PORT of Beam's job server "
            f"with --flink_master=HOST:PORT of its REST interface. Received: neither. {UP}"
        )
    if "--environment_type" not in given:
        raise ConfigError(
            "--environment_type: expected where the Python workers of Flink are. Received: nothing. Add "
            "--environment_type=EXTERNAL --environment_config=HOST:PORT of a Beam worker pool, or "
            "--environment_type=LOOPBACK to run them in this process."
        )
    if "--shutdown_sources_after_idle_ms" in given:
        raise ConfigError(
            "--shutdown_sources_after_idle_ms: expected no such flag, since with it no checkpoint completes. "
            f"Received: {given['--shutdown_sources_after_idle_ms']}. Leave it out; --until ends a run."
        )
    _require_checkpoints(given)
    return FLAGS


def _require_checkpoints(given: dict[str, str]) -> None:
    value = given.get("--checkpointing_interval", "2000")
    if not value.isdigit() or int(value) < 1:
        raise ConfigError(
            "--checkpointing_interval: expected milliseconds, from 1, since without checkpoints nothing survives a "
            f"fault. Received: --checkpointing_interval={value}. Add --checkpointing_interval=2000."
        )
    if given.get("--finish_bundle_before_checkpointing", "true").lower() not in ("", "true"):
        raise ConfigError(
            "--finish_bundle_before_checkpointing: expected it to be on, since without it a job may never read. "
            "Received: false. Leave it out."
        )


def is_chosen(options: PipelineOptions) -> bool:
    """Whether the options name it."""
    return bool(options.view_as(StandardOptions).runner == RUNNER)


def prepare(options: PipelineOptions, stream: str) -> Subtasks:
    """Hold the engine to what the job needs, and name the job; gives the subtasks that it will have.

    Raises:
        ConfigError: the engine is too old, has too few slots, or runs this stream already.
        ConnectError: it does not answer.
    """
    name = job_name(stream)
    options.view_as(GoogleCloudOptions).job_name = name
    return _check_engine(Master(options.view_as(FlinkRunnerOptions).flink_master), options, name)


def job_name(stream: str) -> str:
    """What Flink calls the job of a stream."""
    return f"latentstream-{stream}"


def _check_engine(master: Master, options: PipelineOptions, name: str) -> Subtasks:
    overview = master.ask("/overview")
    version = tuple(int(part) for part in re.findall(r"\d+", overview["flink-version"])[:2])
    if version < OLDEST:
        raise ConfigError(
            f"Flink at {master.address}: expected version {'.'.join(map(str, OLDEST))} or newer. "
            f"Received: {overview['flink-version']}. Take a newer one, such as: latentstream services up flink"
        )
    running = master.find_job(name)
    if running is not None:
        raise ConfigError(
            f"stream: expected no job of it on Flink at {master.address}. Received: {name} ({running}), which runs. "
            "Stop it first: latentstream stop STREAM"
        )
    wanted, slots = options.view_as(FlinkRunnerOptions), _free_slots(master)
    if wanted.parallelism in (None, -1):
        wanted.parallelism = slots
    if not 1 <= wanted.parallelism <= slots:
        raise ConfigError(
            f"--parallelism: expected 1 to {slots}, the free slots of Flink at {master.address}. "
            f"Received: --parallelism={wanted.parallelism}. Add --parallelism={max(1, slots)}, or more slots: "
            "latentstream services up flink --slots N"
        )
    if wanted.parallelism > wanted.max_parallelism:
        raise ConfigError(
            f"--max_parallelism: expected at least {wanted.parallelism}, as many as --parallelism. Received: "
            f"--max_parallelism={wanted.max_parallelism}. Add --max_parallelism={wanted.parallelism}."
        )
    return Subtasks(wanted.parallelism, wanted.max_parallelism)


def _free_slots(master: Master) -> int:
    """Slots that no job has; those of one that has just ended come back a little later."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        overview = master.ask("/overview")
        free = int(overview["slots-available"])
        if overview["jobs-running"] or free == overview["slots-total"] or time.monotonic() > deadline:
            return free
        time.sleep(0.3)


def watch(result: Any, options: PipelineOptions, has_begun: Callable[[], bool], is_over: Callable[[], bool]) -> bool:
    """Follow a job that was just submitted, to its end; gives whether it must be started anew.

    That is so when its state has grown too large, which Beam before 2.77 never shrinks, or when a
    JobManager that was killed knows it no more. The committed offsets are where it goes on.

    Args:
        result: what Beam gave for it.
        options: those it was submitted with.
        has_begun: whether the source has been called.
        is_over: asked about once a second; when true, the job is ended.

    Raises:
        LatentstreamError: the source was not called within a minute, or the job failed.
        ConnectError: Flink or Kafka is away for too long.
    """
    master = Master(options.view_as(FlinkRunnerOptions).flink_master)
    outside = options.view_as(PortableOptions).environment_type != "LOOPBACK"
    try:
        anew = _Watch(master, options.view_as(GoogleCloudOptions).job_name, is_over, count=outside).run(has_begun)
    finally:
        # Ends what runs in this process for the job; the job itself has ended.
        with suppress(grpc.RpcError):
            result.cancel()
    if anew:
        _wait_for_slots(master, options.view_as(FlinkRunnerOptions).parallelism)
    return anew


def _wait_for_slots(master: Master, slots: int) -> None:
    deadline = time.monotonic() + LOST_S
    while master.ask("/overview")["slots-available"] < slots and time.monotonic() < deadline:
        time.sleep(0.5)


class _Watch:
    """One job: has it begun, does it go on, is it over."""

    def __init__(self, master: Master, name: str, is_over: Callable[[], bool], *, count: bool) -> None:
        self._master = master
        self._is_over = is_over
        self._count = count
        self._counted: dict[str, int] = {}
        self._anew = False
        self._silent_since: float | None = None
        self._job = self._find(name)

    def run(self, has_begun: Callable[[], bool]) -> bool:
        """Until it has ended; whether it must be started anew."""
        begun, deadline = False, time.monotonic() + LOST_S
        while not self._bear(self._has_ended):
            begun = begun or self._bear(has_begun)
            if not begun:
                deadline = self._require_call(deadline)
            time.sleep(1.0 if begun else 0.5)
        return self._anew

    def _bear(self, ask: Callable[[], bool]) -> bool:
        """The answer, or no while there is none: Flink gives none of a job that comes up, nor a restarting broker."""
        try:
            answer = ask()
        except ConnectError:
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > LOST_S:
                raise
            return False
        self._silent_since = None
        return answer

    def _find(self, name: str) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            job = self._master.find_job(name)
            if job is not None:
                return job
            time.sleep(0.2)
        raise LatentstreamError(
            f"Flink at {self._master.address}: expected the job {name} within {START_S:.0f} s. Received: none. "
            "The log of Beam's job server says why."
        )

    def _require_call(self, deadline: float) -> float:
        """Raises where the engine runs the job and yet never asks us for a record; until when it may, else."""
        if self._bear(lambda: self._master.runs_whole(self._job)):
            # The minute is the source's; Python workers may take longer to come up on a busy machine.
            deadline = min(deadline, time.monotonic() + START_S)
        if time.monotonic() > deadline:
            self._master.cancel(self._job)
            raise LatentstreamError(
                f"Flink job {self._job}: expected a call of the source within {START_S:.0f} s. Received: none. "
                "Start the command again; the logs of the TaskManager and the worker pool say more."
            )
        return deadline

    def _has_ended(self) -> bool:
        state = self._master.state(self._job)
        if state == "LOST":
            log.warning("Flink job %s: its JobManager knows it no more. Starting it anew.", self._job)
            self._anew = True
            return True
        self._require_no_fault(state)
        if state in ENDED:
            return True
        over = self._is_over()
        self._meter()
        self._anew = not over and self._master.checkpoint_bytes(self._job) > MAX_STATE_BYTES
        if over or self._anew:
            self._settle()
            self._master.cancel(self._job)
        return over or self._anew

    def _require_no_fault(self, state: str) -> None:
        faults = self._master.faults(self._job)
        fatal = [fault for fault in faults if state == "FAILED" or _FATAL.search(fault) or self._is_of_the_start(fault)]
        if not fatal:
            return
        if state not in ENDED:
            self._master.cancel(self._job)
        raise RuntimeError(f"Flink job {self._job} failed: {fatal[0]}")

    def _is_of_the_start(self, fault: str) -> bool:
        """Whether our code failed before it ever worked; starting over would tell nobody."""
        return _WORKER_FAULT in fault and not self._master.checkpoint_bytes(self._job)

    def _meter(self, *, settled: bool = False) -> bool:
        """Add to our meters what Flink's counters have grown by; after a recovery they begin at nothing.

        Only while they agree with each other, unless ``settled`` says that this will not come:
        a killed worker would leave a record counted as read and as nothing else.
        """
        if not self._count:
            return True
        totals = self._master.counters(self._job, COUNTERS)
        agree = totals.get("read", 0) == totals.get("ok", 0) + totals.get("dead", 0)
        if agree or settled:
            for name, total in totals.items():
                before = self._counted.get(name, 0)
                METERS.add(name, total - before if total >= before else total)
            self._counted = totals
        return agree

    def _settle(self) -> None:
        """Count to the end: Flink's counters come a little late."""
        deadline = time.monotonic() + SETTLE_S
        while not self._meter() and time.monotonic() < deadline:
            time.sleep(0.3)
        self._meter(settled=True)
