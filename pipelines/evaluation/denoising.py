"""Reconstructions as clean signals, beside a clean reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.metrics.signals import si_sdr, stoi
from pipelines.evaluation.section import MODEL, ROLES, Column, Numbers, Section, known, set_against

INPUT, REFERENCE = "input", "reference"
COLUMNS = (
    Column("seconds", "seconds", ",.1f", "sum", shared=True),
    Column("si_sdr_db", "SI-SDR (dB)", ".2f", leading=True),
    Column("gain_db", "gain over the input (dB)", "+.2f", leading=True),
    Column("stoi", "STOI", ".3f", leading=True),
)
_INTRO = (
    "SI-SDR is how much of a signal is the clean one, whatever its loudness; STOI is the intelligibility of speech, "
    "0 to 1. Both are of the whole recording; the gain is over the noisy input."
)


class SignalJoiner:
    """Makes a signal of frames again: where frames overlap, the mean of them; a frame that is missing leaves zeros."""

    def __init__(self, rows: int, contract: FrameContract) -> None:
        """Start with silence of so many rows."""
        self._contract = contract
        self._sums = np.zeros((rows, len(contract.channels)))
        self._counts = np.zeros((rows, 1))

    def add(self, numbers: NDArray[np.int64], frames: NDArray[Any]) -> None:
        """Put frames (n, length, channels) where they were cut."""
        for start, frame in zip(numbers * self._contract.hop, frames, strict=True):
            self._sums[start : start + len(frame)] += frame
            self._counts[start : start + len(frame)] += 1

    def read(self) -> NDArray[np.float64]:
        """(rows, channels)."""
        return self._sums / np.maximum(self._counts, 1)


def measure(signals: Mapping[str, NDArray[Any]], rate_hz: float | None, *, speech: bool) -> dict[str, Numbers]:
    """The numbers of one recording by role.

    Args:
        signals: by role, ``input`` and ``reference`` among them, (rows, channels).
        rate_hz: samples per second; None if it is not known.
        speech: whether to judge intelligibility too.
    """
    reference = signals[REFERENCE]
    judged = {role: signal for role, signal in signals.items() if role != REFERENCE}
    ratios = {role: _mean([si_sdr(*pair) for pair in _channels(signal, reference)]) for role, signal in judged.items()}
    return {
        role: {
            "seconds": known(len(reference) / rate_hz) if rate_hz else None,
            "si_sdr_db": known(ratio),
            "gain_db": known(ratio - ratios[INPUT]) if role != INPUT else None,
            "stoi": _intelligibility(signals[role], reference, rate_hz) if speech and rate_hz else None,
        }
        for role, ratio in ratios.items()
    }


def make_section(entities: Mapping[str, dict[str, Numbers]]) -> Section:
    """The section of all recordings, with what its numbers say."""
    roles = {**ROLES, INPUT: "noisy input"}
    section = Section("denoising", "Denoising", _INTRO, COLUMNS, dict(entities), roles=roles)
    notes = [set_against(section, "si_sdr_db", "SI-SDR (dB)", form=".2f"), _worst(section), _stoi_falls(section)]
    section.notes.extend(note for note in notes if note)
    return section


def _channels(signal: NDArray[Any], reference: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return [(signal[:, channel], reference[:, channel]) for channel in range(reference.shape[1])]


def _intelligibility(signal: NDArray[Any], reference: NDArray[Any], rate_hz: float) -> float | None:
    return known(_mean([stoi(*pair, rate_hz) for pair in _channels(signal, reference)]))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _worst(section: Section) -> str:
    gains = {
        name: gain for name, roles in section.entities.items() if (gain := roles[MODEL].get("gain_db")) is not None
    }
    if not gains:
        return ""
    name = min(gains, key=lambda each: gains[each])
    worse = sum(gain < 0 for gain in gains.values())
    return (
        f"The smallest gain is {gains[name]:+.2f} dB, on {name}; {worse} of {len(gains)} became worse than the input."
    )


def _stoi_falls(section: Section) -> str:
    pairs = section.pairs("stoi", MODEL, INPUT)
    fallen = sum(mine < before for mine, before in pairs)
    return f"Speech became less intelligible (STOI) in {fallen} of {len(pairs)} recordings." if fallen else ""
