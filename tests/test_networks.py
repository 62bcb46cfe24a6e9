from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_model.codes import CodeFormat
from ae_model.config import FrameContract, NetworkConfig
from ae_model.exceptions import ConfigError, TrainingError
from ae_model.networks import build, linear
from ae_model.networks.graph import Graph
from ae_model.scaling import Scaling
from ae_model.score_formula import ScoreFormula
from ae_model.scoring import channel_errors, reconstruction_errors

CONTRACT = FrameContract(length=5, hop=5, channels=("a", "b"))


def widths(model):
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def activations(model):
    return [layer.activation.__name__ for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def test_dense_widths_narrow_to_the_code_and_mirror_back():
    encoder, decoder = build(CONTRACT, NetworkConfig(latent=3, hidden=(8, 6)))

    assert (encoder.input_shape, encoder.output_shape) == ((None, 5, 2), (None, 3))
    assert (decoder.input_shape, decoder.output_shape) == ((None, 3), (None, 5, 2))
    assert (widths(encoder), widths(decoder)) == ([8, 6, 3], [6, 8, 10])
    assert (activations(encoder), activations(decoder)) == (["relu", "relu", "linear"], ["relu", "relu", "linear"])


def test_no_hidden_widths_are_the_vanilla_autoencoder():
    encoder, decoder = build(CONTRACT, NetworkConfig(latent=3, hidden=()))

    assert (widths(encoder), widths(decoder)) == ([3], [10])


def test_cross_entropy_has_a_sigmoid_output():
    _, decoder = build(CONTRACT, NetworkConfig(latent=3, loss="bce", scaling="minmax"))

    assert activations(decoder) == ["sigmoid"]


@pytest.mark.parametrize("network", ["dense", "linear"])
@pytest.mark.parametrize("latent", [10, 11])
def test_a_code_no_smaller_than_the_frame_is_refused(network, latent):
    with pytest.raises(ConfigError, match=f"less than the 10 values .* Received: latent={latent}.*learns to copy"):
        build(CONTRACT, NetworkConfig(network=network, latent=latent))


def test_linear_network_is_the_principal_components_of_numpy():
    frames = np.random.default_rng(3).normal(size=(400, 5, 2)) * np.linspace(1, 4, 10).reshape(5, 2) + 2
    flat = frames.reshape(400, 10)
    mean = flat.mean(axis=0)
    rows = np.linalg.svd(flat - mean, full_matrices=False)[2][:3]
    encoder, decoder = build(CONTRACT, NetworkConfig(network="linear", latent=3))

    linear.solve(encoder, decoder, mean, np.cov(flat.T, bias=True))
    codes = encoder(frames.astype(np.float32)).numpy()
    reconstruction = decoder(codes).numpy()

    np.testing.assert_allclose(np.abs(codes), np.abs((flat - mean) @ rows.T), atol=1e-4)
    np.testing.assert_allclose(reconstruction.reshape(400, 10), (flat - mean) @ rows.T @ rows + mean, atol=1e-4)
    assert np.all(np.diff(codes.var(axis=0)) <= 0)


def test_components_point_the_same_way_whatever_the_solver_says(monkeypatch):
    covariance = np.diag([4.0, 3.0, 2.0, 1.0])
    contract = FrameContract(length=4, hop=4)
    solver = np.linalg.eigh
    pairs = [build(contract, NetworkConfig(network="linear", latent=2)) for _ in range(2)]

    linear.solve(*pairs[0], np.zeros(4), covariance)
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (solver(matrix)[0], -solver(matrix)[1]))
    linear.solve(*pairs[1], np.zeros(4), covariance)

    assert pairs[0][0].get_weights()[0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert pairs[1][0].get_weights()[0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=5))
def test_moments_are_those_of_all_frames_for_any_batches(cuts):
    frames = np.random.default_rng(1).normal(50, 3, size=(20, 2, 2)).astype(np.float32)
    moments = linear.Moments(4)

    for batch in np.split(frames, sorted(cuts)):
        moments.add(batch)

    flat = frames.reshape(20, 4).astype(np.float64)
    assert moments.count == 20
    np.testing.assert_allclose(moments.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(flat.T, bias=True), rtol=1e-9, atol=1e-12)


def test_frames_too_wide_for_an_exact_solution_are_refused():
    with pytest.raises(TrainingError, match="at most 8192 values"):
        linear.Moments(8193)


