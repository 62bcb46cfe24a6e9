"""What a training has to say to a person: counts, figures and notes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ae_model.calibration import Threshold
from ae_model.config import FrameContract, NetworkConfig
from ae_model.exceptions import TrainingError
from ae_model.latent import CodeUse
from pipelines.shards import CALIBRATION, SPLITS, TRAINING, VALIDATION
from pipelines.statistics import Profile
from pipelines.suspects import name_binary, name_culprits
from pipelines.trial import BASELINE, MODEL, FitRequest, WrittenBlock

UNUSABLE = "unusable"
# Fewer training batches than this are no training.
LEAST_BATCHES = 2
# Percentiles worth printing beside the extremes.
_PERCENTILES = (1, 50, 99)
# An interval whose end is this many times its start says that the threshold is little more than a guess.
_WIDE = 4.0
# More names would not be read.
_MOST_GAPS = 5


def count_frames(blocks: Sequence[WrittenBlock]) -> dict[str, int]:
    """Frames by split, and how many were left out as unusable."""
    counts = {split: sum(block.frames for block in blocks if block.split == split) for split in SPLITS}
    return {**counts, UNUSABLE: sum(block.unusable for block in blocks)}


def check_counts(frames: dict[str, int], network: NetworkConfig, culprits: str = "") -> None:
    """Refuse data that are too few to train on.

    Args:
        frames: by split, and ``unusable``.
        network: what is to be trained.
        culprits: channels that made frames unusable.

    Raises:
        TrainingError: a split has too few frames.
    """
    why = f" by channel: {culprits}. Leave out a channel that is rarely usable" if culprits else ""
    training = 1 if network.network == "constant" else LEAST_BATCHES * network.batch_frames
    least = {TRAINING: training, VALIDATION: 1, CALIBRATION: 1}
    for split, count in least.items():
        if frames[split] < count:
            raise TrainingError(
                f"{split} frames: expected at least {count} usable ones. Received: {split}={frames[split]}, "
                f"unusable={frames.get(UNUSABLE, 0)}{why}. Give more data, or a smaller model.batch_frames."
            )


def describe_frames(frames: dict[str, int]) -> str:
    """One line of counts."""
    return "frames: " + ", ".join(f"{name} {count}" for name, count in frames.items())


def describe_metrics(metrics: dict[str, dict[str, float]]) -> str:
    """One line: the model beside its baseline, on frames that training never saw."""
    names = {MODEL: "model", BASELINE: "PCA of the same latent size"}
    parts = [f"{names[name]} {values['calibration_error']:.4g}" for name, values in metrics.items()]
    return "error on calibration frames: " + ", ".join(parts)


def describe_code(use: CodeUse) -> str:
    """One line: how much of a variational code is used."""
    active = f"{use.active_units} of {len(use.variances)} dimensions active"
    return f"code: {active}, {sum(use.divergences):.3g} nats a frame"


def describe_channels(profile: Profile, contract: FrameContract, frames: int) -> list[dict[str, Any]]:
    """Per channel of the training frames: name, unit, share missing, mean, deviation, extremes and percentiles."""
    statistics, samples = profile.statistics, frames * contract.length
    units = contract.units or ("",) * len(contract.channels)
    return [
        {
            "channel": name,
            "unit": unit,
            "missing": float(1 - statistics.count[i] / samples),
            "mean": float(statistics.mean[i]),
            "std": float(np.sqrt(statistics.variance[i])),
            "min": float(statistics.minimum[i]),
            **_percentiles(profile, i),
            "max": float(statistics.maximum[i]),
        }
        for i, (name, unit) in enumerate(zip(contract.channels, units, strict=True))
    ]


def _percentiles(profile: Profile, channel: int) -> dict[str, float]:
    found = profile.percentiles
    return {} if found is None else {f"p{p}": float(found[channel, p]) for p in _PERCENTILES}


def note(blocks: Sequence[WrittenBlock], profile: Profile, request: FitRequest, threshold: Threshold) -> list[str]:
    """What a person should know before trusting the model."""
    return [
        *_note_unusable(blocks, request.contract),
        *_note_missing(blocks, profile, request.contract),
        *_note_constant(profile, request),
        *_note_binary(profile, request.contract),
        *_note_threshold(threshold),
    ]


def _note_unusable(blocks: Sequence[WrittenBlock], contract: FrameContract) -> Iterator[str]:
    unusable = sum(block.unusable for block in blocks)
    if unusable:
        example = next(block.example for block in blocks if block.example)
        yield (
            f"{unusable} frames are not finite or too large and were left out; "
            f"by channel: {name_culprits(blocks, contract)}; the first is {example}"
        )


def _note_missing(blocks: Sequence[WrittenBlock], profile: Profile, contract: FrameContract) -> Iterator[str]:
    channels = describe_channels(profile, contract, count_frames(blocks)[TRAINING])
    gaps = sorted((each for each in channels if each["missing"] > 0), key=lambda each: -each["missing"])
    if gaps:
        worst = ", ".join(f"{each['channel']} {each['missing']:.2%}" for each in gaps[:_MOST_GAPS])
        yield (
            f"{len(gaps)} of {len(channels)} channels have missing samples in training, the most in {worst}; the "
            "baseline takes the mean in their place"
        )


def _note_constant(profile: Profile, request: FitRequest) -> Iterator[str]:
    if request.network.scaling == "minmax_shared":
        # Channels of one quantity, such as the columns of an image: the outermost are often blank.
        return
    contract = request.contract
    flat = profile.statistics.maximum == profile.statistics.minimum
    names = [name for name, constant in zip(contract.channels, flat, strict=True) if constant]
    if names:
        yield f"{len(names)} of {len(contract.channels)} channels are constant in training: {', '.join(names)}"


def _note_binary(profile: Profile, contract: FrameContract) -> Iterator[str]:
    statistics = profile.statistics
    names = [
        name
        for name in name_binary(statistics, contract)
        if statistics.maximum[contract.channels.index(name)] > statistics.minimum[contract.channels.index(name)]
    ]
    # A single one, which is how a label comes among the columns of an array that has no names.
    if len(names) == 1 and len(contract.channels) > 1:
        yield f"channel {names[0]} holds 0 and 1 alone: if it is a label, leave it out, or the model learns the answers"


def _note_threshold(threshold: Threshold) -> Iterator[str]:
    if threshold.method == "quantile" and threshold.reached <= 1 + threshold.excluded:
        asked = (
            f"{threshold.false_alarms_per_day:g} false alarms a day"
            if threshold.target is None
            else f"target {threshold.target:g}"
        )
        yield (
            f"the threshold is the highest of {threshold.frames} calibration scores, which are too few for {asked}: "
            "give more data, or take method: pot"
        )
    if threshold.interval is not None and threshold.interval[1] > _WIDE * threshold.interval[0]:
        low, high = threshold.interval
        yield (
            f"the threshold is uncertain, {threshold.value:.3g} but anything from {low:.3g} to {high:.3g}: calibration "
            "frames are few, differ from day to day, or hold faults (see threshold.contamination)"
        )
