"""The command ``latentstream run`` as a person types it, and what it left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import group_offsets
from pipelines.stream_file import StreamFile

PROGRAM = "import sys; from pipelines.cli import main; sys.exit(main(sys.argv[1:]))"


def words(path: Path, models: Path, *flags: str) -> list[str]:
    """What to type behind ``latentstream``, to run to the present end."""
    return ["run", str(path), "--models", str(models), "--until", "latest", "--no-panel", "-o", "json", *flags]


def run_apart(path: Path, models: Path, *flags: str, program: str = PROGRAM) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run in a process of its own, where all that a library says is seen."""
    command = [sys.executable, "-c", program, *words(path, models, *flags)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def committed(broker: str, stream: StreamFile) -> dict[int, int]:
    """Offsets that the group has passed, by partition; zeros are left out."""
    found = group_offsets(KafkaSettings(broker), stream.group, stream.input.topic)
    return {partition: offset for partition, offset in found.items() if offset}
