import numpy as np
import pytest
import small_models
from small_models import make_frames

from ae_model import receiver
from ae_model.exceptions import RecordError
from ae_model.model import Detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(small_models.publish(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize("count", [0, 1, 64, 200])
def test_codes_give_the_frames_that_the_sender_reconstructs(detector, count):
    frames = make_frames(count, seed=9)

    received = receiver.decode(detector.encode(frames), detector)

    assert received.shape == (count, 4, 3)
    np.testing.assert_allclose(received, detector.reconstruct(frames), rtol=1e-6, atol=1e-7)


def test_codes_survive_their_wire_form(detector):
    codes = detector.encode(make_frames(5))
    wire = codes.astype("<f4").tobytes()

    received = receiver.decode(np.frombuffer(wire, "<f4").reshape(5, 3), detector)

    assert received.tolist() == receiver.decode(codes, detector).tolist()


def test_decoding_changes_no_code(detector):
    codes = np.ones((5, 3), np.float32)
    codes.flags.writeable = False

    receiver.decode(codes, detector)

    assert codes.tolist() == [[1.0, 1.0, 1.0]] * 5


def test_codes_of_another_model_are_refused(detector):
    with pytest.raises(RecordError, match=r"expected \(n, 3\) of float32. Received: shape=\(5, 4\)"):
        receiver.decode(np.zeros((5, 4), np.float32), detector)
