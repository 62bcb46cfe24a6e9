"""One recording with what the models say of it, and with what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from ae_model.metrics.volume import find_window
from pipelines.evaluation.denoising import INPUT, REFERENCE, SignalJoiner
from pipelines.evaluation.inputs import class_of_frames, iter_frames, label_frames, read_labels, read_rows
from pipelines.evaluation.observation import Observation, Observer, join
from pipelines.evaluation.section import MODEL
from pipelines.sample_files import WavSamples
from pipelines.samples import Recording

if TYPE_CHECKING:
    from ae_model.model import Detector


@dataclass(frozen=True, eq=False)
class Subject:
    """All that can be measured and drawn of one recording.

    Args:
        name: of the entity.
        contract: what a frame is.
        observations: of the model and, where there is one, its baseline.
        is_image: whether a frame is an image.
        is_sound: whether it can be heard.
        truth: (frames,) True where labelled, or None.
        classes: (frames,) or None.
        signals: by role, the input and the clean reference among them, (rows, channels); empty without a reference.
        recordings: how many it stands for.
    """

    name: str
    contract: FrameContract
    observations: Mapping[str, Observation]
    is_image: bool = False
    is_sound: bool = False
    truth: NDArray[np.bool_] | None = None
    classes: NDArray[np.int64] | None = None
    signals: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    recordings: int = 1

    @property
    def model(self) -> Observation:
        """What the model says."""
        return self.observations[MODEL]

    @property
    def window(self) -> int:
        """Of the volumes, in frames; as published results choose it, from the first channel."""
        return find_window(self.model.rows[:, 0]) // self.contract.hop


def pool(first: Subject, second: Subject) -> Subject:
    """Recordings that the same models answer for as one, for what needs many frames; neither labels nor signals."""
    observations = {role: join(each, second.observations[role]) for role, each in first.observations.items()}
    count = first.recordings + second.recordings
    return Subject(f"{count} recordings", first.contract, observations, recordings=count)


def observe(
    recording: Recording,
    detectors: Mapping[str, Detector],
    contract: FrameContract,
    labels: Recording | None,
    reference: Recording | None,
) -> Subject:
    """Ask all models about a recording, in one pass over it.

    Args:
        recording: frames that training did not see.
        detectors: by role.
        contract: what a frame is.
        labels: of its rows or frames, or None.
        reference: the clean signal, or None.

    Raises:
        ConfigError: labels or reference do not fit the recording.
    """
    observers = {role: Observer(detector) for role, detector in detectors.items()}
    joiners = {role: SignalJoiner(recording.rows, contract) for role in detectors} if reference else {}
    for numbers, frames in iter_frames(recording, contract):
        for role, observer in observers.items():
            made = observer.add(numbers, frames)
            if joiners:
                joiners[role].add(numbers, made)
    truth, classes = _read_truth(labels, recording, contract) if labels else (None, None)
    return Subject(
        name=recording.key,
        contract=contract,
        observations={role: observer.read() for role, observer in observers.items()},
        is_image=recording.samples.item_rows is not None and len(contract.channels) > 1,
        is_sound=isinstance(recording.samples, WavSamples),
        truth=truth,
        classes=classes,
        signals=_read_signals(recording, reference, joiners) if reference else {},
    )


def _read_truth(
    labels: Recording, recording: Recording, contract: FrameContract
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64] | None]:
    """Labelled frames, or the class of each frame."""
    values = read_labels(labels)
    if values.max(initial=0) > 1:
        return None, class_of_frames(values, recording.rows, contract, labels.source)
    if len(values) != recording.rows:
        raise ConfigError(
            f"labels {labels.source}: expected one for each of {recording.rows} rows of {recording.source}. "
            f"Received: {len(values)} labels."
        )
    return label_frames(values, contract), None


def _read_signals(
    recording: Recording, reference: Recording, joiners: Mapping[str, SignalJoiner]
) -> dict[str, NDArray[Any]]:
    if reference.rows != recording.rows:
        raise ConfigError(
            f"reference {reference.source}: expected {recording.rows} rows, as {recording.source} has. "
            f"Received: {reference.rows} rows."
        )
    made = {role: joiner.read() for role, joiner in joiners.items()}
    return {INPUT: read_rows(recording), **made, REFERENCE: read_rows(reference)}
