import errno
import json
from pathlib import Path

import pytest
from conftest import names, quiet, raise_, tree

from p2p_keras.workdir import resume
from p2p_keras.workdir.resume import drop_later_snapshots, set_aside_attempt


def _write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


ATTEMPT = (
    "samples/epoch_0001.png",
    "snapshots/step_00000003/checkpoint.index",
    "summaries/events",
    "history.jsonl",
    "curves.png",
    "eval/val/metrics.json",
    "eval/val/images/step_00000003/a.png",
)
OF_THE_DATA = ("eval/val/.lock", "eval/val/reference.npz", "eval/reference-train.npz", "data_check.json")


def test_what_an_attempt_left_is_moved_with_a_copy_of_its_settings(tmp_path):
    _write(tmp_path, *ATTEMPT, *OF_THE_DATA, "config.json")
    told = []
    set_aside_attempt(tmp_path, told.append)
    (aside,) = tmp_path.glob("before_*")
    assert told == [f"What an earlier attempt left in {tmp_path} is now in {aside}"]
    assert tree(aside) == {path: path.encode() for path in (*ATTEMPT, "config.json")}
    left = tree(tmp_path)
    assert {path for path in left if not path.startswith("before_")} == {*OF_THE_DATA, "config.json"}
    told.clear()
    set_aside_attempt(tmp_path, told.append)  # there is nothing more
    assert (told, len(list(tmp_path.glob("before_*")))) == ([], 1)


def test_a_start_that_came_to_nothing_leaves_nothing_to_set_aside(tmp_path):
    _write(tmp_path, "summaries/events", "config.json", "eval/val/reference.npz")
    (tmp_path / "samples").mkdir()
    (tmp_path / "history.jsonl").write_text("")
    before = tree(tmp_path)
    set_aside_attempt(tmp_path, pytest.fail)
    assert tree(tmp_path) == before
    set_aside_attempt(tmp_path / "new", pytest.fail)


def test_two_attempts_in_one_second_lie_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(resume.time, "strftime", lambda form: "before_now")
    for _ in range(3):
        _write(tmp_path, "samples/epoch_0001.png")
        set_aside_attempt(tmp_path, quiet)
    assert names(tmp_path) == ["before_now", "before_now_2", "before_now_3"]


def test_what_cannot_be_moved_keeps_no_run_from_beginning(tmp_path, monkeypatch):
    _write(tmp_path, *ATTEMPT)
    rename = Path.rename

    def refuse(path, target):
        if path.name == "metrics.json":
            raise_(PermissionError(errno.EACCES, "Permission denied"))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    told = []
    set_aside_attempt(tmp_path, told.append)
    assert "metrics.json is of an earlier attempt, but cannot be moved (Permission denied)" in told[0]
    assert not (tmp_path / "history.jsonl").exists()


def test_later_snapshots_go_and_those_that_do_not_come_again_are_kept_apart(tmp_path):
    _write(tmp_path, *(f"snapshots/step_{step:08d}/x" for step in (3, 6, 8, 9)), "config.json")
    told = []
    drop_later_snapshots(tmp_path, 3, lambda step: step % 3 == 0, told.append)
    (aside,) = tmp_path.glob("before_*")
    assert names(tmp_path / "snapshots") == ["step_00000003"]
    assert names(aside / "snapshots") == ["step_00000008"]
    assert told == [
        "Removed 2 snapshot(s) of steps after 3: they are made again",
        f"1 snapshot(s) of steps after 3 are now in {aside / 'snapshots'}",
    ]
    drop_later_snapshots(tmp_path, 3, lambda step: True, pytest.fail)
    drop_later_snapshots(tmp_path / "new", 0, json.loads, pytest.fail)  # without snapshots nothing is asked
