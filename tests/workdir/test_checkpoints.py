import errno
import os
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import Killed, kill_at, names, raise_

from p2p_keras.errors import UserError
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.generator import restore_each
from p2p_keras.workdir.resume import complete_save, newest_whole


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
    restored, newest = _checkpoint(0.0), newest_whole(tmp_path)
    assert checkpoints.step_of(newest) == 4
    checkpoints.restore(restored, newest)
    np.testing.assert_array_equal(restored.weights, np.full(1000, 4.0, np.float32))


def test_keep_zero_keeps_all(tmp_path):
    for step in range(5):
        checkpoints.save(_checkpoint(), tmp_path, step, keep=0)
    assert checkpoints.list_steps(tmp_path) == [0, 1, 2, 3, 4]


def test_nothing_to_restore_is_none(tmp_path):
    assert newest_whole(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "no index", "no data"])
def test_a_damaged_newest_is_set_aside_and_named(tmp_path, damage):
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
    told = []
    assert newest_whole(tmp_path, told.append) == checkpoints.path_of(tmp_path, 1)
    assert told[0].startswith("Skipped the checkpoint of step 2: it is damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001", "step_00000002.damaged"]


def test_a_disk_that_fails_is_named_and_not_taken_for_diverged_training(tmp_path, monkeypatch):
    checkpoints.save(_checkpoint(1.0), tmp_path, 1, keep=0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: raise_(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(UserError, match=r"step 2 could not be saved .*; Input/output error.*mend the"):
            checkpoints.save(_checkpoint(2.0), tmp_path, 2, keep=0)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "find_problem", lambda path: "it is damaged (FILE; Input/output error)")
        with pytest.raises(UserError, match=r"was not kept: it is damaged.*That of step 1 is kept\. Mend the disk"):
            checkpoints.save(_checkpoint(2.0), tmp_path, 2, keep=0)
    assert names(tmp_path) == ["step_00000001"]


def test_a_second_damaged_one_of_a_step_takes_the_place_of_none(tmp_path):
    checkpoints.save(_checkpoint(1.0), tmp_path, 1, keep=0)
    for value in (2.0, 3.0):
        _damage(checkpoints.save(_checkpoint(value), tmp_path, 2, keep=0))
        newest_whole(tmp_path, lambda line: None)
    assert names(tmp_path) == ["step_00000001", "step_00000002.damaged", "step_00000002.damaged2"]


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("is_due", [True, False])
def test_what_a_kill_between_the_best_and_the_newest_left_to_do_is_done(tmp_path, keep, is_due):
    for step in (1, 2):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=0)
    for step in (1, 3):
        checkpoints.save(_checkpoint(float(step)), checkpoints.best_of(tmp_path), step, keep=0)
    complete_save(_checkpoint(3.0), tmp_path, 3, keep, is_due)
    assert checkpoints.list_steps(checkpoints.best_of(tmp_path)) == [3]
    assert checkpoints.list_steps(tmp_path) == ([1, 2, 3][-keep:] if is_due else [1, 2])
    for path in checkpoints.places(tmp_path, 3):
        restored = _checkpoint(0.0)
        checkpoints.restore(restored, path)
        np.testing.assert_array_equal(restored.weights, np.full(1000, 3.0, np.float32))


