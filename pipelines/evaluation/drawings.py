"""The pictures of a report, drawn from what its numbers were made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.metrics.compression import rounded_bytes, steps_for
from pipelines import pictures
from pipelines.evaluation.codes import LOSSLESS
from pipelines.evaluation.denoising import INPUT, REFERENCE
from pipelines.evaluation.observation import Observation
from pipelines.evaluation.section import BASELINE, MODEL, ROLES, Numbers, Section
from pipelines.evaluation.subjects import Subject

_SUMMARISED = ("vus_pr", "gain_db", "accuracy", "nrmse")
# How much is shown around the strangest frame, to either side, and of how many channels.
_AROUND_ROWS = 120
_CHANNELS = 4
_IMAGES = 10
_WAVE_S = 3.0
_CURVE_NRMSE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
_POINTS = 20_000


def draw_subject(subject: Subject, out: Path) -> dict[str, str]:
    """Draw one recording; returns file names by caption."""
    drawn: dict[str, str] = {}
    for kind, caption, draw in _choose(subject) if len(subject.model.seen) else ():
        file, title = _name(subject, kind, caption)
        draw(subject, out / file, title)
        drawn[title] = file
    return drawn


def draw_codes(subject: Subject, coded: Mapping[str, Numbers], out: Path) -> dict[str, str]:
    """Draw codes and what they cost, for recordings without labels.

    Args:
        subject: one recording, or several that the same models answer for.
        coded: what the codes cost, by role.
        out: folder.

    Returns:
        File names by caption.
    """
    drawn: dict[str, str] = {}
    if LOSSLESS in coded:
        file, title = _name(subject, "rates", "what a code costs and what is lost")
        _draw_rates(subject, coded, out / file, title)
        drawn[title] = file
    if BASELINE in subject.observations and subject.classes is None and len(subject.model.codes):
        file, title = _name(subject, "codes", "latent codes")
        _draw_codes(subject, out / file, title)
        drawn[title] = file
    return drawn


def _name(subject: Subject, kind: str, caption: str) -> tuple[str, str]:
    """File and title."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', subject.name)}-{kind}.png", f"{subject.name}: {caption}"


def draw_summary(section: Section, out: Path) -> dict[str, str]:
    """The number that leads a section, of all entities in one picture; nothing for a single entity."""
    column = next((column for column in section.columns if column.name in _SUMMARISED), None)
    if len(section.entities) < 2 or column is None:
        return {}
    numbers = {
        role: [_or_nan(roles.get(role, {}).get(column.name)) for roles in section.entities.values()]
        for role in section.mean
    }
    values = {section.roles[role]: each for role, each in numbers.items() if not np.isnan(each).all()}
    caption = f"{column.heading[0].upper()}{column.heading[1:]} of each entity"
    file = f"entities-{column.name}.png"
    pictures.plot_entities(list(section.entities), values, out / file, caption, column.heading)
    return {caption: file}


def draw_training(observation: Observation, out: Path) -> dict[str, str]:
    """The loss curves that the artifact keeps; nothing for a model without epochs."""
    history = observation.manifest.training.history
    if len(history.get("loss", [])) < 2:
        return {}
    pictures.plot_history(history, out / "training.png", f"{observation.manifest.name}: training")
    return {f"{observation.manifest.name}: training": "training.png"}


def _choose(subject: Subject) -> Iterator[tuple[str, str, Any]]:
    """Kind, caption and function of each picture that the recording has data for."""
    if subject.truth is not None:
        yield "scores", "scores over time", _draw_scores
        yield "histogram", "how often each score comes", _draw_histogram
    if subject.signals:
        yield "signals", "noisy, denoised and clean", _draw_signals
    elif subject.is_image:
        yield "images", "images and their reconstructions", _draw_images
    elif subject.is_sound:
        yield "waves", "before and after the code", _draw_waves
    else:
        yield "reconstruction", "reconstruction around the strangest frame", _draw_reconstruction
    if BASELINE in subject.observations and (subject.truth is not None or subject.classes is not None):
        yield "codes", "latent codes", _draw_codes


def _draw_scores(subject: Subject, path: Path, title: str) -> None:
    scores = subject.model.scores
    times, unit = _times(scores.numbers, subject.contract), subject.model.manifest.formula.unit
    pictures.plot_scores(times, scores.scores, scores.threshold, _labels(subject), path, title, unit)


def _draw_histogram(subject: Subject, path: Path, title: str) -> None:
    scores, unit = subject.model.scores, subject.model.manifest.formula.unit
    pictures.plot_error_histogram(scores.scores, scores.threshold, path, None, _labels(subject), title, unit)


