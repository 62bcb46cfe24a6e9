"""How a fit is followed while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ae_model.exceptions import TrainingError

# epoch (1-based), epochs, loss, val_loss, seconds left (NaN without a clock)
OnEpoch: TypeAlias = Callable[[int, int, float, float, float], None]
# epochs that were done before, epochs
OnResume: TypeAlias = Callable[[int, int], None]
Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True)
class Watch:
    """What a caller wants to know of a running fit, and to keep of it; none of it changes the weights.

    Args:
        on_epoch: told after each epoch.
        on_resume: told when a fit goes on where an earlier one was stopped.
        clock: seconds that rise, for the time left; the core reads no clock of its own.
        progress: file that keeps how far the fit came, for the next one of the same; its folder is there.
        curves: folder for the losses, as TensorBoard reads them.
    """

    on_epoch: OnEpoch | None = None
    on_resume: OnResume | None = None
    clock: Clock | None = None
    progress: Path | None = None
    curves: Path | None = None


class Reporter:
    """Tells the caller of each epoch, and stops at once where the loss is lost."""

    def __init__(self, watch: Watch, epochs: int) -> None:
        """Start the clock for ``epochs`` of them."""
        self._watch = watch
        self._epochs = epochs
        self._before = 0
        self._start = watch.clock() if watch.clock else math.nan

    def on_resume(self, done: int) -> None:
        """``done`` epochs need not be done again."""
        self._before = done
        if self._watch.on_resume:
            self._watch.on_resume(done, self._epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keras' hook, epochs from 0.

        Raises:
            TrainingError: a loss is not finite.
        """
        loss, val_loss = float(logs["loss"]), float(logs["val_loss"])
        if not (math.isfinite(loss) and math.isfinite(val_loss)):
            raise TrainingError(
                f"training, epoch {epoch + 1}: expected a finite loss. Received: loss={loss}, val_loss={val_loss}. "
                "Lower learning_rate, or use scaling=standard."
            )
        if self._watch.on_epoch:
            self._watch.on_epoch(epoch + 1, self._epochs, loss, val_loss, self._seconds_left(epoch + 1))

    def _seconds_left(self, done: int) -> float:
        if self._watch.clock is None:
            return math.nan
        return (self._watch.clock() - self._start) / (done - self._before) * (self._epochs - done)
