import threading

import numpy as np
import pytest
import tensorflow as tf
from conftest import DEADLINE_SECS, raise_, wait_for

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.training import saver as saver_module
from p2p_keras.training.networks import build_networks
from p2p_keras.training.saver import Saver
from p2p_keras.workdir import checkpoints

CONFIG = TrainConfig(image_size=32, base_filters=2, precision="float32")


@pytest.fixture
def networks(one_device):
    return build_networks(CONFIG, one_device, 10, 0)


def _fill(networks) -> None:
    """Gives every variable, also the optimizers' moments, other numbers than it began with."""
    rng = np.random.RandomState(0)
    for variable in networks.variables():
        variable.assign(tf.cast(rng.uniform(0, 9, variable.shape), variable.dtype))


@pytest.fixture
def held(monkeypatch) -> threading.Event:
    """Checkpoints are written only once it is set."""
    event, save = threading.Event(), checkpoints.save

    def wait_and_save(*arguments):
        assert event.wait(DEADLINE_SECS)
        return save(*arguments)

    monkeypatch.setattr(checkpoints, "save", wait_and_save)
    return event


def _values(networks) -> list[np.ndarray]:
    return [variable.numpy() for variable in networks.variables()]


def test_what_is_written_is_what_was_when_it_was_asked_for(networks, held, tmp_path):
    _fill(networks)
    before = _values(networks)
    with Saver(CONFIG, networks, 0, tmp_path) as saver:
        saver.save(7)
        optimizer, weights = networks.generator_optimizer, networks.generator.trainable_variables
        optimizer.apply([tf.ones_like(weight) for weight in weights], weights)  # in place, as a step does
        for variable in networks.variables():
            variable.assign_add(tf.ones_like(variable))
        assert checkpoints.list_steps(tmp_path) == []
        held.set()
    after = _values(networks)
    checkpoints.restore(networks.checkpoint, checkpoints.path_of(tmp_path, 7))
    for restored, at_the_time, later in zip(_values(networks), before, after, strict=True):
        np.testing.assert_array_equal(restored, at_the_time)
        assert not np.array_equal(restored, later)


@pytest.mark.parametrize("decaying", [0, 5])
@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]], ids=["one device", "two"])
def test_it_is_the_file_that_the_networks_themselves_write(decaying, devices, tmp_path):
    """With a learning rate that decays, the optimizers have a variable less."""
    networks = build_networks(CONFIG, tf.distribute.MirroredStrategy(devices), 10, decaying)
    _fill(networks)
    with Saver(CONFIG, networks, decaying, tmp_path / "saver") as saver:
        saver.save(3)
    checkpoints.save(networks.checkpoint, tmp_path / "own", 3, 0)
    one, other = (
        tf.train.load_checkpoint(str(checkpoints.path_of(tmp_path / name, 3) / "checkpoint"))
        for name in ("saver", "own")
    )
    names = one.get_variable_to_shape_map()
    assert names == other.get_variable_to_shape_map()
    for name in set(names) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), err_msg=name)


def test_the_block_ends_when_all_is_written(networks, tmp_path):
    with Saver(CONFIG, networks, 0, tmp_path) as saver:
        saver.save(1)
        saver.save(2, best=True)
        saver.save(3, best=True, rotating=False)
    assert checkpoints.list_steps(tmp_path) == [1, 2]
    assert checkpoints.list_steps(checkpoints.best_of(tmp_path)) == [3]
    assert saver.step == 2


def test_one_that_could_not_be_written_is_an_error_at_the_next_chance(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save", lambda *_: raise_(UserError("no room")))
    for ask in (Saver.check, Saver.wait, lambda saver: saver.save(2)):
        saver = Saver(CONFIG, networks, 0, tmp_path)
        saver.check()
        saver.save(1)
        wait_for(saver._job.done)
        with pytest.raises(UserError, match="no room"):
            ask(saver)
        saver.check()  # it is said once
    with pytest.raises(UserError, match="no room"), Saver(CONFIG, networks, 0, tmp_path) as saver:
        saver.save(1)


def test_an_error_while_training_is_not_covered_up_by_one_while_saving(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save", lambda *_: raise_(UserError("no room")))

    def train():
        with Saver(CONFIG, networks, 0, tmp_path) as saver:
            saver.save(1)
            raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        train()


def test_one_is_due_by_steps_or_by_time(networks, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(saver_module.time, "monotonic", lambda: now)
    with Saver(CONFIG, networks, 0, tmp_path) as saver:
        assert [step for step in (0, 1, 499, 500, 501, 1000) if saver.is_due(step)] == [500, 1000]
        now += 599
        assert not saver.is_due(501)
        now += 1
        assert saver.is_due(501)
        saver.save(501, best=True, rotating=False)
        assert saver.is_due(501)  # the best is none of the newest
        saver.save(501)
        assert not saver.is_due(502)