@pytest.fixture(scope="module")
def graph():
    keras.utils.set_random_seed(5)
    encoder, decoder = build(CONTRACT, NetworkConfig(latent=2, hidden=(4,)))
    scaling = Scaling("standard", (100.0, -0.5), (20.0, 0.001))
    codes = (np.array([1.0, -1.0]), np.array([[4.0, 0.6], [0.6, 0.25]]), CodeFormat(2))
    return Graph(CONTRACT, scaling, encoder, decoder, *codes, ScoreFormula.plain(CONTRACT)), scaling


def test_graph_computes_what_the_numpy_scores_say(graph):
    graph, scaling = graph
    noise = np.random.default_rng(2).normal(size=(6, 5, 2))
    # The last frame is so wild that scaling clips it.
    frames = (noise * [[20, 0.001]] * np.array([1, 1, 1, 1, 1, 1e6]).reshape(6, 1, 1) + [[100, -0.5]]).astype(
        np.float32
    )

    outputs = {name: tensor.numpy() for name, tensor in graph.infer(tf.constant(frames)).items()}

    scaled, reconstruction = scaling.apply(frames), scaling.apply(outputs["frames"])
    np.testing.assert_allclose(outputs["errors"], reconstruction_errors(scaled, reconstruction), rtol=1e-4)
    np.testing.assert_allclose(outputs["channel_errors"], channel_errors(scaled, reconstruction), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs["channel_errors"].mean(axis=1), outputs["errors"], rtol=1e-5)
    np.testing.assert_allclose(outputs["scores"], outputs["errors"], rtol=1e-6)


def test_latent_distance_is_in_deviations_of_the_training_codes_in_any_direction(graph):
    graph, _ = graph

    codes = graph.encode(tf.zeros((3, 5, 2)))["codes"].numpy()
    distance = graph.infer(tf.zeros((3, 5, 2)))["latent_distance"].numpy()

    # The inverse of [[4, 0.6], [0.6, 0.25]], whose determinant is 0.64.
    a, b = codes[:, 0] - 1, codes[:, 1] + 1
    np.testing.assert_allclose(distance, (0.25 * a * a - 1.2 * a * b + 4 * b * b) / 0.64, rtol=1e-4)


@pytest.mark.parametrize("variance", [[4.0, 0.0], [0.0, 0.0]])
def test_code_dimensions_that_never_moved_keep_the_distance_finite(graph, variance):
    _, scaling = graph
    encoder, decoder = build(CONTRACT, NetworkConfig(latent=2))
    codes = (np.zeros(2), np.diag(variance), CodeFormat(2))
    still = Graph(CONTRACT, scaling, encoder, decoder, *codes, ScoreFormula.plain(CONTRACT))

    distance = still.infer(tf.ones((2, 5, 2)))["latent_distance"].numpy()

    assert np.isfinite(distance).all()


def test_graph_reads_examples_as_frames(graph):
    graph, _ = graph
    frames = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"frame": tf.train.Feature(float_list=tf.train.FloatList(value=frame.ravel()))}
            )
        ).SerializeToString()
        for frame in frames
    ]

    from_examples = graph.infer_examples(tf.constant(examples))
    from_frames = graph.infer(tf.constant(frames))

    assert {name: tensor.numpy().tolist() for name, tensor in from_examples.items()} == {
        name: tensor.numpy().tolist() for name, tensor in from_frames.items()
    }


def test_minmax_scaling_is_not_clipped(graph):
    graph, scaling = graph
    parts = (graph._encoder, graph._decoder, np.zeros(2), np.eye(2), CodeFormat(2), ScoreFormula.plain(CONTRACT))
    open_graph = Graph(CONTRACT, replace(scaling, kind="minmax"), *parts)
    far = tf.fill((1, 5, 2), 1e6)

    assert open_graph.infer(far)["errors"].numpy()[0] > 1e6 > graph.infer(far)["errors"].numpy()[0]


def test_constant_network_gives_back_the_centre_and_has_a_code_of_zeros():
    encoder, decoder = build(CONTRACT, NetworkConfig("constant", latent=12, scaling="robust"))
    frames = np.random.default_rng(3).normal(size=(7, 5, 2)).astype(np.float32)

    codes = encoder(frames).numpy()

    assert (codes.shape, codes.any()) == ((7, 12), False)
    assert (decoder(codes).shape, decoder(codes + 1).numpy().any()) == ((7, 5, 2), False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"scaling": "minmax"}, "standard or robust"), ({"hidden": (8,)}, "hidden"), ({"loss": "huber"}, "mse")],
)
def test_constant_network_takes_only_what_it_uses(wrong, message):
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**{"network": "constant", "scaling": "robust", **wrong})
