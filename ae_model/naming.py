"""A network in words, and the shapes on the way from a frame to its code and back."""

from __future__ import annotations

import math

from ae_model.config import FrameContract, NetworkConfig

_PENALTIES = {"sparse": "sparse", "corruption": "denoising", "contractive": "contractive", "variational": "variational"}


def name_network(contract: FrameContract, network: NetworkConfig) -> str:
    """Such as ``sparse denoising conv1d autoencoder 64x3 - 32x16 - 8 - 32x16 - 64x3``.

    A frame is length x channels; what a convolution makes of it, length x filters.
    """
    overcomplete = network.latent >= math.prod(contract.shape)
    words = ["overcomplete"] if overcomplete else []
    words += [word for key, word in _PENALTIES.items() if getattr(network, key)]
    family = network.cell.upper() if network.network == "recurrent" else network.network
    inwards = [contract.shape, *hidden_shapes(contract, network)]
    shapes = [*inwards, (network.latent,), *reversed(inwards)]
    sizes = " - ".join("x".join(map(str, shape)) for shape in shapes)
    return " ".join([*words, family, "autoencoder", sizes])


def describe_regularisers(network: NetworkConfig) -> list[str]:
    """What is done in training alone, with its amounts; a phrase each."""
    phrases = []
    if network.sparse:
        target = f" to {network.sparse.target:g}" if network.sparse.kind == "kl" else ""
        phrases.append(f"{network.sparse.kind} activity{target} of weight {network.sparse.weight:g}")
    if network.corruption:
        phrases.append(f"{network.corruption.kind.replace('_', '-and-')} corruption of {network.corruption.amount:g}")
    if network.contractive:
        phrases.append(f"contraction of weight {network.contractive:g}")
    if network.variational:
        pull = network.variational
        phrases.append(f"{pull.prior} prior with beta {pull.beta:g} and {pull.free_bits:g} free nats a dimension")
    return phrases


def hidden_shapes(contract: FrameContract, network: NetworkConfig) -> list[tuple[int, ...]]:
    """What comes out of each hidden layer of the encoder, without the number of frames."""
    if network.network not in ("conv1d", "conv2d"):
        return [(width,) for width in network.hidden]
    sides = contract.shape if network.network == "conv2d" else (contract.length,)
    lengths = zip(*(halvings(side, len(network.hidden))[1:] for side in sides), strict=True)
    return [(*shape, filters) for shape, filters in zip(lengths, network.hidden, strict=True)]


def halvings(length: int, count: int) -> list[int]:
    """The length, and what is left of it after each halving: 5 and 2 give 5, 3, 2."""
    lengths = [length]
    for _ in range(count):
        lengths.append(-(-lengths[-1] // 2))
    return lengths
