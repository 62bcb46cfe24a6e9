"""How far a training came, kept in one file: one that was killed goes on as if nothing had happened.

Keras' BackupAndRestore keeps the weights, the optimiser and the number of the epoch. Early stopping would forget
its patience and the best weights, the history would start anew, and a kill while it writes would leave half a file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
from numpy.typing import NDArray

# What Keras' callbacks for early stopping and plateaus remember from epoch to epoch.
_REMEMBERED = ("wait", "best", "best_epoch", "cooldown_counter")
_STANDING = "standing"


@dataclass(frozen=True)
class Standing:
    """Where a training stands.

    Args:
        untrained: the loss before the first epoch.
        ended: whether early stopping had enough.
        history: ``loss`` and ``val_loss`` per epoch.
        memories: what each callback remembers, by its place.
    """

    untrained: float = math.nan
    ended: bool = False
    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "val_loss": []})
    memories: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many are done."""
        return len(self.history["loss"])


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Follows the training of a compiled model, and can put a new one where it was.

    It has to be the last callback: the others forget everything when training begins.

    Args:
        path: the file, replaced in one step after each epoch; None keeps none.
        fingerprint: of the data and settings; the file of another training counts as none.
        callbacks: those whose memory goes along, early stopping first.
    """

    def __init__(self, path: Path | None, fingerprint: str, callbacks: Sequence[Any]) -> None:
        """Nothing is read before ``restore``."""
        super().__init__()
        self.standing = Standing()
        self._path = path
        self._fingerprint = fingerprint
        self._callbacks = callbacks
        self._best: list[NDArray[Any]] = []

    def restore(self, model: Any) -> bool:
        """Put weights, optimiser and random seeds back; False where there is nothing to go on from."""
        self.set_model(model)
        model.optimizer.build(model.trainable_variables)
        standing, arrays = self._read() or (None, {})
        variables, best = _variables(model), [f"best/{i}" for i in range(len(model.weights))]
        if standing is None or any(arrays[name].shape != variable.shape for name, variable in variables.items()):
            return False
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.standing, self._best = standing, [arrays[name] for name in best]
        return True

    def start(self, untrained: float) -> None:
        """Begin with a model whose loss is ``untrained``."""
        self.standing = Standing(untrained)

    def keep_best(self) -> None:
        """Give the model the best weights so far, where no epoch is left to do."""
        self.model.set_weights(self._best)

    def on_train_begin(self, logs: Any = None) -> None:
        """Give the other callbacks their memory back."""
        for callback, remembered in zip(self._callbacks, self.standing.memories, strict=False):
            vars(callback).update(remembered)
            if self._best and hasattr(callback, "best_weights"):
                callback.best_weights = self._best

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Count the epoch in, and replace the file."""
        history = {name: [*losses, float((logs or {})[name])] for name, losses in self.standing.history.items()}
        memories = [{name: vars(each)[name] for name in _REMEMBERED if name in vars(each)} for each in self._callbacks]
        self.standing = replace(self.standing, ended=self.model.stop_training, history=history, memories=memories)
        if self._path:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        arrays = {name: variable.numpy() for name, variable in _variables(self.model).items()}
        arrays |= {f"best/{i}": weights for i, weights in enumerate(self._callbacks[0].best_weights)}
        arrays[_STANDING] = np.array(json.dumps({"fingerprint": self._fingerprint, **asdict(self.standing)}))
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)

    def _read(self) -> tuple[Standing, dict[str, NDArray[Any]]] | None:
        if self._path is None:
            return None
        try:
            # Opened here: numpy leaves a damaged file open.
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            standing = json.loads(str(arrays.pop(_STANDING)))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            # Absent, or damaged by something worse than a kill.
            return None
        return (Standing(**standing), arrays) if standing.pop("fingerprint") == self._fingerprint else None


def _variables(model: Any) -> dict[str, Any]:
    """Weights and random seeds of the model, and all that the optimiser keeps."""
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{part}/{i}": variable for part, variables in parts.items() for i, variable in enumerate(variables)}
