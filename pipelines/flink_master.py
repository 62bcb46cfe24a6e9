"""What Flink's REST interface says and does: the jobs, their counters and faults, and how to end them.

Asked directly and not through Beam's job server, which may be gone while the job goes on.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from typing import Any

from ae_model.exceptions import ConnectError, LatentstreamError

ENDED = ("CANCELED", "FAILED", "FINISHED", "SUSPENDED")
_ANSWER_S = 10.0
_SAVEPOINT_S = 300.0


class Master:
    """The JobManager of a Flink.

    Args:
        address: ``http://HOST:PORT`` of its REST interface.
    """

    def __init__(self, address: str) -> None:
        """Keep the address; nothing connects yet."""
        self.address = address if "://" in address else f"http://{address}"

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """The answer to one request.

        Raises:
            ConnectError: none came.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data, {"Content-Type": "application/json"}, method=method or ("POST" if data else None)
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return json.load(answer)
        except (OSError, ValueError) as exc:
            raise ConnectError(
                f"Flink at {self.address}: expected an answer to {path}. Received: {exc}. "
                "Is it up? `latentstream services status flink`"
            ) from exc

    def find_job(self, name: str) -> str | None:
        """Id of the job of this name that has not ended."""
        jobs = [job for job in self.ask("/jobs/overview")["jobs"] if job["name"] == name and job["state"] not in ENDED]
        return str(jobs[0]["jid"]) if jobs else None

    def state(self, job: str) -> str:
        """``RUNNING``, ``RESTARTING``, one of ENDED, and so on; ``LOST`` where Flink knows no such job."""
        for known in self.ask("/jobs/overview")["jobs"]:
            if known["jid"] == job:
                return str(known["state"])
        return "LOST"

    def faults(self, job: str) -> list[str]:
        """Tracebacks of what made the job start over or fail, newest first."""
        entries = self.ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in entries]

    def checkpoint_bytes(self, job: str) -> int:
        """Size of the last one that was completed; 0 when none was."""
        last = self.ask(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        return 0 if last is None else int(last["state_size"])

    def runs_whole(self, job: str) -> bool:
        """Whether all its subtasks run, and so have their workers."""
        counts = self.ask(f"/jobs/{job}")["status-counts"]
        return bool(counts["RUNNING"]) and not any(number for name, number in counts.items() if name != "RUNNING")

    def counters(self, job: str, names: Collection[str]) -> dict[str, int]:
        """Our own counters, since the job or its last recovery began; what is not there yet is left out."""
        totals: dict[str, int] = {}
        for step in self._steps(job):
            path = f"/jobs/{job}/vertices/{step['id']}/subtasks/metrics"
            full = {known["id"]: known["id"].rpartition(".latentstream_")[2] for known in self.ask(path)}
            wanted = [known for known, name in full.items() if name in names]
            if not wanted:
                continue
            # All in one answer, so that they belong together.
            for value in self.ask(f"{path}?agg=sum&get={urllib.parse.quote(','.join(wanted))}"):
                totals[full[value["id"]]] = totals.get(full[value["id"]], 0) + int(value["sum"])
        return totals

    def cancel(self, job: str) -> None:
        """End a job and wait until it has; its last checkpoint stays.

        Raises:
            LatentstreamError: it does not end.
        """
        self.ask(f"/jobs/{job}?mode=cancel", {}, "PATCH")
        self.wait_until_ended(job)

    def wait_until_ended(self, job: str, seconds: float = 60.0) -> None:
        """Wait for a job that was asked to end.

        Raises:
            LatentstreamError: it does not.
        """
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in (*ENDED, "LOST"):
            if time.monotonic() > deadline:
                raise LatentstreamError(f"Flink job {job}: expected its end in {seconds:.0f} s. Received: {state}.")
            time.sleep(0.2)

    def stop(self, job: str) -> str:
        """End a job with a savepoint; gives where it is.

        Raises:
            LatentstreamError: the savepoint failed; the job goes on.
        """
        trigger = self.ask(f"/jobs/{job}/stop", {"drain": False})["request-id"]
        deadline = time.monotonic() + _SAVEPOINT_S
        while time.monotonic() < deadline:
            answer = self.ask(f"/jobs/{job}/savepoints/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                return self._location(job, answer["operation"])
            time.sleep(0.2)
        raise LatentstreamError(f"Flink job {job}: expected a savepoint in {_SAVEPOINT_S:.0f} s. Received: none.")

    def _location(self, job: str, done: dict[str, Any]) -> str:
        if "location" not in done:
            cause = str(done.get("failure-cause", {}).get("stack-trace", done)).splitlines()[0]
            raise LatentstreamError(f"Flink job {job}: expected a savepoint. Received: {cause}. The job goes on.")
        self.wait_until_ended(job)
        return str(done["location"])

    def _steps(self, job: str) -> list[dict[str, Any]]:
        return list(self.ask(f"/jobs/{job}")["vertices"])
