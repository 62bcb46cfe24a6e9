"""Losses and learning rate per epoch, as TensorBoard reads them.

Keras' own callback asks for TensorBoard to be installed beside the training, only to write these; TensorFlow can
write them alone. Names and folders are those of Keras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.framework.summary_pb2 import DATA_CLASS_SCALAR, SummaryMetadata

_SCALAR = SummaryMetadata(
    plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"), data_class=DATA_CLASS_SCALAR
).SerializeToString()


class Curves(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends to event files in ``folder/train`` and ``folder/validation``."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written before the first epoch has ended."""
        super().__init__()
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write one point of each curve, to be seen at once."""
        values = logs or {}
        self._write("train", "epoch_loss", values["loss"], epoch)
        self._write("train", "epoch_learning_rate", self.model.optimizer.learning_rate, epoch)
        self._write("validation", "epoch_loss", values["val_loss"], epoch)

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, part: str, name: str, value: Any, epoch: int) -> None:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))
        with self._writers[part].as_default():
            tf.summary.write(name, tf.cast(tf.convert_to_tensor(value), tf.float32), epoch, metadata=_SCALAR)
        self._writers[part].flush()
