"""Trainings that are not finished: what they keep beside the models, so that a killed one can go on.

    models/.unfinished-<name>.npz     replaced after each epoch, gone when the model is published or refused

Only a process that was killed leaves one, for the next training of that model: of the same data and settings it
goes on from there, of others it starts anew and replaces the file.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ae_model.exceptions import LatentstreamError


def progress_file(models: Path | str, name: str) -> Path:
    """Where a model's training keeps how far it came."""
    return Path(models) / f".unfinished-{name}.npz"


def forget(models: Path | str, name: str) -> None:
    """Remove what a training of the model kept, and what a kill while it wrote left beside it."""
    path = progress_file(models, name)
    for left in path.parent.glob(f"{glob.escape(path.name)}*"):
        left.unlink(missing_ok=True)


@contextmanager
def forgetting_refused(models: Path | str, name: str) -> Iterator[None]:
    """Forget a training that ends in an error of its data or settings, which would come again."""
    try:
        yield
    except LatentstreamError:
        forget(models, name)
        raise
