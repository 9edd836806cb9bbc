import dataclasses
import errno
import os
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


def _inodes(folder) -> set[int]:
    return {path.stat().st_ino for path in folder.iterdir()}


def test_the_best_that_is_due_as_well_is_written_once(networks, tmp_path, monkeypatch):
    best = checkpoints.path_of(checkpoints.best_of(tmp_path), 1)
    with Saver(CONFIG, networks, 0, tmp_path) as saver:
        saver.save(1, best=True)
    newest = checkpoints.path_of(tmp_path, 1)
    assert _inodes(best) == _inodes(newest)
    assert len(_inodes(best)) == 2  # data and index
    with Saver(CONFIG, networks, 0, tmp_path) as saver:
        saver.save(2, best=True)
    assert not best.exists()
    assert checkpoints.find_problem(newest) is None  # a name less takes nothing away
    checkpoints.restore(networks.checkpoint, newest)


@pytest.mark.parametrize("reason", ["it is the only one kept", "the file system knows no links"])
def test_the_best_that_is_due_as_well_is_written_twice_where(reason, networks, tmp_path, monkeypatch):
    config = CONFIG
    if reason == "it is the only one kept":
        config = dataclasses.replace(CONFIG, keep_checkpoints=1)
    else:
        link = os.link

        def link_one(source, target):
            if "index" in str(target):
                raise OSError(errno.EPERM, "Operation not permitted")
            link(source, target)

        monkeypatch.setattr(os, "link", link_one)
    _fill(networks)
    with Saver(config, networks, 0, tmp_path) as saver:
        saver.save(1, best=True)
    places = checkpoints.places(tmp_path, 1)
    assert not _inodes(places[0]) & _inodes(places[1])
    assert [checkpoints.find_problem(path) for path in places] == [None, None]
    before = _values(networks)
    for path in places:
        checkpoints.restore(networks.checkpoint, path)
        for restored, value in zip(_values(networks), before, strict=True):
            np.testing.assert_array_equal(restored, value)


def test_a_snapshot_is_the_generator_alone_as_it_was(networks, held, tmp_path):
    directory = tmp_path / "checkpoints"
    _fill(networks)
    before = [weight.numpy() for weight in networks.generator.weights]
    with Saver(CONFIG, networks, 0, directory) as saver:
        saver.save(7, rotating=False, snapshot=True)
        for variable in networks.variables():
            variable.assign_add(tf.ones_like(variable))
        held.set()
    assert saver.step == -1  # no checkpoint to continue from
    assert checkpoints.generator_steps(directory) == [7]
    assert checkpoints.all_steps(directory) == []
    path = checkpoints.path_of(tmp_path / "snapshots", 7)
    names = tf.train.load_checkpoint(str(path / "checkpoint")).get_variable_to_shape_map()
    assert {name.split("/")[0] for name in names} - {"_CHECKPOINTABLE_OBJECT_GRAPH"} == {"generator"}
    size, count = sum(file.stat().st_size for file in path.iterdir()), networks.generator.count_params()
    assert 4 * count <= size < 4 * count + 200_000  # float32, and names
    checkpoints.restore_generator(networks.generator, path)
    for weight, value in zip(networks.generator.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_the_snapshot_comes_before_the_checkpoint_of_its_step(networks, tmp_path, monkeypatch):
    """A run that is killed between the two comes by again, and makes both; the other way round it would have a gap."""
    directory, save = tmp_path / "checkpoints", checkpoints.save
    order = []
    monkeypatch.setattr(checkpoints, "save", lambda *all_, **more: (order.append(all_[1].name), save(*all_, **more))[1])
    with Saver(CONFIG, networks, 0, directory) as saver:
        saver.save(1, best=True, snapshot=True)
    assert order == ["snapshots", "best", "checkpoints"]
