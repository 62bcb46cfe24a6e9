"""The model card: README.md of a model folder, for the person who has to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ae_model.calibration import Threshold
from ae_model.config import FrameContract, NetworkConfig
from ae_model.manifest import MANIFEST, PICTURES, Manifest
from ae_model.naming import describe_regularisers, name_network


def write_card(manifest: Manifest, pictures: Sequence[str] = ()) -> str:
    """The card's text in Markdown; the same for the same manifest.

    It leaves the version to ``manifest.json``, as it is written before the version is known.
    """
    contract, network, threshold = manifest.contract, manifest.network, manifest.threshold
    history = manifest.training.history
    name = name_network(contract, network)
    return f"""# {manifest.name}

{name[0].upper()}{name[1:]}, created {manifest.created}.
`{MANIFEST}` holds the version and all facts below for programs.

## Frame contract

{contract.length} samples x {len(contract.channels)} channels of float32, a new frame every {contract.hop} samples{_rate(contract)}.
Channels: {", ".join(_channels(contract))}.
Scaling ({manifest.scaling.kind}) is inside the graph: frames go in and come out in their own units.

## Outputs

Codes of {manifest.codes.latent} {manifest.codes.dtype}, {manifest.codes.bytes} bytes a frame where the frame has {4 * contract.length * len(contract.channels)}.
{_score(manifest)} At or above {threshold.value:.6g} it is an alert:
{threshold.asked}, from {threshold.frames} calibration frames that training never saw{_doubt(threshold)}.
Severity, in multiples of the threshold: {", ".join(f"{name} {multiple:g}" for name, multiple in threshold.levels.items())}.

## Training

Data: {manifest.training.data}. Frames: {", ".join(f"{name} {count}" for name, count in manifest.training.frames.items())}.
{_descent(network)}, seed {network.seed}; \
{len(history.get("loss", []))} epochs, lowest validation loss {min(history.get("val_loss", [float("nan")])):.6g}.
{_regularisers(network)}
## Metrics

{_metrics(manifest.metrics)}{_show(pictures)}
The baseline is the exact linear autoencoder (principal components) of the same latent size.
{_code_use(manifest)}
## Intended use and limits

For frames from the source it was trained on, in the same units and at the same rate; a score says how unlike
the training data a frame is, not what is wrong. Data that has drifted scores high until the model is trained again.
Codes can only be decoded by the version that wrote them.
"""  # noqa: E501


def _descent(network: NetworkConfig) -> str:
    loss = f"{network.loss} (delta {network.huber_delta:g})" if network.huber_delta else network.loss
    momentum = f", momentum {network.momentum:g}" if network.momentum else ""
    return f"{loss} with {network.optimizer}{momentum}, {network.schedule} learning rate {network.learning_rate:g}"


def _regularisers(network: NetworkConfig) -> str:
    words = describe_regularisers(network)
    return f"In training alone: {', '.join(words)}.\n" if words else ""


def _score(manifest: Manifest) -> str:
    formula, length = manifest.formula, manifest.contract.length
    samples = "all samples" if formula.newest == length else f"the newest {formula.newest} of {length} samples"
    standard = ", each channel over its usual error on calibration frames" if formula.limit else ""
    residual = f"the mean squared difference of the scaled frames over {samples}{standard}"
    if formula.latent is None:
        return f"The score is {residual}."
    return (
        f"The score is how surprising two numbers are together, each as -ln of its tail probability on calibration "
        f"frames: {residual}; and the distance of the code from the training codes."
    )


def _doubt(threshold: Threshold) -> str:
    excluded = f", {threshold.excluded} of them left out as possible faults" if threshold.excluded else ""
    if threshold.interval is None:
        return excluded
    low, high = threshold.interval
    return f"{excluded}; nine in ten such calibrations give {low:.6g} to {high:.6g}"


def _rate(contract: FrameContract) -> str:
    return f", {contract.rate_hz:g} samples per second" if contract.rate_hz else ""


def _channels(contract: FrameContract) -> list[str]:
    units = contract.units or ("",) * len(contract.channels)
    return [f"{name} ({unit})" if unit else name for name, unit in zip(contract.channels, units, strict=True)]


def _code_use(manifest: Manifest) -> str:
    use = manifest.code_use
    if use is None:
        return ""
    nats = ", ".join(f"{nats:.3g}" for nats in use.divergences)
    return f"""
{use.active_units} of {len(use.variances)} dimensions of the code are active: their mean moves with the frame.
Nats that each tells of a frame, on validation frames: {nats}.
The signature `sample` turns standard normal noise (n, {manifest.codes.latent}) into frames like those of training.
"""


def _metrics(metrics: dict[str, dict[str, float]]) -> str:
    columns = sorted(metrics, key=lambda name: (name != "model", name))
    if not columns:
        return "None were measured.\n"
    rows = dict.fromkeys(row for column in columns for row in metrics[column])
    lines = [f"| metric | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [f"{metrics[column][row]:.6g}" if row in metrics[column] else "" for column in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _show(pictures: Sequence[str]) -> str:
    return "".join(f"\n![{Path(name).stem}]({PICTURES}/{name})\n" for name in pictures)
