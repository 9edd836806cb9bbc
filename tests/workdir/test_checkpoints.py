import resource

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import quiet

from p2p_keras.errors import UserError
from p2p_keras.workdir import checkpoints


def _checkpoint(value=1.0, size=1000):
    return tf.train.Checkpoint(weights=tf.Variable(tf.fill([size], value)), step=tf.Variable(3, dtype=tf.int64))


def _damage(path, place=0.5):
    data = next(path.glob("*.data-*"))
    content = bytearray(data.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    data.write_bytes(content)


def test_what_was_saved_comes_back_and_old_ones_go(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=2)
    assert checkpoints.list_steps(tmp_path) == [3, 4]
    restored = _checkpoint(0.0)
    assert checkpoints.restore_newest(restored, tmp_path) == 4
    np.testing.assert_array_equal(restored.weights, np.full(1000, 4.0, np.float32))


def test_keep_zero_keeps_all(tmp_path):
    for step in range(5):
        checkpoints.save(_checkpoint(), tmp_path, step, keep=0)
    assert checkpoints.list_steps(tmp_path) == [0, 1, 2, 3, 4]


def test_nothing_to_restore_is_none(tmp_path):
    assert checkpoints.restore_newest(_checkpoint(), tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "no index", "no data"])
def test_a_damaged_newest_is_passed_over_and_named(tmp_path, damage):
    for step in (1, 2):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=0)
    newest = checkpoints.path_of(tmp_path, 2)
    data, index = next(newest.glob("*.data-*")), next(newest.glob("*.index"))
    if damage == "flip":
        _damage(newest)
    elif damage == "cut":
        data.write_bytes(data.read_bytes()[:100])
    else:
        (index if damage == "no index" else data).unlink()
    told, restored = [], _checkpoint(0.0)
    assert checkpoints.restore_newest(restored, tmp_path, told.append) == 1
    assert float(restored.weights[0]) == 1.0
    assert "step 2" in told[0]


def test_all_damaged_is_an_error_and_not_a_silent_start(tmp_path):
    checkpoints.save(_checkpoint(), tmp_path, 1, keep=0)
    _damage(checkpoints.path_of(tmp_path, 1))
    with pytest.raises(UserError, match=r"all 1 in .* are damaged"):
        checkpoints.restore_newest(_checkpoint(), tmp_path, quiet)


def test_values_that_are_not_finite_are_not_saved_and_rotate_nothing_out(tmp_path):
    checkpoints.save(_checkpoint(1.0), tmp_path, 1, keep=1)
    with pytest.raises(UserError, match=r"weights.* is not finite.*step 1 is kept"):
        checkpoints.save(_checkpoint(float("nan")), tmp_path, 2, keep=1)
    assert checkpoints.list_steps(tmp_path) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_a_disk_that_runs_full_leaves_the_previous_one_good(tmp_path):
    """A limit on the size of files stands in for the disk: the write fails in the middle just the same."""
    checkpoints.save(_checkpoint(1.0, size=300_000), tmp_path, 1, keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"step 2 could not be saved .* step 1 is kept") as error:
            checkpoints.save(_checkpoint(2.0, size=300_000), tmp_path, 2, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "{{" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert checkpoints.find_problem(checkpoints.path_of(tmp_path, 1)) is None


def test_leftovers_of_a_kill_are_swept_up(tmp_path):
    checkpoints.save(_checkpoint(), tmp_path, 1, keep=0)
    (tmp_path / ".step_00000002.part").mkdir()
    assert checkpoints.restore_newest(_checkpoint(), tmp_path) == 1
    assert checkpoints.list_steps(tmp_path) == [1]
    assert not (tmp_path / ".step_00000002.part").exists()


def test_a_damaged_one_is_replaced_when_the_run_comes_by_again(tmp_path):
    checkpoints.save(_checkpoint(), tmp_path, 1, keep=0)
    _damage(checkpoints.path_of(tmp_path, 1))
    checkpoints.save(_checkpoint(), tmp_path, 1, keep=0)
    assert checkpoints.find_problem(checkpoints.path_of(tmp_path, 1)) is None


def test_networks_of_another_form_are_refused_in_words(tmp_path):
    checkpoints.save(_checkpoint(size=10), tmp_path, 1, keep=0)
    with pytest.raises(UserError, match="does not fit"):
        checkpoints.restore(_checkpoint(size=11), tmp_path, 1)
    other = tf.train.Checkpoint(weights=tf.Variable(tf.zeros(10)), more=tf.Variable(1.0))
    with pytest.raises(UserError, match="does not fit"):
        checkpoints.restore(other, tmp_path, 1)


def test_the_generator_comes_back_without_the_rest(tmp_path):
    def dense(seed):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer="ones")])
        model.layers[0].kernel.assign(tf.fill((3, 4), float(seed)))
        return model

    checkpoints.save(tf.train.Checkpoint(generator=dense(7), other=tf.Variable(1.0)), tmp_path, 1, keep=0)
    model = dense(1)
    checkpoints.restore_generator(model, tmp_path, 1)
    np.testing.assert_array_equal(model.layers[0].kernel, np.full((3, 4), 7.0, np.float32))
    with pytest.raises(UserError, match="does not fit"):
        checkpoints.restore_generator(keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]), tmp_path, 1)


def test_one_written_by_two_replicas_restores_into_plain_variables(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        mirrored = _checkpoint(7.0)
    checkpoints.save(mirrored, tmp_path, 1, keep=0)
    plain = _checkpoint(0.0)
    checkpoints.restore(plain, tmp_path, 1)
    assert float(plain.weights[0]) == 7.0


def test_the_best_is_out_of_reach_of_the_rotation_and_only_the_newest_best_stays(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=1)
        if step < 3:
            checkpoints.save_best(_checkpoint(float(step)), tmp_path, step)
    assert checkpoints.list_steps(tmp_path) == [3]
    assert checkpoints.list_steps(checkpoints.best_of(tmp_path)) == [2]
    assert checkpoints.choose(tmp_path, "best") == [(2, tmp_path / "best")]
    assert checkpoints.choose(tmp_path, "all") == [(2, tmp_path / "best"), (3, tmp_path)]
    assert checkpoints.choose(tmp_path, "latest") == checkpoints.choose(tmp_path, "3") == [(3, tmp_path)]
    checkpoints.save_best(_checkpoint(), tmp_path, 1)  # after a resume from further back
    assert checkpoints.choose(tmp_path, "best") == [(1, tmp_path / "best")]


def test_a_damaged_one_is_never_chosen(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=0)
    _damage(checkpoints.path_of(tmp_path, 3))
    told = []
    assert checkpoints.choose(tmp_path, "latest", told.append) == [(2, tmp_path)]
    assert checkpoints.choose(tmp_path, "all", told.append) == [(1, tmp_path), (2, tmp_path)]
    assert len(told) == 2
    assert "step 3" in told[0]
    with pytest.raises(UserError, match="--checkpoint=3 means"):
        checkpoints.choose(tmp_path, "3", told.append)


def test_a_choice_that_cannot_be_met_says_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"There is none in .*p2p-train writes them"):
        checkpoints.choose(tmp_path, "latest")
    checkpoints.save(_checkpoint(), tmp_path, 500, keep=0)
    with pytest.raises(UserError, match=r"p2p-train --eval_every_epochs=N keeps.*the steps 500"):
        checkpoints.choose(tmp_path, "best")
    for which in ("7", "newest", "-500", ""):
        with pytest.raises(UserError, match=rf"latest, best, all or a step. Received: {which}. This run has 500"):
            checkpoints.choose(tmp_path, which)
