"""Airflow DAG: every night a stream's model is trained on what its devices sent that day.

record ──> check ──> evaluate ──> train ──> notify
 topic      enough    the model    gate and   one line
 to files   frames?   in service   publish

Each task is a command of latentstream in an environment of its own: Airflow and TensorFlow need
not agree on their dependencies. What a task found is kept under its logical date, and a task
that is run again for that date finds it there: clearing or retrying a run makes nothing twice.

The settings are environment variables of the workers:

LATENTSTREAM            the command (default: latentstream on the PATH)
LATENTSTREAM_STREAM     the stream file
LATENTSTREAM_HOME       folder for recordings, results and models
LATENTSTREAM_LEAST      frames of a day below which nothing is trained (default: 1000)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowSkipException
from airflow.sdk import dag, get_current_context, task
from airflow.timetables.interval import CronDataIntervalTimetable

# More unusable records than this are a fault to look at, not a day to learn from.
MOST_BAD = 0.05
EXIT_MODEL = 5


@dag(
    # A run is for the day that ended at two in the morning; a plain cron line would name no span.
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
    tags=["latentstream"],
)
def train_daily() -> None:
    """Record, check, evaluate, train and tell."""

    @task
    def record() -> dict[str, Any]:
        """The day's frames as recordings."""
        return _once("record", _record)

    @task
    def check(recorded: dict[str, Any]) -> dict[str, Any]:
        """Refuse a day of faults, and skip one that is too short."""
        _check(recorded)
        return recorded

    @task
    def evaluate(recorded: dict[str, Any]) -> dict[str, Any]:
        """What the model in service makes of a day it has not seen; nothing on the first."""
        words = ["evaluate", _stream(), "--data", recorded["data"], "--out", str(_day() / "report"), *_models()]
        return _once("evaluate", lambda: _run(*words, absent=EXIT_MODEL))

    @task
    def train(recorded: dict[str, Any]) -> dict[str, Any]:
        """A new version, which serves if the gate finds it no worse than the one in service."""
        return _once("train", lambda: _run("train", _stream(), "--data", recorded["data"], *_models()))

    @task
    def notify(made: dict[str, Any]) -> str:
        """One line for the log, the XCom, and whatever listens to either."""
        verb = "serves now" if made["promoted"] else "was refused"
        line = f"{made['model']} version {made['version']} {verb}: {made['reason']}"
        print(line)
        return line

    checked = check(record())
    made = train(checked)
    evaluate(checked) >> made
    notify(made)


def _check(recorded: dict[str, Any]) -> None:
    bad = sum(recorded["bad"].values())
    if bad > MOST_BAD * recorded["records"]:
        raise ValueError(f"records: expected at most {MOST_BAD:.0%} unusable. Received: {recorded['bad']}.")
    least = int(os.environ.get("LATENTSTREAM_LEAST", "1000"))
    if recorded["frames"] < least:
        raise AirflowSkipException(f"frames: expected at least {least}. Received: {recorded['frames']}.")


def _record() -> dict[str, Any]:
    context, out = get_current_context(), _day() / "data"
    # Of a try that ended before it told what it found.
    shutil.rmtree(out, ignore_errors=True)
    span = ["--start", _time(context["data_interval_start"]), "--until", _time(context["data_interval_end"])]
    return _run("record", _stream(), "--out", str(out), *span)


def _run(*words: str, absent: int | None = None) -> dict[str, Any]:
    """The result of a command; empty where it ends with the code that ``absent`` allows."""
    command = os.environ.get("LATENTSTREAM", "latentstream")
    done = subprocess.run([command, *words, "--output", "json"], stdout=subprocess.PIPE, text=True, check=False)
    if absent is not None and done.returncode == absent:
        return {}
    done.check_returncode()
    return dict(json.loads(done.stdout))


def _once(step: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the step found on this logical date, now or before."""
    path = _day() / f"{step}.json"
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        part.rename(path)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _day() -> Path:
    return Path(os.environ["LATENTSTREAM_HOME"]) / "days" / get_current_context()["ds"]


def _models() -> list[str]:
    return ["--models", str(Path(os.environ["LATENTSTREAM_HOME"]) / "models")]


def _stream() -> str:
    return os.environ["LATENTSTREAM_STREAM"]


def _time(moment: Any) -> str:
    return str(moment.isoformat())


train_daily()
