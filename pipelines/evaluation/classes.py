"""What codes keep of the class of a frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ae_model.metrics.latent import largest_class, probe_accuracy
from pipelines.evaluation.observation import Observation
from pipelines.evaluation.section import MODEL, RANDOM, ROLES, Column, Numbers, Section, known, set_against

COLUMNS = (
    Column("frames", "frames", ",d", "sum", leading=True, shared=True),
    Column("classes", "classes", ",.0f", leading=True, shared=True),
    Column("accuracy", "accuracy of a linear probe", ".3f", leading=True),
)
_INTRO = (
    "A logistic regression reads the class from the code: five times it learns from four fifths of the frames and is "
    "judged on the rest. A guess always says the most frequent class."
)


def measure(observations: Mapping[str, Observation], classes: NDArray[np.int64]) -> dict[str, Numbers]:
    """The numbers of one recording by role.

    Args:
        observations: of the model and, where there is one, its baseline.
        classes: (frames,) of the recording.
    """
    roles: dict[str, Numbers] = {}
    for role, each in observations.items():
        kept = classes[each.scores.numbers[: len(each.codes)]]
        counts: Numbers = {"frames": len(kept), "classes": len(np.unique(kept))}
        roles[role] = {**counts, "accuracy": known(probe_accuracy(each.codes, kept))}
    kept = classes[observations[MODEL].scores.numbers[: len(observations[MODEL].codes)]]
    roles[RANDOM] = {"accuracy": known(largest_class(kept))}
    return roles


def make_section(entities: Mapping[str, dict[str, Numbers]]) -> Section:
    """The section of all recordings, with what its numbers say."""
    roles = {**ROLES, RANDOM: "guess"}
    section = Section("classes", "Classes", _INTRO, COLUMNS, dict(entities), roles=roles)
    note = set_against(section, "accuracy", "accuracy of the probe")
    section.notes.extend([note] if note else [])
    return section
