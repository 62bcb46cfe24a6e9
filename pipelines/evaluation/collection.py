"""Collects the numbers and pictures of a report, recording by recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation import alerts, classes, codes, denoising
from pipelines.evaluation.report import Report
from pipelines.evaluation.section import RANDOM, Numbers
from pipelines.evaluation.subjects import Subject, pool

if TYPE_CHECKING:
    from ae_model.manifest import Manifest
    from ae_model.model import Detector

_SECTIONS = {
    "alerts": alerts.make_section,
    "denoising": denoising.make_section,
    "classes": classes.make_section,
    "codes": codes.make_section,
}
# Labelled recordings that get pictures of their own; one picture holds the numbers of all.
_MOST_DRAWN = 20
# Of recordings without labels a few show what there is to see.
_FEW_DRAWN = 3


class Collection:
    """What was found so far."""

    def __init__(self, form: codes.SampleForm, out: Path | None) -> None:
        """Start with nothing.

        Args:
            form: of one sample in the stream's records.
            out: folder for pictures; none are drawn without it.
        """
        self._form = form
        self._out = out
        self._found: dict[str, dict[str, dict[str, Numbers]]] = {name: {} for name in _SECTIONS}
        self._pools: dict[tuple[str, ...], Subject] = {}
        self._models: dict[str, str] = {}
        self._pictures: dict[str, str] = {}
        self._count = 0

    def add(self, subject: Subject, detectors: Mapping[str, Detector]) -> None:
        """Measure and draw one recording."""
        self._models[subject.name] = describe(subject.model.manifest)
        for name, numbers in measure(subject).items():
            self._found[name][subject.name] = numbers
        if subject.truth is None:
            # What is lost of faults, which training never saw, is no measure of a code.
            models = tuple(str(detector.path) for detector in detectors.values())
            self._pools[models] = pool(self._pools[models], subject) if models in self._pools else subject
        if self._out is not None:
            self._draw(subject, self._out)
        self._count += 1

    def finish(self, stream: str, facts: dict[str, str]) -> Report:
        """The report of all recordings, written if a folder was given."""
        for subject in self._pools.values():
            self._measure_codes(subject)
        sections = [make(self._found[name]) for name, make in _SECTIONS.items() if self._found[name]]
        report = Report(stream, facts, sections, self._models, self._pictures)
        return report if self._out is None else _write(report, self._out)

    def _measure_codes(self, subject: Subject) -> None:
        coded = codes.measure(subject.observations, self._form)
        self._found["codes"][subject.name] = coded
        if self._out is not None:
            from pipelines.evaluation.drawings import draw_codes

            self._pictures |= draw_codes(subject, coded, self._out)

    def _draw(self, subject: Subject, out: Path) -> None:
        from pipelines.evaluation.drawings import draw_subject, draw_training

        if self._count < (_FEW_DRAWN if subject.truth is None else _MOST_DRAWN):
            self._pictures |= draw_subject(subject, out)
        if self._count == 0:
            self._pictures |= draw_training(subject.model, out)


def describe(manifest: Manifest) -> str:
    """Which version of which model, and of what data."""
    layer = "" if manifest.scope.layer == "global" else f", layer {manifest.scope.layer}"
    return f"{manifest.name} version {manifest.version}{layer}, trained on {manifest.training.data}"


def measure(subject: Subject) -> dict[str, dict[str, Numbers]]:
    """What is measured of each recording by itself, by section and role."""
    found = {}
    if subject.truth is not None:
        found["alerts"] = _measure_alerts(subject, subject.truth)
    if subject.classes is not None:
        found["classes"] = classes.measure(subject.observations, subject.classes)
    if subject.signals:
        found["denoising"] = denoising.measure(subject.signals, subject.contract.rate_hz, speech=subject.is_sound)
    return found


def _measure_alerts(subject: Subject, truth: NDArray[np.bool_]) -> dict[str, Numbers]:
    window = subject.window
    roles = {
        role: alerts.measure(each.scores, truth, window, subject.contract)
        for role, each in subject.observations.items()
    }
    return {**roles, RANDOM: alerts.measure_random(truth, window)}


def _write(report: Report, out: Path) -> Report:
    """The report with the pictures that show all entities."""
    from pipelines.evaluation.drawings import draw_summary

    summaries: dict[str, str] = {}
    for section in report.sections:
        summaries |= draw_summary(section, out)
    complete = replace(report, pictures=summaries | dict(report.pictures))
    complete.write(out)
    return complete
