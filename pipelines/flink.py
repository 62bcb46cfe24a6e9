"""Flink, the durable engine: what a job needs there, and watching one from outside until it ends.

The job is Flink's: it goes on when this process is killed. So nothing here keeps
it alive; the watcher reads Flink's state and counters, and ends the job when its
input is read or a signal comes.
"""

from __future__ import annotations

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
)
OLDEST = (1, 19)
START_S = 60.0
LOST_S = 60.0
SETTLE_S = 5.0
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


def prepare(options: PipelineOptions, stream: str) -> int:
    """Hold the engine to what the job needs, and name the job; gives how many subtasks it will have.

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


def _check_engine(master: Master, options: PipelineOptions, name: str) -> int:
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
    wanted, slots = options.view_as(FlinkRunnerOptions), int(overview["slots-available"])
    if wanted.parallelism in (None, -1):
        wanted.parallelism = slots
    if not 1 <= wanted.parallelism <= slots:
        raise ConfigError(
            f"--parallelism: expected 1 to {slots}, the free slots of Flink at {master.address}. "
            f"Received: --parallelism={wanted.parallelism}. Add --parallelism={max(1, slots)}, or more slots: "
            "latentstream services up flink --slots N"
        )
    return int(wanted.parallelism)


def watch(result: Any, options: PipelineOptions, is_over: Callable[[], bool]) -> None:
    """Follow a job that was just submitted, to its end.

    Args:
        result: what Beam gave for it.
        options: those it was submitted with.
        is_over: asked about once a second; when true, the job is ended.

    Raises:
        LatentstreamError: the source was not called within a minute, the job failed, or Flink lost it.
    """
    master = Master(options.view_as(FlinkRunnerOptions).flink_master)
    outside = options.view_as(PortableOptions).environment_type != "LOOPBACK"
    try:
        _Watch(master, options.view_as(GoogleCloudOptions).job_name, is_over, count=outside).run()
    finally:
        # Ends what runs in this process for the job; the job itself has ended.
        with suppress(grpc.RpcError):
            result.cancel()


class _Watch:
    """One job: has it begun, does it go on, is it over."""

    def __init__(self, master: Master, name: str, is_over: Callable[[], bool], *, count: bool) -> None:
        self._master = master
        self._is_over = is_over
        self._count = count
        self._deadline = time.monotonic() + START_S
        self._counted: dict[str, int] = {}
        self._job = self._find(name)

    def run(self) -> None:
        """Until it has ended."""
        self._wait_for_source()
        gone_since: float | None = None
        while True:
            try:
                if self._has_ended():
                    return
                gone_since = None
            except ConnectError:
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > LOST_S:
                    raise
            time.sleep(0.5)

    def _find(self, name: str) -> str:
        while time.monotonic() < self._deadline:
            job = self._master.find_job(name)
            if job is not None:
                return job
            time.sleep(0.2)
        raise LatentstreamError(
            f"Flink at {self._master.address}: expected the job {name} within {START_S:.0f} s. Received: none. "
            "The log of Beam's job server says why."
        )

    def _wait_for_source(self) -> None:
        """Raises where the engine has started the job and yet never asks us for a record."""
        while not self._master.has_called_source(self._job):
            if self._has_ended():
                return
            if time.monotonic() > self._deadline:
                self._master.cancel(self._job)
                raise LatentstreamError(
                    f"Flink job {self._job}: expected a call of the source within {START_S:.0f} s. Received: none. "
                    "Start the command again; the logs of the TaskManager and the worker pool say more."
                )
            time.sleep(0.2)

    def _has_ended(self) -> bool:
        state = self._master.state(self._job)
        if state == "LOST":
            raise LatentstreamError(
                f"Flink job {self._job}: expected it to run. Received: Flink at {self._master.address} knows no such "
                "job; was its JobManager restarted? Start the command again; it goes on at the committed offsets."
            )
        self._require_no_fault(state)
        if state in ENDED:
            return True
        over = self._is_over()
        self._meter()
        if over:
            self._settle()
            self._master.cancel(self._job)
        return over

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
        return _WORKER_FAULT in fault and not self._master.has_checkpoint(self._job)

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
