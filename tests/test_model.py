import gc
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import CONTRACT, fitted, make_frames

from ae_model.exceptions import ArtifactError, FrameError, RecordError
from ae_model.model import Detector

FRAMES = make_frames(70, seed=5)
SIGNATURES = ["decode", "encode", "infer", "reconstruct", "serving_default"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(small_models.publish(tmp_path_factory.mktemp("models")))


def as_lists(inference):
    return {name: values.tolist() for name, values in vars(inference).items()}


def test_a_loaded_detector_says_what_the_fitted_model_said(detector):
    said, expected = detector.infer(FRAMES), fitted().infer(FRAMES)

    for name, values in vars(expected).items():
        np.testing.assert_allclose(vars(said)[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_detector_carries_its_path_and_manifest(detector):
    assert detector.path.name == "1"
    assert (detector.manifest.name, detector.manifest.version) == ("small", 1)
    assert sorted(detector.loaded.signatures) == SIGNATURES


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65])
def test_any_number_of_frames_gives_as_many_rows_of_float32(detector, count):
    said = vars(detector.infer(FRAMES[:count]))

    assert {name: values.shape for name, values in said.items()} == {
        "codes": (count, 3),
        "frames": (count, 4, 3),
        "errors": (count,),
        "channel_errors": (count, 3),
        "latent_distance": (count,),
        "scores": (count,),
    }
    assert {values.dtype for values in said.values()} == {np.dtype(np.float32)}


def test_a_frame_scores_the_same_alone_and_among_others(detector):
    together = detector.infer(FRAMES)
    alone = [detector.infer(FRAMES[i : i + 1]) for i in range(len(FRAMES))]

    for name, values in vars(together).items():
        stacked = np.concatenate([vars(one)[name] for one in alone])
        np.testing.assert_allclose(stacked, values, rtol=1e-4, atol=1e-6, err_msg=name)


def test_no_size_of_batch_is_traced_again(detector):
    before = {name: id(function.graph) for name, function in detector.loaded.signatures.items()}

    for count in range(20):
        detector.infer(FRAMES[:count])

    # Only a function without a fixed signature could trace; these are concrete and have no tracer.
    assert {name: id(function.graph) for name, function in detector.loaded.signatures.items()} == before
    assert not any(hasattr(function, "get_concrete_function") for function in detector.loaded.signatures.values())


def test_encode_decode_and_reconstruct_agree_with_infer(detector):
    said = detector.infer(FRAMES)

    np.testing.assert_allclose(detector.encode(FRAMES), said.codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(detector.reconstruct(FRAMES), said.frames, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(detector.decode(said.codes), said.frames, rtol=1e-5, atol=1e-6)


def test_reconstruction_is_in_the_frames_own_units(detector):
    frames = detector.reconstruct(FRAMES)

    assert 80 < frames[:, :, 0].mean() < 120
    assert np.abs(frames[:, :, 1]).max() < 0.02
    np.testing.assert_allclose(frames[:, :, 2], 7.0, atol=0.5)


def variants():
    padded = np.zeros((140, 4, 6), np.float32)
    padded[::2, :, ::2] = FRAMES
    frozen = FRAMES.copy()
    frozen.flags.writeable = False
    buffer = np.frombuffer(FRAMES.tobytes(), np.float32).reshape(FRAMES.shape)
    unaligned = np.frombuffer(b"x" + FRAMES.tobytes(), np.float32, offset=1).reshape(FRAMES.shape)
    return {
        "strided": padded[::2, :, ::2],
        "fortran": np.asfortranarray(FRAMES),
        "frozen": frozen,
        "buffer": buffer,
        "unaligned": unaligned,
        "big-endian": FRAMES.astype(">f4"),
        "double": FRAMES.astype(np.float64),
    }


@pytest.mark.parametrize("layout", sorted(variants()))
def test_any_memory_layout_gives_the_same_and_is_left_alone(detector, layout):
    frames = variants()[layout]

    said = detector.infer(frames)

    assert as_lists(said) == as_lists(detector.infer(FRAMES))
    assert frames.tolist() == FRAMES.tolist()


def test_results_do_not_follow_later_changes_of_the_input(detector):
    frames = FRAMES.copy()
    said = detector.infer(frames)
    before = as_lists(said)

    frames[:] = 0

    assert as_lists(said) == before


def test_results_outlive_the_detector(tmp_path):
    detector = Detector.load(small_models.publish(tmp_path))
    said = detector.infer(FRAMES)
    before = as_lists(said)

    gone = weakref.ref(detector)
    del detector
    gc.collect()

    assert gone() is None
    assert as_lists(said) == before


@pytest.mark.parametrize(
    ("shape", "code"),
    [((2, 4, 2), "frame.channels"), ((2, 5, 3), "frame.size"), ((4, 3), "frame.size"), ((2, 4, 3, 1), "frame.size")],
)
def test_frames_of_another_shape_are_refused_by_name(detector, shape, code):
    for call in (detector.infer, detector.encode, detector.reconstruct):
        with pytest.raises(FrameError, match=r"expected \(n, \*\(4, 3\)\) for small. Received: shape=") as raised:
            call(np.zeros(shape, np.float32))
        assert raised.value.code == code


@pytest.mark.parametrize("codes", [np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros((2, 3), np.int8)])
def test_codes_of_another_format_are_refused_by_name(detector, codes):
    with pytest.raises(RecordError, match=r"codes: expected \(n, 3\) of float32") as raised:
        detector.decode(codes)

    assert raised.value.code == "schema.incompatible"


@pytest.mark.parametrize("wild", [np.nan, np.inf, 1e30])
def test_a_wild_sample_never_scores_below_the_threshold(detector, wild):
    frames = FRAMES[:2].copy()
    frames[0, 1, 0] = wild

    scores = detector.infer(frames).scores

    assert not scores[0] < detector.manifest.threshold.value
    assert scores[1] == pytest.approx(float(detector.infer(FRAMES[1:2]).scores[0]), rel=1e-5)


def test_threads_may_share_a_detector(detector):
    batches = [make_frames(17, seed=seed) for seed in range(24)]
    expected = [as_lists(detector.infer(batch)) for batch in batches]

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda batch: as_lists(detector.infer(batch)), batches * 5))

    assert said == expected * 5


def test_examples_score_as_their_frames_do(detector):
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"frame": tf.train.Feature(float_list=tf.train.FloatList(value=frame.ravel()))}
            )
        ).SerializeToString()
        for frame in FRAMES[:5]
    ]

    said = detector.loaded.signatures["serving_default"](examples=tf.constant(examples))

    assert {name: tensor.numpy().tolist() for name, tensor in said.items()} == as_lists(detector.infer(FRAMES[:5]))


