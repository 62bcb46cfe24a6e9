from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from ae_model.config import (
    CorruptionConfig,
    FrameContract,
    NetworkConfig,
    SparseConfig,
    VariationalConfig,
    check_code_size,
    from_mapping,
)
from ae_model.exceptions import ConfigError
from ae_model.naming import describe_regularisers, name_network
from pipelines.stream_file import StreamFile, parse_stream

CONTRACT = FrameContract(length=64, hop=64, channels=("x", "y", "z"))
L1 = SparseConfig("l1", 0.001)
KL = SparseConfig("kl", 0.01, 0.1)
MASKING = CorruptionConfig("masking", 0.2)
LEARNED = VariationalConfig(0.5, 0.1, "learned")

COMPOSED = {
    "sparse": NetworkConfig(sparse=KL),
    "sparse denoising convolution": NetworkConfig("conv1d", hidden=(16, 32), kernel=5, sparse=L1, corruption=MASKING),
    "contractive": NetworkConfig("recurrent", hidden=(16,), cell="gru", contractive=0.1),
    "variational": NetworkConfig("conv2d", hidden=(8,), activation="elu", variational=LEARNED),
}


def stream(model: dict[str, Any], channels: int = 3) -> StreamFile:
    section = {"topic": "plant.press.frames.v1", "channels": channels}
    return parse_stream({"name": "press", "input": section, "frame": {"length": 64}, "model": model}, "f.yaml")


@pytest.mark.parametrize("config", COMPOSED.values(), ids=COMPOSED)
def test_nested_settings_survive_json_and_the_stream_file(config: NetworkConfig) -> None:
    text = json.dumps(asdict(config))

    assert from_mapping(NetworkConfig, json.loads(text)) == config
    assert stream(json.loads(text)).model == config


def test_unknown_key_inside_a_setting_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"VariationalConfig: .*Received: betta. Did you mean 'beta'?"):
        from_mapping(NetworkConfig, {"variational": {"betta": 1}})
    with pytest.raises(ConfigError) as caught:
        stream({"variational": {"betta": 1}})

    assert str(caught.value) == (
        "f.yaml, model.variational.betta: expected one of beta, free_bits, prior. Received: betta. Did you mean 'beta'?"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"sparse": {"kind": "l1"}}, "model.sparse.weight: expected a value. Received: nothing."),
        ({"sparse": {"kind": "l2", "weight": 1}}, "model.sparse.kind: expected 'l1' or 'kl'. Received: kind='l2'."),
        ({"sparse": 0.1}, "model.sparse: expected keys with values. Received: sparse=0.1."),
        ({"corruption": {"kind": "masking", "amount": 1}}, "corruption.amount: expected between 0 and 1."),
    ],
)
def test_fault_inside_a_setting_is_named_with_its_place(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stream(model)

    assert message in str(caught.value)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "kernel of a dense network": ({"kernel": 5}, "kernel: expected its default 3: network=dense"),
    "cell of a convolution": (
        {"network": "conv1d", "hidden": (4,), "cell": "gru"},
        "cell: expected its default",
    ),
    "activation of a cell": (
        {"network": "recurrent", "hidden": (4,), "activation": "elu"},
        "activation: expected its default 'relu': network=recurrent",
    ),
    "activation of nothing": ({"activation": "elu"}, "activation: expected its default 'relu': network=dense"),
    "layers of an exact solution": ({"network": "linear", "hidden": (4,)}, "hidden: expected its default"),
    "linear and sparse": ({"network": "linear", "sparse": L1}, "sparse: expected its default None: network=linear"),
    "linear and denoising": ({"network": "linear", "corruption": MASKING}, "corruption: expected its default None"),
    "linear and contractive": ({"network": "linear", "contractive": 0.1}, "contractive: expected its default 0.0"),
    "linear and variational": ({"network": "linear", "variational": LEARNED}, "variational: expected its default None"),
    "convolution without a layer": ({"network": "conv2d"}, "hidden: expected a layer with network=conv2d"),
    "kernel of one sample": ({"network": "conv1d", "hidden": (4,), "kernel": 1}, "kernel: expected at least 2"),
    "negative contraction": ({"contractive": -1.0}, "contractive: expected 0 or more"),
    "variational and sparse": ({"variational": LEARNED, "sparse": L1}, "variational: expected neither sparse nor"),
    "variational and contractive": ({"variational": LEARNED, "contractive": 0.1}, "variational: expected neither"),
    "salt without a range": ({"corruption": CorruptionConfig("salt_pepper", 0.1)}, "scaling: expected another than"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_mean_nothing_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig(**settings)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseConfig("l1", 0.0), "sparse.weight: expected more than 0"),
        (lambda: SparseConfig("l1", 1.0, target=0.1), "sparse.target: expected none with kind=l1"),
        (lambda: SparseConfig("kl", 1.0, target=1.0), "sparse.target: expected a mean activity between 0 and 1"),
        (lambda: CorruptionConfig("gaussian", 0.0), "corruption.amount: expected between 0 and 1"),
        (lambda: VariationalConfig(beta=0.0), "variational.beta: expected more than 0"),
        (lambda: VariationalConfig(free_bits=-1.0), "variational.free_bits: expected 0 nats or more"),
    ],
)
def test_amounts_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("latent", [192, 500])
def test_code_as_large_as_the_frame_is_refused_unless_something_holds_it(latent: int) -> None:
    plain = NetworkConfig(latent=latent)

    with pytest.raises(ConfigError, match=rf"less than the 192 values .*\(64 x 3\). Received: latent={latent}"):
        check_code_size(CONTRACT, plain)
    for held in ({"sparse": L1}, {"corruption": MASKING}, {"contractive": 0.1}, {"variational": LEARNED}):
        check_code_size(CONTRACT, replace(plain, **held))
    check_code_size(CONTRACT, replace(plain, latent=191))


