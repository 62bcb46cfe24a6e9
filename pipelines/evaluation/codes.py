"""Codes as messages: what they cost and what is lost, beside PCA and coders without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.metrics.compression import lossless_bytes, rounded_bytes, steps_for
from ae_model.metrics.latent import active_units
from pipelines.evaluation.observation import Observation
from pipelines.evaluation.section import BASELINE, MODEL, ROLES, Column, Numbers, Section, known, set_against

LOSSLESS, ROUNDED = "lossless", "rounded"
COLUMNS = (
    Column("frame_bytes", "bytes a frame adds", ",.0f", shared=True),
    Column("code_bytes", "bytes of its code", ",.1f", leading=True),
    Column("packed_bytes", "the same, packed", ",.1f", leading=True),
    Column("ratio", "ratio, packed", ".1f"),
    Column("nrmse", "NRMSE", ".4f", leading=True),
    Column("max_error", "largest error", ".3g", leading=True),
    Column("mse", "MSE", ".4g"),
    Column("bce", "BCE", ".4f"),
    Column("bce_floor", "BCE of a copy", ".4f", shared=True),
    Column("latent", "numbers in a code", ",.0f"),
    Column("active_units", "of these active", ",.1f"),
)
_INTRO = (
    "Bytes are those of a frame on average; a frame that overlaps the one before adds only its new samples. `packed` "
    "is LZMA over all codes, column by column. NRMSE is the root mean squared error over the spread of the data and "
    "the largest error is of a single sample, both in the units in which the model scales. `lossless` is LZMA over "
    "the samples themselves; `rounded` rounds them as coarsely as gives the model's NRMSE, and packs the differences "
    "from row to row."
)
_ROLES = {**ROLES, LOSSLESS: "lossless", ROUNDED: "rounded"}


@dataclass(frozen=True)
class SampleForm:
    """How the stream's records hold one sample.

    Args:
        dtype: its type.
        scale: its value for a sample of 1 in own units.
    """

    dtype: str = "float32"
    scale: float = 1.0

    def store(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples as they were in records: a coder must not be made to pack what they never carried."""
        if np.dtype(self.dtype).kind == "f":
            return samples.astype(self.dtype, copy=False)
        return np.rint(samples.astype(np.float64) * self.scale).astype(self.dtype)


def measure(observations: Mapping[str, Observation], form: SampleForm) -> dict[str, Numbers]:
    """The numbers of one recording by role.

    Args:
        observations: of the model and, where there is one, its baseline.
        form: of one sample in the stream's records.
    """
    model = observations[MODEL]
    frame_bytes = float(np.prod(model.seen.shape[1:]) * np.dtype(form.dtype).itemsize)
    roles = {role: _measure_codes(each, frame_bytes) for role, each in observations.items()}
    if len(model.seen):
        roles |= _measure_coders(model, form, frame_bytes)
    return roles


def make_section(entities: Mapping[str, dict[str, Numbers]]) -> Section:
    """The section of all recordings, with what its numbers say."""
    section = Section("codes", "Codes and reconstructions", _INTRO, COLUMNS, dict(entities), roles=_ROLES)
    notes = [
        set_against(section, "nrmse", "NRMSE", higher_is_better=False, form=".4f"),
        _sizes_differ(section.mean),
        _beside_rounding(section),
    ]
    section.notes.extend(note for note in notes if note)
    return section


def _measure_codes(observation: Observation, frame_bytes: float) -> Numbers:
    codes, manifest = observation.codes, observation.manifest
    packed = lossless_bytes(codes) / len(codes) if len(codes) else math.nan
    errors = {name: None if value is None else known(value) for name, value in asdict(observation.distortion).items()}
    return {
        "frame_bytes": frame_bytes,
        "code_bytes": float(manifest.codes.bytes),
        "packed_bytes": known(packed),
        "ratio": known(frame_bytes / packed),
        "latent": manifest.codes.latent,
        "active_units": _count_active(observation),
        **errors,
    }


def _count_active(observation: Observation) -> int | None:
    """Of a code pulled to the standard prior: of others the variance has no scale to be judged on."""
    variational = observation.manifest.network.variational
    if variational is None or variational.prior != "standard" or len(observation.codes) == 0:
        return None
    return active_units(observation.latent)


def _measure_coders(model: Observation, form: SampleForm, frame_bytes: float) -> dict[str, Numbers]:
    """What coders without a model make of the samples that are kept."""
    rows, scale = model.rows, np.array(model.manifest.scaling.scale)
    exact = lossless_bytes(form.store(rows)) / len(model.seen)
    coders: dict[str, Numbers] = {LOSSLESS: _coder(frame_bytes, exact, 0.0, 0.0)}
    nrmse = model.distortion.nrmse
    if 0 < nrmse < 1:
        steps = steps_for(nrmse, rows, scale)
        rounded = rounded_bytes(rows, steps) / len(model.seen)
        coders[ROUNDED] = _coder(frame_bytes, rounded, nrmse, float((steps / scale / 2).max()))
    return coders


def _coder(frame_bytes: float, packed: float, nrmse: float, max_error: float) -> Numbers:
    sizes = {"frame_bytes": frame_bytes, "packed_bytes": packed, "ratio": frame_bytes / packed}
    return {**sizes, "nrmse": nrmse, "max_error": max_error}


def _sizes_differ(mean: Mapping[str, Numbers]) -> str:
    mine, other = (mean.get(role, {}).get("code_bytes") for role in (MODEL, BASELINE))
    if mine is None or other is None or mine == other:
        return ""
    return f"The two codes are not of the same size: {mine:.1f} bytes for the model, {other:.1f} for PCA."


def _beside_rounding(section: Section) -> str:
    """Whether a coder without a model needs fewer bytes for the same error."""
    pairs = section.pairs("packed_bytes", MODEL, ROUNDED)
    if not pairs:
        return ""
    mine, other = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    sizes = f"{mine:.1f} bytes a frame for the model's packed codes, {other:.1f} for rounded samples"
    if mine < other:
        return f"At the same NRMSE the codes are smaller than rounded samples: {sizes}."
    return f"At the same NRMSE rounding alone needs no more bytes than the codes: {sizes}."
