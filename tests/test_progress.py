"""A training that was stopped goes on to the very weights it would have had."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from small_models import CONFIG, CONTRACT, batches, make_frames, make_scaling

from ae_model.config import CorruptionConfig, VariationalConfig
from ae_model.training import fit
from ae_model.watch import Watch

FRAMES = make_frames(300)
HELD_OUT = make_frames(60, seed=1)
# Held-out frames that look like no others: they get worse as the fit gets better.
ODD = -40 * HELD_OUT[:20]
LONG = replace(CONFIG, epochs=8)


class Killed(Exception):
    """Stands for a kill: nothing of the training runs after it."""


def train(config, progress, *, until=None, frames=FRAMES, held_out=HELD_OUT, resumed=None, curves=None):
    """Fit, and stop when epoch ``until`` is about to be written down."""

    def on_epoch(epoch, *_):
        if epoch == until:
            raise Killed

    def on_resume(done, epochs):
        resumed.append((done, epochs))

    follow = on_resume if resumed is not None else None
    watch = Watch(on_epoch=on_epoch, on_resume=follow, progress=progress, curves=curves)
    return fit(CONTRACT, config, make_scaling(FRAMES), batches(frames), batches(held_out), watch)


def weights(model):
    return [array.tolist() for array in [*model.encoder.get_weights(), *model.decoder.get_weights()]]


def stop_and_go_on(config, path, untils, **others):
    """Stop at each of these epochs in turn, then train to the end; how often it was told to go on, and the model."""
    resumed = []
    for until in untils:
        with pytest.raises(Killed):
            train(config, path, until=until, resumed=resumed, **others)
    return resumed, train(config, path, resumed=resumed, **others)


# Keras reads its own learning rate in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    "config",
    [
        LONG,
        replace(LONG, optimizer="sgd", momentum=0.9),
        replace(LONG, schedule="cosine"),
        replace(LONG, schedule="plateau", patience=2, learning_rate=0.3),
        replace(LONG, corruption=CorruptionConfig("gaussian", 0.3), variational=VariationalConfig()),
    ],
    ids=["adam", "momentum", "cosine", "plateau", "noise"],
)
def test_a_training_stopped_twice_ends_with_the_weights_of_an_unbroken_one(tmp_path, config):
    unbroken = train(config, None)

    resumed, model = stop_and_go_on(config, tmp_path / "progress.npz", [3, 5])

    assert resumed == [(2, 8), (4, 8)]
    assert weights(model) == weights(unbroken)
    assert model.history == unbroken.history


def test_patience_and_the_best_weights_outlive_a_stop(tmp_path):
    config = replace(CONFIG, epochs=60, patience=4)
    unbroken = train(config, None, held_out=ODD)
    best = int(np.argmin(unbroken.history["val_loss"])) + 1
    assert len(unbroken.history["loss"]) == best + 4

    # The first stop is where patience is half out.
    resumed, model = stop_and_go_on(config, tmp_path / "progress.npz", [best + 3], held_out=ODD)

    assert resumed == [(best + 2, 60)]
    assert weights(model) == weights(unbroken)
    assert model.history == unbroken.history


@pytest.mark.parametrize(
    ("config", "held_out"),
    [(LONG, HELD_OUT), (replace(CONFIG, epochs=60, patience=2), ODD)],
    ids=["all epochs", "out of patience"],
)
def test_a_training_that_had_ended_has_nothing_left_to_do(tmp_path, config, held_out):
    first = train(config, tmp_path / "progress.npz", held_out=held_out)
    epochs = len(first.history["loss"])

    resumed = []
    watch = Watch(
        on_epoch=lambda *_: pytest.fail("an epoch was done again"),
        on_resume=lambda *done: resumed.append(done),
        progress=tmp_path / "progress.npz",
    )
    again = fit(CONTRACT, config, make_scaling(FRAMES), batches(FRAMES), batches(held_out), watch)

    assert resumed == [(epochs, config.epochs)]
    assert weights(again) == weights(first)
    assert again.history == first.history


@pytest.mark.parametrize("change", ["seed", "epochs", "training", "validation"])
def test_other_data_or_settings_start_anew(tmp_path, change):
    stop_and_go_on(LONG, tmp_path / "progress.npz", [3])
    config = {"seed": replace(LONG, seed=8), "epochs": replace(LONG, epochs=9)}.get(change, LONG)
    touched = [FRAMES.copy(), HELD_OUT.copy()]
    if change in ("training", "validation"):
        touched[change == "validation"][-1, -1, 0] += 0.5

    resumed = []
    model = train(config, tmp_path / "progress.npz", frames=touched[0], held_out=touched[1], resumed=resumed)

    assert resumed == []
    assert len(model.history["loss"]) == config.epochs


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-200], lambda data: b"x" * 500])
def test_a_damaged_file_starts_anew(tmp_path, damage):
    path = tmp_path / "progress.npz"
    with pytest.raises(Killed):
        train(LONG, path, until=3)
    path.write_bytes(damage(path.read_bytes()))

    resumed = []
    model = train(LONG, path, resumed=resumed)

    assert resumed == []
    assert weights(model) == weights(train(LONG, None))


def test_time_left_counts_the_epochs_of_this_run_alone(tmp_path):
    with pytest.raises(Killed):
        train(LONG, tmp_path / "progress.npz", until=6)
    told, seconds = [], iter([100.0, 104.0, 108.0, 112.0])

    watch = Watch(
        on_epoch=lambda epoch, epochs, loss, val_loss, left: told.append((epoch, left)),
        clock=lambda: next(seconds),
        progress=tmp_path / "progress.npz",
    )
    fit(CONTRACT, LONG, make_scaling(FRAMES), batches(FRAMES), batches(HELD_OUT), watch)

    assert told == [(6, 8.0), (7, 4.0), (8, 0.0)]


def read_events(folder):
    """(step, name, value) of all points, and the plug-ins that are to show them."""
    from tensorflow.core.util.event_pb2 import Event

    records = tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("events.out.tfevents.*"))])
    events = [Event.FromString(record) for record in records.as_numpy_iterator()]
    points = [(event.step, value) for event in events for value in event.summary.value]
    plugins = {value.metadata.plugin_data.plugin_name for step, value in points if step == 0}
    return [(step, value.tag, float(tf.make_ndarray(value.tensor))) for step, value in points], plugins


def test_curves_are_written_as_tensorboard_reads_them_and_go_on_after_a_stop(tmp_path):
    config = replace(CONFIG, epochs=4, schedule="cosine")
    _, model = stop_and_go_on(config, tmp_path / "progress.npz", [3], curves=tmp_path / "curves")

    training, plugins = read_events(tmp_path / "curves" / "train")
    validation, _ = read_events(tmp_path / "curves" / "validation")
    assert plugins == {"scalars"}
    losses = [(step, value) for step, name, value in training if name == "epoch_loss"]
    assert losses == [(step, pytest.approx(loss)) for step, loss in enumerate(model.history["loss"])]
    assert validation == [
        (step, "epoch_loss", pytest.approx(loss)) for step, loss in enumerate(model.history["val_loss"])
    ]
    rates = [value for _, name, value in training if name == "epoch_learning_rate"]
    # Half a cosine over four epochs.
    assert rates == [pytest.approx(0.01 * share, abs=1e-6) for share in (0.853553, 0.5, 0.146447, 0.0)]
