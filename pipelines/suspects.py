"""Training data that no model should be made of, though it could be: what stands still, and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ae_model.config import FrameContract
from ae_model.exceptions import TrainingError
from ae_model.scaling import Statistics
from pipelines.trial import WrittenBlock

_LABEL = re.compile(
    r"(^|[\W_])(labels?|anomal(y|ies)|outliers?|attacks?|changepoints?|target|class|truth)($|[\W_])", re.I
)
# Of noughts and ones the variance is mean * (1 - mean), up to rounding.
_ROUNDING = 1e-9
# More names would not be read.
_MOST_NAMES = 5


def check_signals(statistics: Statistics, contract: FrameContract, data: str) -> None:
    """Refuse training frames that hold no signal, or the answers.

    Args:
        statistics: of the training frames.
        contract: names of the channels.
        data: as the person named it.

    Raises:
        TrainingError: a channel has no sample, every channel is constant, or one is a label by its name and values.
    """
    absent = [name for name, count in zip(contract.channels, statistics.count, strict=True) if count == 0]
    if absent:
        raise TrainingError(
            f"input.channels: expected some samples of each in the training frames. Received: none of "
            f"{', '.join(absent[:_MOST_NAMES])}. Leave it out until there are."
        )
    if (statistics.maximum == statistics.minimum).all():
        raise TrainingError(
            f"training frames of {data}: expected a channel that changes. Received: all {len(contract.channels)} "
            "constant. A model of them would call every change an anomaly; give data in which something happens."
        )
    labels = [name for name in name_binary(statistics, contract) if _LABEL.search(name)]
    if labels:
        raise TrainingError(
            f"input.channels: expected signals. Received: {', '.join(labels)}, which holds labels by its name and its "
            "values, 0 and 1 alone. Leave it out, or the model learns the answers; "
            "labels are for `latentstream evaluate --labels`."
        )
    array = data.partition("::")[2]
    if _LABEL.search(array) and len(name_binary(statistics, contract)) == len(contract.channels):
        raise TrainingError(
            f"data {data}: expected signals. Received: an array that holds labels by its name and its values, 0 and 1 "
            "alone. Give the array of samples; labels are for `latentstream evaluate --labels`."
        )


def name_culprits(blocks: Sequence[WrittenBlock], contract: FrameContract) -> str:
    """Channels that make frames unusable, the worst first: ``flow in 12, heat in 3``; nothing where none does."""
    counts = np.sum([block.faults for block in blocks], axis=0)
    worst = [i for i in np.argsort(-counts, kind="stable")[:_MOST_NAMES] if counts[i]]
    return ", ".join(f"{contract.channels[i]} in {counts[i]}" for i in worst)


def name_binary(statistics: Statistics, contract: FrameContract) -> list[str]:
    """Channels that hold nothing but 0 and 1."""
    mean, variance = statistics.mean, statistics.variance
    within = (statistics.minimum >= 0) & (statistics.maximum <= 1)
    binary = within & (np.abs(variance - mean * (1 - mean)) <= _ROUNDING)
    return [name for name, found in zip(contract.channels, binary, strict=True) if found]