def test_what_a_kill_while_rotating_left_is_removed_and_a_damaged_best_removes_none(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(_checkpoint(), tmp_path, step, keep=0)
    for step in (2, 3):
        checkpoints.save(_checkpoint(), checkpoints.best_of(tmp_path), step, keep=0)
    _damage(checkpoints.path_of(checkpoints.best_of(tmp_path), 3))
    complete_save(_checkpoint(), tmp_path, 3, keep=2, is_due=True)
    assert checkpoints.list_steps(tmp_path) == [2, 3]
    assert checkpoints.list_steps(checkpoints.best_of(tmp_path)) == [2, 3]


def test_a_removed_one_is_whole_or_has_gone(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoints.save(_checkpoint(), tmp_path, step, keep=0)
    kill_at(monkeypatch, os, "unlink")
    with pytest.raises(Killed):
        checkpoints.rotate(tmp_path, 2, keep=1)
    assert names(tmp_path) == [".step_00000001.part", "step_00000002"]
    monkeypatch.undo()
    newest_whole(tmp_path)
    assert names(tmp_path) == ["step_00000002"]


def test_all_damaged_is_an_error_and_not_a_silent_start(tmp_path):
    checkpoints.save(_checkpoint(), tmp_path, 1, keep=0)
    _damage(checkpoints.path_of(tmp_path, 1))
    with pytest.raises(UserError, match=r"all 1 in .* are damaged"):
        newest_whole(tmp_path, lambda line: None)
    with pytest.raises(UserError, match=r"all 1 in .* are damaged"):  # and so it stays
        newest_whole(tmp_path, lambda line: None)


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
    assert newest_whole(tmp_path) == checkpoints.path_of(tmp_path, 1)
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
        checkpoints.restore(_checkpoint(size=11), checkpoints.path_of(tmp_path, 1))
    other = tf.train.Checkpoint(weights=tf.Variable(tf.zeros(10)), more=tf.Variable(1.0))
    with pytest.raises(UserError, match="does not fit"):
        checkpoints.restore(other, checkpoints.path_of(tmp_path, 1))


def _dense(value: float) -> keras.Model:
    """Stands in for a generator."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.layers[0].kernel.assign(tf.fill((3, 4), value))
    return model


def _save_generators(directory, steps, keep=0):
    for step in steps:
        checkpoint = tf.train.Checkpoint(generator=_dense(float(step)), other=tf.Variable(1.0))
        checkpoints.save(checkpoint, directory, step, keep)


def _value(model: keras.Model) -> float:
    return float(model.layers[0].kernel[0, 0])


def test_the_generator_comes_back_without_the_rest(tmp_path):
    _save_generators(tmp_path, [7])
    model = _dense(1.0)
    assert list(restore_each(model, tmp_path, "latest")) == [7]
    np.testing.assert_array_equal(model.layers[0].kernel, np.full((3, 4), 7.0, np.float32))
    with pytest.raises(UserError, match="does not fit"):
        next(restore_each(keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]), tmp_path, "7"))


def test_one_written_by_two_replicas_restores_into_plain_variables(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        mirrored = _checkpoint(7.0)
    checkpoints.save(mirrored, tmp_path, 1, keep=0)
    plain = _checkpoint(0.0)
    checkpoints.restore(plain, checkpoints.path_of(tmp_path, 1))
    assert float(plain.weights[0]) == 7.0


def test_the_best_is_out_of_reach_of_the_rotation_and_only_the_newest_best_stays(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=1)
        if step < 3:
            checkpoints.save_best(_checkpoint(float(step)), tmp_path, step)
    assert checkpoints.list_steps(tmp_path) == [3]
    assert checkpoints.list_steps(checkpoints.best_of(tmp_path)) == [2]
    assert checkpoints.choose(tmp_path, "best") == [2]
    assert checkpoints.choose(tmp_path, "all") == checkpoints.choose(tmp_path, "latest") == [2, 3]
    assert checkpoints.choose(tmp_path, "3") == [3]
    checkpoints.save_best(_checkpoint(), tmp_path, 1)  # after a resume from further back
    assert checkpoints.choose(tmp_path, "best") == [1]


def test_the_best_is_as_good_to_continue_from_as_any_other(tmp_path):
    checkpoints.save(_checkpoint(1.0), tmp_path, 1, keep=1)
    checkpoints.save_best(_checkpoint(2.0), tmp_path, 2)
    assert newest_whole(tmp_path) == checkpoints.path_of(tmp_path / "best", 2)
    checkpoints.save(_checkpoint(2.0), tmp_path, 2, keep=1)
    assert newest_whole(tmp_path) == checkpoints.path_of(tmp_path, 2)
    _damage(checkpoints.path_of(tmp_path, 2))
    assert newest_whole(tmp_path, lambda line: None) == checkpoints.path_of(tmp_path / "best", 2)


def test_a_damaged_one_is_never_restored(tmp_path):
    _save_generators(tmp_path, [1, 2, 3])
    _damage(checkpoints.path_of(tmp_path, 3))
    told, model = [], _dense(0.0)
    assert [_value(model) for _ in restore_each(model, tmp_path, "latest", told.append)] == [2]
    assert [_value(model) for _ in restore_each(model, tmp_path, "all", told.append)] == [1, 2]
    assert [line.partition(" (")[0] for line in told] == ["Skipped the checkpoint of step 3: it is damaged"] * 2
    with pytest.raises(UserError, match=r"--checkpoint=3 means .* is damaged or has gone"):
        next(restore_each(model, tmp_path, "3", told.append))


def test_rotation_counts_no_damaged_one_and_the_newest_whole_one_stays(tmp_path):
    """Whatever is wrong with the others: resumed at 1000 with 1500 damaged, 1100 is what a keep of one leaves."""
    for step in (500, 1000, 1500):
        checkpoints.save(_checkpoint(float(step)), tmp_path, step, keep=0)
    _damage(checkpoints.path_of(tmp_path, 1500))
    assert newest_whole(tmp_path, lambda line: None) == checkpoints.path_of(tmp_path, 1000)
    checkpoints.save(_checkpoint(1100.0), tmp_path, 1100, keep=1)
    assert checkpoints.list_steps(tmp_path) == [1100]
    _damage(checkpoints.path_of(tmp_path, 1100))  # damaged while the run goes on, so that nobody has set it aside
    checkpoints.save(_checkpoint(1200.0), tmp_path, 1200, keep=1)
    assert newest_whole(tmp_path) == checkpoints.path_of(tmp_path, 1200)


def test_one_that_rotation_takes_away_meanwhile_is_skipped_and_named(tmp_path, monkeypatch):
    _save_generators(tmp_path, [1, 2])
    model, told = _dense(0.0), []
    restore = checkpoints.restore_generator

    def take_away_first(generator, path):
        """What a training beside does between the look at a checkpoint and its restore."""
        if checkpoints.step_of(path) == 2 and not told:
            _save_generators(tmp_path, [3], keep=1)
        restore(generator, path)

    monkeypatch.setattr(checkpoints, "restore_generator", take_away_first)
    assert [_value(model) for _ in restore_each(model, tmp_path, "latest", told.append)] == [3]
    assert told == ["Skipped the checkpoint of step 2: it has gone"]

    told.clear()
    _save_generators(tmp_path, [4, 5, 6])
    for step in restore_each(model, tmp_path, "all", told.append):
        if step == 4:
            shutil.rmtree(checkpoints.path_of(tmp_path, 5))
        assert _value(model) == step
    assert told == ["Skipped the checkpoint of step 5: it has gone"]


def test_a_choice_that_cannot_be_met_says_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"There is none in .*p2p-train writes them"):
        checkpoints.choose(tmp_path, "latest")
    checkpoints.save(_checkpoint(), tmp_path, 500, keep=0)
    with pytest.raises(UserError, match=r"p2p-train --eval_every_epochs=N keeps.*the steps 500"):
        checkpoints.choose(tmp_path, "best")
    for which in ("7", "newest", "-500", "", "٥٠٠"):
        with pytest.raises(UserError, match=rf"latest, best or a step, .* Received: {which}. This run has 500"):
            checkpoints.choose(tmp_path, which)


def test_the_best_that_is_replaced_meanwhile_is_looked_for_again(tmp_path, monkeypatch):
    def save_best(step):
        checkpoints.save_best(tf.train.Checkpoint(generator=_dense(float(step))), tmp_path, step)

    save_best(12)
    model, told, restore = _dense(0.0), [], checkpoints.restore_generator

    def replace_first(generator, path):
        if not told and checkpoints.step_of(path) == 12:
            save_best(15)
        restore(generator, path)

    monkeypatch.setattr(checkpoints, "restore_generator", replace_first)
    assert [_value(model) for _ in restore_each(model, tmp_path, "best", told.append)] == [15]
    assert told == ["Skipped the checkpoint of step 12: it has gone"]


def _save_snapshots(directory, steps):
    for step in steps:
        checkpoint = tf.train.Checkpoint(generator=_dense(float(step)))
        checkpoints.save(checkpoint, checkpoints.snapshots_of(directory), step, 0, "snapshot")


def test_snapshots_are_taken_like_checkpoints_but_nothing_continues_from_them(tmp_path):
    directory = tmp_path / "checkpoints"
    _save_snapshots(directory, [1, 2, 4])
    assert newest_whole(directory) is None
    _save_generators(directory, [2, 3])
    assert checkpoints.choose(directory, "all") == [1, 2, 3, 4]  # a step in both once
    assert newest_whole(directory) == checkpoints.path_of(directory, 3)
    model, told = _dense(0.0), []
    assert [_value(model) for _ in restore_each(model, directory, "all", told.append)] == [1, 2, 3, 4]
    assert [_value(model) for _ in restore_each(model, directory, "1", told.append)] == [1]
    assert [_value(model) for _ in restore_each(model, directory, "latest", told.append)] == [4]
    assert told == []


def test_a_damaged_snapshot_is_skipped_and_named_and_stands_in_for_a_damaged_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    _save_snapshots(directory, [1, 2, 3])
    _save_generators(directory, [1, 3])
    _damage(checkpoints.path_of(directory, 1))
    for step in (2, 3):
        _damage(checkpoints.path_of(checkpoints.snapshots_of(directory), step))
    model, told = _dense(0.0), []
    assert [_value(model) for _ in restore_each(model, directory, "all", told.append)] == [1, 3]
    assert [line.partition(" (")[0] for line in told] == ["Skipped the checkpoint of step 2: it is damaged"]


def test_a_snapshot_that_does_not_fit_on_the_disk_says_so_and_leaves_the_others(tmp_path):
    folder = checkpoints.snapshots_of(tmp_path / "checkpoints")
    checkpoints.save(_checkpoint(1.0, size=300_000), folder, 1, 0, "snapshot")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"The snapshot of step 2 could not be saved .* step 1 is kept"):
            checkpoints.save(_checkpoint(2.0, size=300_000), folder, 2, 0, "snapshot")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == ["step_00000001"]


def test_what_a_kill_left_among_the_snapshots_is_swept_up(tmp_path):
    directory = tmp_path / "checkpoints"
    _save_snapshots(directory, [1])
    leftover = checkpoints.snapshots_of(directory) / ".step_00000002.part"
    leftover.mkdir()
    assert newest_whole(directory) is None
    assert not leftover.exists()
