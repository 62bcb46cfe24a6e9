"""Models of a stream, exact linear ones unless asked otherwise, published within a second: for tests of their use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import small_models
from numpy.typing import NDArray

from ae_model import artifact
from ae_model.calibration import Threshold
from ae_model.config import NetworkConfig
from ae_model.frames import cut
from ae_model.scopes import EVERY_KEY, Scope, baseline_name
from pipelines.stream_file import StreamFile


def publish(
    stream: StreamFile, samples: NDArray[np.float32], models: Path, scope: Scope = EVERY_KEY, **network: object
) -> None:
    """A stream's model, fitted on samples (rows, channels), and as its baseline the same once more."""
    from ae_model.training import fit

    frames = cut(samples, stream.contract.length, stream.contract.hop)
    config = NetworkConfig(**{"network": "linear", "latent": 1, "batch_frames": 64, **network})  # type: ignore[arg-type]
    scaling = small_models.make_scaling(frames, config.scaling)
    fitted = fit(stream.contract, config, scaling, small_models.batches(frames), small_models.batches(frames))
    highest = float(fitted.infer(frames).scores.max())
    threshold = Threshold(value=highest, method="quantile", target=0.999, frames=len(frames))
    model = scope.name(stream.name)
    for name in (model, baseline_name(model)):
        facts = replace(small_models.facts(name), scope=scope, threshold=threshold)
        artifact.export(models / f"candidate-{name}", fitted, facts, frames[:8])
        artifact.publish(models / f"candidate-{name}", models, name)
