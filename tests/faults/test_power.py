"""Every room that writes, with the power cut at each of its calls, and done again."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from conftest import Killed, quiet, tree

from faults.power import cut_power
from p2p_keras.evaluation.records import add_record, forget_later, read_records
from p2p_keras.export import publication
from p2p_keras.system import files
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.history import append_history, keep_history, read_history
from p2p_keras.workdir.resume import complete_save, newest_whole

LOSSES = {"gan_loss": 1.0, "l1_loss": 1.0, "discriminator_loss": 1.0}


def _cut_everywhere(
    monkeypatch, tmp_path: Path, begin: Callable, act: Callable, check: Callable = lambda folder: None
) -> int:
    """Cuts the power at each call of an act, checks, and acts again; returns how many calls there were.

    Args:
        monkeypatch: Pytest's.
        tmp_path: An empty folder.
        begin: Fills a folder with what is whole before.
        act: Changes it; done again after a power cut it must come to the same end.
        check: Fails if something is lost right after the cut.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    begin(whole)
    act(whole)
    for at in itertools.count(1):
        folder = tmp_path / "cut"
        folder.mkdir()
        begin(folder)
        with monkeypatch.context() as patched:
            cut_power(patched, at)
            try:
                act(folder)
                return at - 1
            except Killed:
                pass
        check(folder)
        act(folder)
        files.remove_leftovers(folder, beneath=True)  # as every command does when it starts
        assert tree(folder) == tree(whole), f"cut at call {at}"
        shutil.rmtree(folder)


def test_a_file_is_the_old_one_or_the_new_one(monkeypatch, tmp_path):
    def check(folder: Path) -> None:
        assert (folder / "a").read_text() in ("old", "new")

    count = _cut_everywhere(
        monkeypatch,
        tmp_path,
        lambda folder: (folder / "a").write_text("old"),
        lambda folder: files.write_whole(folder / "a", "new"),
        check,
    )
    assert count == 7  # opened, half written, written, synced, renamed, its folder synced, the hidden name removed


def test_the_history_has_every_epoch_once(monkeypatch, tmp_path):
    def act(folder: Path) -> None:  # as a run that continues from step 3
        keep_history(folder, 3, 1, quiet)
        append_history(folder, {"step": 6, "epoch": 2.0, **LOSSES})

    def check(folder: Path) -> None:
        assert [record["step"] for record in read_history(folder)] in ([3], [3, 6])

    count = _cut_everywhere(
        monkeypatch,
        tmp_path,
        lambda folder: append_history(folder, {"step": 3, "epoch": 1.0, **LOSSES}),
        act,
        check,
    )
    assert count == 11


def _record(step: int) -> dict:
    known = {"split": "val", "fingerprint": "f"}
    metrics = {"l1": step / 10}
    return {"step": step, "epoch": step / 3, "weights": "w", "count": 2, "metrics": metrics, "absent": {}} | {
        "cautions": [], "extractor": None, "pictures": known
    }  # fmt: skip


def _add(folder: Path, step: int) -> None:
    add_record(folder / "eval" / "val", _record(step), ["a", "b"], {"l1": np.array([step, 2 * step])})


def test_scores_join_those_that_were_there(monkeypatch, tmp_path):
    def check(folder: Path) -> None:
        records = read_records(folder / "eval" / "val")
        assert [record["step"] for record in records] in ([3], [3, 6])
        rows = (folder / "eval" / "val" / "per_image.csv").read_text().splitlines()
        assert {row.split(",")[0] for row in rows} >= {"step", "3"}

    count = _cut_everywhere(
        monkeypatch, tmp_path, lambda folder: _add(folder, 3), lambda folder: _add(folder, 6), check
    )
    assert count > 14


def test_scores_of_later_steps_go_and_no_others(monkeypatch, tmp_path):
    def begin(folder: Path) -> None:
        _add(folder, 3)
        _add(folder, 6)

    def check(folder: Path) -> None:
        assert 3 in [record["step"] for record in read_records(folder / "eval" / "val")]

    count = _cut_everywhere(monkeypatch, tmp_path, begin, lambda folder: forget_later(folder, 3, quiet), check)
    assert count == 14


def _checkpoint(value: float) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable(tf.fill([10], value)))


def test_checkpoints_rotate_and_one_is_whole_at_any_moment(monkeypatch, tmp_path):
    """TensorFlow's own calls do not count here: those the slow tests see."""

    def begin(folder: Path) -> None:
        for directory in (checkpoints.best_of(folder), folder):
            checkpoints.save(_checkpoint(1.0), directory, 1, keep=1)

    def act(folder: Path) -> None:  # as a run: on from what is there, and a save of the best and the newest
        newest = newest_whole(folder, quiet)
        complete_save(_checkpoint(2.0), folder, checkpoints.step_of(newest), 1, is_due=True)
        if checkpoints.step_of(newest) == 1:
            best = checkpoints.save_best(_checkpoint(2.0), folder, 2)
            checkpoints.save(_checkpoint(2.0), folder, 2, 1, twin=best)

    def check(folder: Path) -> None:
        for directory in (folder, checkpoints.best_of(folder)):
            steps = checkpoints.list_steps(directory)
            assert steps in ([1], [1, 2], [2])
            assert [checkpoints.find_problem(checkpoints.path_of(directory, step)) for step in steps] == [None] * len(
                steps
            )

    count = _cut_everywhere(monkeypatch, tmp_path, begin, act, check)
    assert count > 20


def test_an_export_appears_whole_and_is_there_at_most_twice(monkeypatch, tmp_path):
    monkeypatch.setattr(publication, "_describe", lambda trained, noise: {"step": 6})

    def publish() -> None:
        def fill(folder: Path) -> None:
            folder.mkdir()
            (folder / "saved_model.pb").write_text("model")

        publication.publish(None, folder, fill)

    def versions() -> list[dict[str, bytes]]:
        return [tree(folder / str(number)) for number in publication.list_versions(folder)]

    folder = tmp_path / "whole"
    publish()
    publish()
    whole = versions()
    assert whole[0] == whole[1]
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        publish()
        with monkeypatch.context() as patched:
            cut_power(patched, at)
            try:
                publish()
                break
            except Killed:
                pass
        assert versions() in (whole[:1], whole)
        publish()
        assert versions() in (whole, [*whole, whole[0]])
        assert all(path.name.isdecimal() for path in folder.iterdir())
    assert at > 14
