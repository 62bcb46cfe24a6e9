"""The detector: a model folder, verified and loaded, that answers for any number of frames."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ae_model.config import require
from ae_model.exceptions import ArtifactError, ConfigError, FrameError
from ae_model.manifest import Manifest
from ae_model.scoring import Inference
from ae_model.verify import verify

# How far golden outputs may be from those on the machine that exported, relative to their size.
GOLDEN_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Detector:
    """One version of a model, ready to infer; threads may share it.

    Args:
        path: its folder.
        manifest: what the folder says of itself, verified.
        loaded: the SavedModel; its variables live as long as it does.
    """

    path: Path
    manifest: Manifest
    loaded: Any

    @classmethod
    def load(cls, path: Path) -> Detector:
        """Verify a model folder, load it, and check that it computes what it computed at export.

        Raises:
            ArtifactError: it fails a check; nothing of it is used then.
        """
        path = Path(path)
        manifest = verify(path)
        # Recent GPUs would round inputs of products to 10 bits, and codes would depend on the machine.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            loaded = tf.saved_model.load(str(path))
        except (OSError, tf.errors.OpError, ValueError, IndexError, KeyError, TypeError) as exc:
            raise ArtifactError(
                f"model {path}: expected a SavedModel that loads. Received: {type(exc).__name__}: {exc}."
            ) from exc
        detector = cls(path, manifest, loaded)
        detector._check_golden()
        return detector

    def infer(self, frames: NDArray[Any]) -> Inference:
        """All that the model says of frames, in one pass.

        Args:
            frames: (n, length, channels) in own units, any n; taken as float32, never changed.

        Returns:
            Arrays that are views of the model's outputs, and read-only.

        Raises:
            FrameError: length or channels differ from the contract's.
        """
        outputs = self.loaded.signatures["infer"](frames=self._tensor(frames))
        return Inference(**{name: np.asarray(tensor) for name, tensor in outputs.items()})

    def encode(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Codes (n, latent), float32 or int8 as the manifest says, of frames (n, length, channels).

        Raises:
            FrameError: as ``infer``.
        """
        return np.asarray(self.loaded.signatures["encode"](frames=self._tensor(frames))["codes"])

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Frames (n, length, channels) in own units from codes (n, latent).

        Raises:
            RecordError: they are not codes of this model.
        """
        checked = tf.constant(self.manifest.codes.check(codes))
        return np.asarray(self.loaded.signatures["decode"](codes=checked)["frames"])

    def reconstruct(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Frames there and back: what is left of them after the code.

        Raises:
            FrameError: as ``infer``.
        """
        return np.asarray(self.loaded.signatures["reconstruct"](frames=self._tensor(frames))["frames"])

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """Draw frames that look like those of training; the same seed gives the same frames.

        Returns:
            (count, length, channels) in own units, the means that the decoder gives for drawn codes.

        Raises:
            ConfigError: the model is not variational, so its codes follow no known distribution.
        """
        require(count >= 0, "count", "0 or more", count)
        if self.manifest.network.variational is None:
            raise ConfigError(
                f"sample: expected a variational model. Received: {self.manifest.name}, "
                f"network={self.manifest.network.network}. Train it with model.variational: {{}}."
            )
        return self._sample(np.random.default_rng(seed).standard_normal((count, self.manifest.codes.latent)))

    def _sample(self, noise: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(self.loaded.signatures["sample"](noise=tf.constant(noise, tf.float32))["frames"])

    def _tensor(self, frames: NDArray[Any]) -> Any:
        if frames.ndim != 3 or frames.shape[1:] != self.manifest.contract.shape:
            wrong_channels = frames.ndim == 3 and frames.shape[2] != self.manifest.contract.shape[1]
            raise FrameError(
                "frame.channels" if wrong_channels else "frame.size",
                f"frames: expected (n, *{self.manifest.contract.shape}) for {self.manifest.name}. "
                f"Received: shape={frames.shape}.",
            )
        # A copy, always: a tensor may otherwise share the caller's memory.
        return tf.constant(frames, tf.float32)

    def _check_golden(self) -> None:
        golden = self._golden()
        said = dict(vars(self.infer(golden["frames"])))
        if self.manifest.network.variational:
            said["sampled"] = self._sample(golden["noise"])
        for name, received in said.items():
            expected = golden[f"expected_{name}"]
            # Frames are in own units, the rest in scaled ones.
            own_units = name in ("frames", "sampled")
            unit = np.array(self.manifest.scaling.scale, np.float32) if own_units else np.float32(1)
            # Codes of int8 wrap around when subtracted. Within the tolerance they must be the same.
            expectation = expected.astype(np.float32)
            allowed = GOLDEN_TOLERANCE * (unit + np.abs(expectation))
            distance = np.abs(received - expectation)
            if not (distance <= allowed).all():
                raise ArtifactError(
                    f"model {self.path}: expected {name} of the golden frames within {GOLDEN_TOLERANCE}. "
                    f"Received: a difference of {distance.max():g}. Export it again with this version of TensorFlow."
                )

    def _golden(self) -> dict[str, NDArray[np.float32]]:
        names = ["frames", *(f"expected_{field.name}" for field in fields(Inference))]
        if self.manifest.network.variational:
            names += ["noise", "expected_sampled"]
        try:
            with np.load(self.path / self.manifest.golden, allow_pickle=False) as archive:
                golden = {name: archive[name] for name in names}
        except (OSError, KeyError, ValueError, BadZipFile) as exc:
            raise ArtifactError(
                f"model {self.path}: expected golden frames in {self.manifest.golden}. "
                f"Received: {type(exc).__name__}: {exc}. Export it again."
            ) from exc
        if len(golden["frames"]) == 0:
            raise ArtifactError(f"model {self.path}: expected at least one golden frame. Received: 0. Export it again.")
        return golden
