"""``latentstream sample``: new frames from a variational model, made of nothing but a seed. No Beam, no Kafka."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.config import require
from ae_model.exceptions import ConfigError
from ae_model.manifest import Manifest
from pipelines.frames_out import check_audio, whole_file, write_pcm16
from pipelines.pictures import plot_samples
from pipelines.tables import list_column


@dataclass(frozen=True)
class SampleReport:
    """What was drawn.

    Args:
        out: the file.
        frames: how many are in it.
        seed: what they follow from.
        model: that drew them.
        version: of the model.
    """

    out: str
    frames: int
    seed: int
    model: str
    version: int

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def sample_model(models: Path, name: str, version: int | None, out: Path, count: int, seed: int) -> SampleReport:
    """Draw frames and write them; the same model, seed and count give the same frames.

    Args:
        models: folder of models.
        name: of the model.
        version: None for the current one.
        out: .npz (array ``frames``), .parquet (a row per frame), .wav (frames end to end) or .png (a grid).
        count: how many, at least 1.
        seed: a whole number from 0.

    Raises:
        ConfigError: the suffix is unknown, a number is out of range, or the model is not variational.
        ArtifactError: the version is absent or refused.
        SinkError: the file cannot be written.
    """
    if out.suffix not in _WRITERS:
        raise ConfigError(f"out: expected a name that ends in one of {sorted(_WRITERS)}. Received: out={out}.")
    require(count >= 1, "--count", "at least 1", count)
    require(seed >= 0, "--seed", "0 or more", seed)
    path = artifact.resolve(models, name, version)
    # TensorFlow takes seconds to import: only once it is clear that there is something to do.
    from ae_model.model import Detector

    detector = Detector.load(path)
    if out.suffix == ".wav":
        check_audio(detector.manifest.contract)
    frames = detector.sample(count, seed)  # (count, length, channels)
    with whole_file(out) as temporary:
        _WRITERS[out.suffix](temporary, frames, detector.manifest, seed)
    return SampleReport(str(out), count, seed, name, detector.manifest.version)


def _write_npz(path: Path, frames: NDArray[np.float32], manifest: Manifest, seed: int) -> None:
    with open(path, "wb") as stream:
        np.savez(stream, frames=frames, seed=seed, model=manifest.name, version=manifest.version)


def _write_parquet(path: Path, frames: NDArray[np.float32], manifest: Manifest, seed: int) -> None:
    n = len(frames)
    columns = {
        "sample": pa.array(np.arange(n)),
        "seed": pa.repeat(seed, n),
        "model": pa.repeat(manifest.name, n),
        "version": pa.repeat(pa.scalar(manifest.version, pa.int32()), n),
        "frame": list_column(frames.reshape(n, -1)),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _write_wav(path: Path, frames: NDArray[np.float32], manifest: Manifest, seed: int) -> None:
    write_pcm16(path, frames.reshape(-1), manifest.contract.rate_hz or 0.0)


def _write_png(path: Path, frames: NDArray[np.float32], manifest: Manifest, seed: int) -> None:
    plot_samples(frames, path, f"{manifest.name} version {manifest.version}: samples of seed {seed}")


_WRITERS: dict[str, Callable[[Path, NDArray[np.float32], Manifest, int], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".wav": _write_wav,
    ".png": _write_png,
}
