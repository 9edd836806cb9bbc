import numpy as np
import pytest
import tensorflow as tf
from conftest import read_events, small_config
from PIL import Image

from p2p_keras.images import charts
from p2p_keras.training.recorder import Recorder
from p2p_keras.training.step import LOSS_NAMES
from p2p_keras.workdir.history import read_history


def _losses(first: int, count: int) -> np.ndarray:
    """Of step n: n, n / 2, n / 4 and n / 8."""
    return np.arange(first, first + count)[:, np.newaxis] / np.array([1, 2, 4, 8], np.float32)


def _recorder(workdir, told, first_step=0, loss_sums=(0, 0, 0, 0), last_step=50):
    config = small_config(workdir)  # batches of 4
    return Recorder(workdir, config, np.array(loss_sums), first_step, 20, last_step, told.append)


def test_an_epochs_record_is_the_mean_of_its_steps(tmp_path):
    told = []
    with _recorder(tmp_path, told) as recorder:
        for first, count in ((0, 1), (1, 12), (13, 7)):
            recorder.add_losses(first, _losses(first + 1, count), secs=0.5 * count)
        recorder.end_epoch(20, {"split": "val", "count": 3, "l1": 0.25, "kid@768": 0.005})
        recorder.add_losses(20, _losses(21, 20), secs=10)
        recorder.end_epoch(40)
        recorder.add_losses(40, _losses(41, 10), secs=10)
        recorder.end_epoch(50)  # the run's length cuts it short
    first, second, third = read_history(tmp_path)
    for record, mean in ((first, 10.5), (second, 30.5), (third, 45.5)):
        assert [record[name] for name in LOSS_NAMES] == [mean, mean / 2, mean / 4, mean / 8]
    assert [record["epoch"] for record in (first, second, third)] == [1, 2, 2.5]
    # Four images a step; the first call's time is that of tracing and does not count.
    assert [record["images_per_sec"] for record in (first, second, third)] == [8, 8, 4]
    assert first["evaluation"] == {"split": "val", "count": 3, "l1": 0.25, "kid@768": 0.005}
    assert "evaluation" not in second
    assert told[0].startswith("epoch 1/2.5  GAN 5.250  L1 2.6250  discriminator 1.312  8.0 images/s  ")
    assert told[0].endswith("left\n    val: L1 0.2500  KID@768 x1000 5.000")


def test_an_epoch_goes_on_from_the_sums_of_a_checkpoint(tmp_path):
    with _recorder(tmp_path, [], first_step=15, loss_sums=_losses(1, 15).sum(axis=0)) as recorder:
        recorder.add_losses(15, _losses(16, 5), secs=1)
        recorder.end_epoch(20)
    assert read_history(tmp_path)[0]["generator_loss"] == 10.5
    assert read_history(tmp_path)[0]["images_per_sec"] is None  # there was but the call that traces


@pytest.mark.parametrize(
    ("first_step", "line"),
    [
        # 0.5 s a step, four images each: 100 epochs of 20 steps, less the 21 that are done.
        (0, "100 epochs: about 16 min here, at 8 images/s"),
        (1000, "The 48.9 epochs left of 100: about 8 min here, at 8 images/s"),
    ],
)
def test_how_long_it_takes_is_said_once_after_some_seconds(tmp_path, first_step, line):
    told = []
    with _recorder(tmp_path, told, first_step, last_step=2000) as recorder:
        recorder.add_losses(first_step, _losses(1, 2), secs=100)  # traces
        recorder.add_losses(first_step + 2, _losses(1, 18), secs=9)
        assert told == []
        for done in (20, 21):
            recorder.add_losses(first_step + done, _losses(1, 2), secs=1)
    assert told == [line]


def test_once_an_epoch_is_through_its_line_says_how_long(tmp_path):
    told = []
    with _recorder(tmp_path, told) as recorder:
        recorder.add_losses(0, _losses(1, 10), secs=1)
        recorder.add_losses(10, _losses(11, 10), secs=9)
        recorder.end_epoch(20)
        recorder.add_losses(20, _losses(21, 10), secs=9)
    assert [line.split()[:2] for line in told] == [["epoch", "1/2.5"]]


def test_tensorboard_gets_every_twentieth_step_and_the_images(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(charts, "training_curves", lambda history, path: drawn.append((history, path)))
    image = np.random.RandomState(0).randint(0, 256, (4, 6, 3), dtype=np.uint8)
    with _recorder(tmp_path, []) as recorder:
        recorder.add_losses(0, _losses(1, 39), secs=1)
        recorder.end_epoch(20, {"split": "val", "count": 3, "l1": 0.25, "ssim": 0.5})
        recorder.add_losses(39, _losses(40, 5), secs=1)
        recorder.add_samples(40, image)
    events = read_events(tmp_path / "summaries")
    values = {tag: [(step, tf.make_ndarray(value.tensor)) for step, value in found] for tag, found in events.items()}
    for number, name in enumerate(LOSS_NAMES):
        assert values[name] == [(20, 20 / 2**number), (40, 40 / 2**number)]
    assert values["val/ssim"] == [(20, 0.5)]
    assert [step for step, _ in values["samples"]] == [40]
    with Image.open(tmp_path / "samples" / "epoch_0002.png") as image:
        np.testing.assert_array_equal(np.asarray(image), image)
    assert drawn == [(read_history(tmp_path), tmp_path / "curves.png")]


@pytest.mark.parametrize(("step", "name"), [(1, "epoch_0001.png"), (20, "epoch_0001.png"), (21, "epoch_0002.png")])
def test_samples_have_the_number_of_the_epoch_that_they_are_of(tmp_path, step, name):
    with _recorder(tmp_path, []) as recorder:
        recorder.add_losses(0, _losses(1, 20), secs=1)
        recorder.end_epoch(20)
        recorder.add_samples(step, np.zeros((4, 6, 3), np.uint8))
    assert [path.name for path in (tmp_path / "samples").iterdir()] == [name]
