"""Prism, Beam's runner for one machine: where its program is, and one of it for the time of a job.

Beam would start it as well, but into our own process group, where Ctrl-C ends it
before the job is drained, and with a handler of that signal in place of ours.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.prism_runner import PrismJobServer
from apache_beam.runners.worker import sdk_worker
from apache_beam.runners.worker.sdk_worker import SdkWorker

from ae_model.exceptions import ConfigError, LatentstreamError

INSTALL = "go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
# Without a job for this long it ends itself: nobody else would, after a kill of this process.
IDLE_SHUTDOWN = "30s"
STOP_S = 10.0


def find_prism() -> str | None:
    """Path of the program: the one that PRISM_LOCATION names, on the PATH, or where ``go install`` puts it."""
    named = os.environ.get("PRISM_LOCATION") or shutil.which("prism")
    if named:
        return named
    gopath = os.environ.get("GOPATH") or Path.home() / "go"
    folders = [os.environ.get("GOBIN"), Path(gopath) / "bin"]
    return shutil.which("prism", path=os.pathsep.join(str(folder) for folder in folders if folder))


@contextmanager
def serving(options: PipelineOptions) -> Iterator[None]:
    """Run Prism as long as the block, and point the options to it; nothing where they name another engine.

    Raises:
        ConfigError: the program named is absent, or cannot be run.
        LatentstreamError: it ended before the job.
    """
    portable = options.view_as(PortableOptions)
    if options.view_as(StandardOptions).runner != "PrismRunner" or portable.job_endpoint:
        yield
        return
    _mend_worker()
    server, portable.job_endpoint = _start(options)
    try:
        yield
    except Exception as exc:
        if server.poll() is None:
            raise
        raise LatentstreamError(
            f"Prism: expected it to run as long as the job. Received: exit={server.returncode}. Was it killed? "
            "Start the command again; it goes on at the committed offsets."
        ) from exc
    finally:
        _end(server)


def _start(options: PipelineOptions) -> tuple[subprocess.Popen[bytes], str]:
    # What it says of a failed job, the job says too.
    output = None if logging.getLogger().isEnabledFor(logging.INFO) else subprocess.DEVNULL
    try:
        command, endpoint = PrismJobServer(options).subprocess_cmd_and_endpoint()
        words = [*map(str, command), f"--idle_shutdown_timeout={IDLE_SHUTDOWN}"]
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    except (ValueError, OSError, AssertionError) as exc:
        given = options.view_as(PrismRunnerOptions).prism_location
        raise ConfigError(
            f"--prism_location: expected Beam's Prism for this machine. Received: {given} "
            f"({str(exc) or 'not a file'}). Run: {INSTALL}"
        ) from exc
    return server, endpoint


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _mend_worker() -> None:
    """Keep Beam's worker, which runs in this process, from filling stderr with tracebacks.

    It prints those of errors that it reports anyway, and of a connection that is gone. And Prism
    asks for the end of every bundle of a stage that has callbacks, which the worker refuses
    where a bundle has none.
    """
    if hasattr(SdkWorker.finalize_bundle, "__wrapped__"):
        return
    sdk_worker.print = lambda *_, **__: None
    threading.excepthook = functools.partial(_tell_of_thread, threading.excepthook)
    finalize = SdkWorker.finalize_bundle

    @functools.wraps(finalize)
    def finalize_bundle(worker: Any, request: Any, instruction_id: str) -> Any:
        if worker.bundle_processor_cache.lookup(request.instruction_id) is not None:
            return finalize(worker, request, instruction_id)
        done = beam_fn_api_pb2.FinalizeBundleResponse()
        return beam_fn_api_pb2.InstructionResponse(instruction_id=instruction_id, finalize_bundle=done)

    SdkWorker.finalize_bundle = finalize_bundle


def _tell_of_thread(tell: Callable[[Any], Any], args: Any) -> None:
    if not isinstance(args.exc_value, sdk_worker.grpc.RpcError):
        tell(args)