def test_stream_file_refuses_a_code_that_copies_and_takes_one_that_is_held() -> None:
    with pytest.raises(ConfigError, match=r"f.yaml: latent: expected less than the 192 values"):
        stream({"latent": 192})

    assert stream({"latent": 192, "contractive": 0.1}).model.latent == 192


def test_stream_without_a_model_may_have_frames_of_any_size() -> None:
    parsed = parse_stream({"name": "press", "input": {"topic": "t", "channels": 1}})

    assert parsed.contract.shape == (1, 1)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (NetworkConfig("linear", latent=4), "linear autoencoder 64x3 - 4 - 64x3"),
        (NetworkConfig(hidden=(32, 16), latent=4), "dense autoencoder 64x3 - 32 - 16 - 4 - 16 - 32 - 64x3"),
        (
            NetworkConfig("conv1d", hidden=(16, 32), latent=4, sparse=L1, corruption=MASKING),
            "sparse denoising conv1d autoencoder 64x3 - 32x16 - 16x32 - 4 - 16x32 - 32x16 - 64x3",
        ),
        (
            NetworkConfig("conv2d", hidden=(16, 32), latent=4, contractive=0.1),
            "contractive conv2d autoencoder 64x3 - 32x2x16 - 16x1x32 - 4 - 16x1x32 - 32x2x16 - 64x3",
        ),
        (
            NetworkConfig("recurrent", hidden=(32,), latent=200, cell="gru", variational=LEARNED),
            "overcomplete variational GRU autoencoder 64x3 - 32 - 200 - 32 - 64x3",
        ),
    ],
)
def test_networks_have_a_name_that_a_person_understands(config: NetworkConfig, name: str) -> None:
    assert name_network(CONTRACT, config) == name


def test_amounts_are_told_in_words() -> None:
    salted = NetworkConfig(scaling="minmax", sparse=KL, corruption=CorruptionConfig("salt_pepper", 0.1), contractive=2)

    assert describe_regularisers(NetworkConfig()) == []
    assert describe_regularisers(salted) == [
        "kl activity to 0.1 of weight 0.01",
        "salt-and-pepper corruption of 0.1",
        "contraction of weight 2",
    ]
    assert describe_regularisers(NetworkConfig(variational=LEARNED)) == [
        "learned prior with beta 0.5 and 0.1 free nats a dimension"
    ]