def test_the_signature_for_examples_is_one_that_session_loaders_can_serve(detector):
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(detector.path))
        signature = loaded.signature_def["serving_default"]
        errors = session.run(signature.outputs["errors"].name, {signature.inputs["examples"].name: []})

    assert [(name, tensor.dtype) for name, tensor in signature.inputs.items()] == [("examples", tf.string)]
    assert errors.tolist() == []


def test_a_model_that_cannot_be_loaded_is_refused_and_not_half_loaded(detector, tmp_path, monkeypatch):
    folder = shutil.copytree(detector.path, tmp_path / "1")
    # The weights change between the check and the load.
    monkeypatch.setattr("ae_model.model.verify", lambda path: detector.manifest)
    (folder / "variables" / "variables.index").write_bytes(b"")

    with pytest.raises(ArtifactError, match=r"expected a SavedModel that loads. Received: \w+"):
        Detector.load(folder)


def test_a_linear_model_travels_in_the_same_form(tmp_path):
    from ae_model import artifact
    from ae_model.config import NetworkConfig
    from ae_model.training import fit

    frames = make_frames(100)
    scaling = small_models.make_scaling(frames)
    batches = small_models.batches(frames)
    model = fit(CONTRACT, NetworkConfig(network="linear", latent=3), scaling, batches, batches)
    artifact.export(tmp_path / "candidate", model, small_models.facts("pca"), frames[:4])
    artifact.publish(tmp_path / "candidate", tmp_path, "pca")

    detector = Detector.load(artifact.resolve(tmp_path, "pca"))

    np.testing.assert_allclose(detector.reconstruct(FRAMES), FRAMES, rtol=1e-4, atol=1e-5)
    assert sorted(detector.loaded.signatures) == SIGNATURES
