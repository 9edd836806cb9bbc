import errno
import fcntl
import hashlib
import os
import stat
import threading
import time

import pytest
from conftest import DEADLINE_SECS, at_once, names

from p2p_keras.system import files


def test_a_file_is_replaced_as_a_whole(tmp_path):
    files.write_whole(tmp_path / "a", "one")
    files.write_whole(tmp_path / "a", b"t\xc3\xbco")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "tüo"
    assert names(tmp_path) == ["a"]


def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    files.write_whole(tmp_path / "a", "one")
    (tmp_path / "b").write_text("two")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_what_fails_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch):
    files.write_whole(tmp_path / "a", "one")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.write_whole(tmp_path / "a", "two")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    assert (tmp_path / "a").read_text() == "one"
    assert names(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError) as caught:
        files.write_whole(tmp_path / "none" / "a", "three")
    assert caught.value.filename == str(tmp_path / "none" / "a")


@pytest.mark.parametrize("act", [files.checksum, lambda path: files.append_line(path, "two"), files.sync_path])
def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch, act):
    (tmp_path / "a").write_text("one")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    monkeypatch.setattr(files.hashlib, "sha256", fail)  # stands for the read, which nothing can be put in the way of
    with pytest.raises(OSError, match="Input/output error") as caught:
        act(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")


def test_the_content_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (order.append(stat.S_ISDIR(os.fstat(fd).st_mode)), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append("renamed"), replace(a, b)))
    files.write_whole(tmp_path / "a", "one")
    assert order == [False, "renamed", True]  # the file, its name, the folder
    order.clear()
    files.append_line(tmp_path / "log", "one")
    files.append_line(tmp_path / "log", "two")
    assert order == [False, True, False]


def test_two_writers_of_one_file_never_meet(tmp_path):
    """With one hidden name for both, one renames it while the other still writes, who then finds nothing to rename."""
    failed = []

    def write(text: str) -> None:
        for _ in range(300):
            try:
                files.write_whole(tmp_path / "curves.png", text, sync=False)
            except OSError as error:
                failed.append(error)

    at_once(lambda: write("a" * 100_000), lambda: write("b" * 100_000))
    assert failed == []
    assert (tmp_path / "curves.png").read_text() in ("a" * 100_000, "b" * 100_000)
    assert names(tmp_path) == ["curves.png"]


def test_a_line_cut_short_is_ended_before_the_next(tmp_path):
    (tmp_path / "log").write_text("one\ntw")
    files.append_line(tmp_path / "log", "three")
    assert (tmp_path / "log").read_text() == "one\ntw\nthree\n"


def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path):
    (tmp_path / ".0123456789abcdef.part").write_text("half")
    (tmp_path / ".lock").write_text("")
    (tmp_path / "a.part").write_text("mine")
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == [".lock", "a.part"]


def test_what_a_living_process_is_writing_is_no_leftover(tmp_path):
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / ".0.part").write_text("half")
    with files.whole_file(tmp_path / "deep" / "a", sync=False) as file:
        files.remove_leftovers(tmp_path, beneath=True)
        file.write(b"whole")
    assert names(tmp_path) == ["deep"]
    assert names(tmp_path / "deep") == ["a"]
    assert (tmp_path / "deep" / "a").read_text() == "whole"


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    flock, taken = fcntl.flock, []

    def flock_late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.append(names(tmp_path))
            files.remove_leftovers(tmp_path)
        flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", flock_late)
    files.write_whole(tmp_path / "a", "one", sync=False)
    assert [len(found) for found in taken] == [1]
    assert names(tmp_path) == ["a"]


def _no_locks(monkeypatch, number: int = errno.ENOLCK) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", unknown)


def test_without_locks_what_may_be_in_use_goes_by_its_age(tmp_path, monkeypatch):
    _no_locks(monkeypatch)
    for name, age_secs in ((".0.part", 90), (".1.part", 30)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age_secs,) * 2)
    files.remove_leftovers(tmp_path, older_than_secs=60)
    assert names(tmp_path) == [".1.part"]
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_hidden_folder_goes_with_its_block_and_takes_those_of_killed_processes_along(tmp_path):
    (tmp_path / ".part-dead" / "version").mkdir(parents=True)
    with files.hidden_folder(tmp_path) as one, files.hidden_folder(tmp_path) as other:
        assert names(tmp_path) == sorted([one.name, other.name])  # the dead one's is gone, the living one's is not
        (one / "file").write_text("half")
    assert names(tmp_path) == []


def test_a_lock_keeps_others_out_until_it_ends(tmp_path):
    for path in (tmp_path, tmp_path / "lock"):
        with files.locked(path, wait=False), pytest.raises(BlockingIOError), files.locked(path, wait=False):
            pass
        with files.locked(path, wait=False):  # free again
            pass


def test_a_waiting_lock_has_its_turn(tmp_path):
    order, begun = [], threading.Event()

    def first() -> None:
        with files.locked(tmp_path, wait=False):
            begun.set()
            time.sleep(0.05)  # in which the other one, if it did not wait, would come before
            order.append("first")

    def second() -> None:
        begun.wait(DEADLINE_SECS)
        with files.locked(tmp_path, wait=True):
            order.append("second")

    at_once(first, second)
    assert order == ["first", "second"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF])
def test_a_file_system_without_locks_takes_none(tmp_path, monkeypatch, number):
    _no_locks(monkeypatch, number)
    with files.locked(tmp_path / "lock", wait=False) as one, files.locked(tmp_path / "lock", wait=False) as other:
        assert one != other  # both are in, for nothing keeps them out


def test_the_checksum_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert files.checksum(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a/..", "a\0b"])
def test_paths_that_lead_out_of_a_folder(name):
    assert files.leads_out(name)


@pytest.mark.parametrize("name", ["x", "a/b.c", "..a/b..", "-x", "a b", ""])
def test_paths_that_stay_in_a_folder(name):
    assert not files.leads_out(name)


def test_json_is_read_as_it_was_written(tmp_path):
    files.write_whole(tmp_path / "a", '{"é": [1, 2.5, null]}')
    assert files.read_json(tmp_path / "a") == {"é": [1, 2.5, None]}
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[]")
    assert files.read_json(tmp_path / "a") == []


def test_json_that_fills_the_memory_or_the_stack_is_refused(tmp_path):
    (tmp_path / "deep").write_text("[" * 1_000_000)
    with pytest.raises(ValueError, match="nested too deep"):
        files.read_json(tmp_path / "deep")
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="larger than 32 MB"):
        files.read_json(tmp_path / "endless")


def test_a_pipe_in_place_of_json_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="Expecting value"):
        files.read_json(tmp_path / "pipe")


def test_a_shared_lock_keeps_out_only_who_does_not_share_it(tmp_path):
    share, alone = ({"path": tmp_path, "wait": False, "shared": shared} for shared in (True, False))
    with files.locked(**share), files.locked(**share), pytest.raises(BlockingIOError), files.locked(**alone):
        pass
    with files.locked(**alone), pytest.raises(BlockingIOError), files.locked(**share):
        pass