def _draw_reconstruction(subject: Subject, path: Path, title: str) -> None:
    """The channels that are furthest off in the frame with the highest score, and the time around it."""
    model = subject.model
    contract = subject.contract
    strangest = int(np.argmax(np.nan_to_num(model.scores.scores[: len(model.seen)], nan=np.inf)))
    around = max(1, _AROUND_ROWS // contract.hop)
    first = max(0, strangest - around)
    part = slice(first, strangest + around + 1)
    scale = np.array(model.manifest.scaling.scale)
    off = np.square((model.made[strangest] - model.seen[strangest]) / scale).mean(axis=0)
    worst = np.argsort(-off, kind="stable")[:_CHANNELS]
    seen = _rows(model.seen[part])[:, worst]
    made = {ROLES[role]: _rows(each.made[part])[:, worst] for role, each in subject.observations.items()}
    labels = None if subject.truth is None else np.repeat(_labels(subject)[: len(model.seen)][part], contract.hop)
    names = [_channel(contract, int(channel)) for channel in worst]
    numbers = model.scores.numbers[: len(model.seen)][part]
    rows = (numbers[:, None] * contract.hop + np.arange(contract.hop)).ravel()
    marked = (strangest - first + 1) * contract.hop - 1
    times = _milliseconds(rows + contract.length - contract.hop, contract)
    pictures.plot_reconstruction(times, seen, made, names, labels, marked, path, title)


def _draw_images(subject: Subject, path: Path, title: str) -> None:
    scaling = subject.model.manifest.scaling
    shown = {"original": subject.model.seen, **{ROLES[role]: each.made for role, each in subject.observations.items()}}
    rows = {
        name: (frames[:_IMAGES] - np.array(scaling.center)) / np.array(scaling.scale) for name, frames in shown.items()
    }
    pictures.plot_images(rows, path, title)


def _draw_signals(subject: Subject, path: Path, title: str) -> None:
    rate_hz = subject.contract.rate_hz or 1.0
    stop = int(_WAVE_S * rate_hz)
    names = {INPUT: "noisy input", MODEL: "denoised by the model", REFERENCE: "clean reference"}
    waves = {name: subject.signals[role][:stop, 0] for role, name in names.items() if role in subject.signals}
    pictures.plot_waveforms(waves, rate_hz, path, title)


def _draw_waves(subject: Subject, path: Path, title: str) -> None:
    rate_hz = subject.contract.rate_hz or 1.0
    made = {f"decoded from codes of {ROLES[role]}": each.made for role, each in subject.observations.items()}
    stop = int(_WAVE_S * rate_hz)
    waves = {name: _rows(frames)[:stop, 0] for name, frames in {"original": subject.model.seen, **made}.items()}
    pictures.plot_waveforms(waves, rate_hz, path, title)


def _draw_codes(subject: Subject, path: Path, title: str) -> None:
    classes = _classes(subject)
    step = max(1, len(classes) // _POINTS)
    codes = [subject.observations[role].latent[::step] for role in (MODEL, BASELINE)]
    pictures.plot_code_map(codes[0], codes[1], classes[::step], path, title)


def _draw_rates(subject: Subject, coded: Mapping[str, Numbers], path: Path, title: str) -> None:
    model = subject.model
    sizes = {role: (numbers["packed_bytes"], numbers["nrmse"]) for role, numbers in coded.items()}
    points = {ROLES[role]: (size, error) for role, (size, error) in sizes.items() if role in ROLES and size and error}
    scale = np.array(model.manifest.scaling.scale)
    curve = [rounded_bytes(model.rows, steps_for(nrmse, model.rows, scale)) / len(model.seen) for nrmse in _CURVE_NRMSE]
    pictures.plot_rates(points, (curve, _CURVE_NRMSE), float(sizes[LOSSLESS][0] or 1), path, title)


def _classes(subject: Subject) -> NDArray[Any]:
    """A word for each kept frame, by which it is coloured."""
    kept = len(subject.model.codes)
    if subject.truth is not None:
        return np.where(_labels(subject)[:kept], "labelled event", "normal")
    if subject.classes is not None:
        return subject.classes[subject.model.scores.numbers[:kept]]
    return np.full(kept, "frames")


def _labels(subject: Subject) -> NDArray[np.bool_]:
    """(n,) of the frames that have a score."""
    assert subject.truth is not None
    return subject.truth[subject.model.scores.numbers]


def _times(numbers: NDArray[np.int64], contract: FrameContract) -> NDArray[Any]:
    """Of each frame's last sample."""
    return _milliseconds(numbers * contract.hop + contract.length - 1, contract)


def _milliseconds(rows: NDArray[np.int64], contract: FrameContract) -> NDArray[Any]:
    """Time since the start; without a rate the rows themselves, as float64."""
    return (rows * (1000.0 / contract.rate_hz)).astype(np.int64) if contract.rate_hz else rows.astype(np.float64)


def _rows(frames: NDArray[Any]) -> NDArray[Any]:
    return frames.reshape(-1, frames.shape[-1])


def _channel(contract: FrameContract, channel: int) -> str:
    unit = contract.units[channel] if contract.units else ""
    return f"{contract.channels[channel]} ({unit})" if unit else contract.channels[channel]


def _or_nan(number: Any) -> float:
    return float("nan") if number is None else float(number)
