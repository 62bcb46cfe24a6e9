"""The Airflow DAG, run for real on two days of a real topic; ``make schedule`` runs it in Airflow's own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from ae_model import artifact
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import create_topics
from pipelines.replay import ReplayOptions, replay
from pipelines.stream_file import load_stream

pytestmark = pytest.mark.schedule
ROOT = Path(__file__).parents[2]
LOCK = ROOT / "infra" / "airflow" / "requirements.lock"


def airflow_python(folder: Path) -> Path:
    """An environment of the locked packages."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "--no-deps", "-r", LOCK]
    subprocess.run(install, check=True)
    return folder / "bin" / "python"


def make_signal(rows: int, seed: int) -> NDArray[np.float32]:
    """Four channels of two sines, with noise."""
    rng = np.random.default_rng(seed)
    phase = np.arange(rows)[:, None] / 7 + np.array([0.0, 1.0, 2.0, 3.0])
    return (np.sin(phase) + np.sin(phase / 5) + 0.1 * rng.normal(size=(rows, 4))).astype(np.float32)


def test_second_day_with_little_data_is_recorded_trained_and_refused(
    broker: str, topic_name: Callable[..., str], tmp_path: Path
) -> None:
    stream = {
        "name": "pumps",
        "input": {"topic": topic_name(), "channels": 4, "rate_hz": 1.0},
        "frame": {"length": 8, "hop": 1},
        "model": {"hidden": [32], "latent": 4, "epochs": 30, "batch_frames": 32, "learning_rate": 0.005},
        "kafka": {"bootstrap": broker},
    }
    (tmp_path / "pumps.yaml").write_text(yaml.safe_dump(stream))
    kafka = KafkaSettings(broker)
    create_topics(kafka, {stream["input"]["topic"]: 1})  # type: ignore[index]
    for day, rows in ((1, 20_000), (2, 260)):
        np.savez(tmp_path / "pump-1.npz", x=make_signal(rows, day))
        start = datetime(2026, 3, day, 9, tzinfo=timezone.utc)
        options = ReplayOptions(start_ms=int(start.timestamp() * 1000))
        loaded = load_stream(str(tmp_path / "pumps.yaml"))
        replay(loaded, f"{tmp_path / 'pump-1.npz'}::x", loaded.input.topic, kafka, options)

    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "infra" / "airflow"),
        "LATENTSTREAM": str(Path(sys.executable).with_name("latentstream")),
        "LATENTSTREAM_STREAM": str(tmp_path / "pumps.yaml"),
        "LATENTSTREAM_HOME": str(tmp_path / "home"),
        "LATENTSTREAM_LEAST": "200",
    }
    python = airflow_python(tmp_path / "venv")
    subprocess.run([python, "-m", "airflow", "db", "migrate"], check=True, env=environment, capture_output=True)
    ran = subprocess.run(
        [python, Path(__file__).with_name("two_days.py")], env=environment, capture_output=True, text=True, check=False
    )

    days = [line for line in ran.stdout.splitlines() if line.startswith("2026-03-0")]
    print(*days, sep="\n")
    assert len(days) == 3, ran.stderr[-3000:]
    assert days[0] == "2026-03-02 success: pumps version 1 serves now: there is no current version"
    assert days[1].startswith("2026-03-03 success: pumps version 2 was refused: its calibration error ")
    # A day that is run again makes nothing new.
    assert days[2] == days[0]
    assert artifact.versions(tmp_path / "home" / "models", "pumps") == [1, 2]
    assert artifact.current(tmp_path / "home" / "models", "pumps") == 1
    assert (tmp_path / "home" / "days" / "2026-03-03" / "report" / "report.md").is_file()
