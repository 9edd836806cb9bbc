"""What an earlier p2p-prepare left: continued, recognised, refused."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SMALL_FORM,
    Killed,
    kill_at,
    prepare_folders,
    run_prepare,
    tree,
    write_pairs,
    write_two_folders,
)
from PIL import Image

from p2p_keras.data import manifest
from p2p_keras.data.manifest import read
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare import run as preparing
from p2p_keras.data.prepare.work import Rejected
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size


def test_the_same_again_is_recognised_and_workers_change_nothing(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    before = tree(tmp_path / "data")
    assert prepare_folders(raw, tmp_path / "data").finished_before
    prepare_folders(raw, tmp_path / "other", workers=2)
    assert tree(tmp_path / "other") == tree(tmp_path / "data") == before


def test_what_is_damaged_missing_or_half_written_is_made_again(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    whole = tree(tmp_path / "data")
    names = list(read(tmp_path / "data" / "manifest.csv"))
    state = tmp_path / "data" / ".prepare"
    state.mkdir()  # as if it had been killed towards the end
    (tmp_path / "data" / "manifest.csv").rename(state / "manifest.csv")
    settings = json.loads((tmp_path / "data" / "dataset.json").read_text())["settings"]
    (tmp_path / "data" / "dataset.json").unlink()
    (state / "dataset.json").write_text(json.dumps({"settings": settings}))
    (tmp_path / "data" / names[0]).unlink()
    content = bytearray((tmp_path / "data" / names[1]).read_bytes())
    content[-20] ^= 255  # the size stays
    (tmp_path / "data" / names[1]).write_bytes(content)
    with open(state / "manifest.csv", "a") as journal:
        journal.write("17.png,train,32,16,12")  # cut short
    prepare_folders(raw, tmp_path / "data")
    assert tree(tmp_path / "data") == whole


def test_added_changed_and_removed_sources_are_followed(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    part_of = {name.partition("/")[2]: name for name in read(tmp_path / "data" / "manifest.csv")}
    write_two_folders(raw, count=20)
    (raw / "street" / "00.png").unlink()
    Image.new("RGB", (90, 90)).save(raw / "street" / "03.png")
    outcome = prepare_folders(raw, tmp_path / "data")
    assert (outcome.made, outcome.removed) == (9, 1)
    after = read(tmp_path / "data" / "manifest.csv")
    assert len(after) == 19
    assert all(part_of.get(name.partition("/")[2], name) == name for name in after)  # nobody moved to another part
    assert not (tmp_path / "data" / part_of["00.png"]).exists()
    assert "aerial/00.png,it has no partner" in (tmp_path / "data" / lists.UNMATCHED).read_text()
    fresh = prepare_folders(raw, tmp_path / "fresh")
    assert fresh.made == 19
    assert tree(tmp_path / "fresh") == tree(tmp_path / "data")


def test_other_settings_and_other_folders_are_refused(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    with pytest.raises(UserError, match="image_size was 16, is 32"):
        prepare_folders(raw, tmp_path / "data", form=SMALL_FORM._replace(image_size=Size(32, 32)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        prepare_folders(raw, tmp_path / "mine")
    (tmp_path / "mine" / "dataset.json").write_text('{"panels": ["a", "b"]}')
    with pytest.raises(UserError, match="did not make"):
        prepare_folders(raw, tmp_path / "mine")
    with pytest.raises(UserError, match="can be written"):
        prepare_folders(raw, Path("/proc/data"))


def test_a_full_disk_stops_it_and_it_continues_afterwards(raw, tmp_path, monkeypatch):
    replace, done = os.replace, []

    def full(source, target):
        if str(target).endswith(".png") and "deep" in str(target):
            done.append(target)
            if len(done) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        prepare_folders(raw, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.part"))
    assert prepare_folders(raw, tmp_path / "data").counts
    prepare_folders(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_killed_in_the_middle_no_worker_stays_and_it_ends_with_the_same_bytes(tmp_path):
    write_two_folders(tmp_path / "raw", count=600, size=64)
    command = [sys.executable, "-m", "p2p_keras.cli.prepare", "--workers=2", "--image_size=64"]
    command += [f"--first={tmp_path}/raw/street", f"--second={tmp_path}/raw/aerial"]
    journal = tmp_path / "data" / ".prepare" / "manifest.csv"
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen([*command, f"--output={tmp_path}/data"], start_new_session=True)
        before, deadline = len(journal.read_text()) if journal.exists() else 0, time.monotonic() + 60
        while not (journal.exists() and len(journal.read_text()) > before + 100) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 130)
        while any_left(process.pid):  # the workers follow
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = len(read(journal))
        assert 0 < done < 600
    for output in ("data", "fresh"):
        assert subprocess.run([*command, f"--output={tmp_path}/{output}"], check=False).returncode == 0
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def any_left(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


@pytest.mark.parametrize("lost", ["the lists", "manifest.csv", "dataset.json"])
def test_pairs_that_were_added_are_not_lost_when_it_is_killed_before_all_is_written(raw, tmp_path, monkeypatch, lost):
    prepare_folders(raw, tmp_path / "data")
    write_two_folders(raw, count=20)
    with monkeypatch.context() as patched:
        if lost == "the lists":
            kill_at(patched, preparing, "near_duplicates")
        else:
            kill_before(patched, tmp_path / "data" / lost)
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    assert not prepare_folders(raw, tmp_path / "data").finished_before
    prepare_folders(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def kill_before(monkeypatch, path: Path) -> None:
    """The file does not get its name any more."""
    replace = os.replace

    def killed(source, target):
        if Path(target) == path:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)


@pytest.mark.parametrize("shards", [0, 3])
def test_it_ends_with_the_same_bytes_after_any_sequence_of_kills(raw, tmp_path, monkeypatch, shards):
    """Killed before its first file gets its name, then before its second, and so on until it comes through."""
    (raw / "street" / "alone.png").write_bytes((raw / "street" / "00.png").read_bytes())
    for call in range(1, 100):
        with monkeypatch.context() as patched:
            kill_at(patched, os, "replace", call)
            try:
                prepare_folders(raw, tmp_path / "data", shards=shards)
                break
            except Killed:
                pass
    assert call > 12
    prepare_folders(raw, tmp_path / "fresh", shards=shards)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


HEAD = len(manifest.HEAD)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[: HEAD - 9],
        lambda whole: whole[:HEAD],
        lambda whole: whole[:-30],
        lambda whole: whole[: HEAD + 40] + whole[HEAD:-60] + whole[HEAD:-30],  # cut twice, and continued each time
        lambda whole: whole[:400] + bytes(4096) + whole[400:],  # what a power cut leaves of a block
        lambda whole: b"\xff\xfe\r" + whole,
        lambda whole: whole.replace(b",train,", b",train,\xff"),
        lambda whole: b"a,b\n1,2\n",
    ],
)
def test_whatever_is_left_of_a_journal_it_continues_with_what_is_whole(raw, tmp_path, monkeypatch, spoil):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "near_duplicates")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    journal = tmp_path / "data" / ".prepare" / "manifest.csv"
    journal.write_bytes(spoil(journal.read_bytes()))
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "near_duplicates")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    assert len(read(journal)) == 12  # as the final one is read: whole, under one head
    outcome = prepare_folders(raw, tmp_path / "data")
    assert (outcome.made, outcome.removed) == (0, 0)
    prepare_folders(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("content", ["", '{"settings": {"pan', "[]"])
@pytest.mark.parametrize(
    "form", [SMALL_FORM, SMALL_FORM._replace(image_size=Size(8, 8)), SMALL_FORM._replace(format="jpeg")]
)
def test_where_its_settings_are_lost_the_journal_is_not_believed(raw, tmp_path, monkeypatch, content, form):
    """The files are as it says, but nobody knows what form they have."""
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "near_duplicates")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    (tmp_path / "data" / ".prepare" / "dataset.json").write_text(content)
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "make_pairs")  # once more, before anything is made
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data", form)
    assert prepare_folders(raw, tmp_path / "data", form).made == 12
    prepare_folders(raw, tmp_path / "fresh", form)
    done, fresh = tree(tmp_path / "data"), tree(tmp_path / "fresh")
    assert {name: done[name] for name in fresh} == fresh


def test_a_finished_set_is_extended_whatever_is_left_of_an_interrupted_extension(raw, tmp_path, monkeypatch):
    prepare_folders(raw, tmp_path / "data")
    write_two_folders(raw, count=20)
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "near_duplicates")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    (tmp_path / "data" / ".prepare" / "dataset.json").write_text("")
    assert prepare_folders(raw, tmp_path / "data").made == 8  # the 12 are known from manifest.csv
    prepare_folders(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("call", [1, 2, 3, 4])  # the three parts that lay loose, and the journal
def test_shards_are_finished_when_it_is_killed_while_it_tidies_up(raw, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing.shutil, "rmtree", call)
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data", shards=3)
    assert prepare_folders(raw, tmp_path / "data", shards=3).finished_before
    prepare_folders(raw, tmp_path / "fresh", shards=3)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_shards_of_an_interrupted_call_are_not_believed(raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing.os, "sync")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data", shards=3)
    shard = next((tmp_path / "data" / "shards").glob("train*"))
    shard.write_bytes(b"x" * shard.stat().st_size)  # whatever it is: the size is right
    prepare_folders(raw, tmp_path / "data", shards=3)
    prepare_folders(raw, tmp_path / "fresh", shards=3)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_a_finished_set_whose_shard_was_cut_is_not_called_finished(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data", shards=1)
    shard = next((tmp_path / "data" / "shards").glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="Name another --output"):
        prepare_folders(raw, tmp_path / "data", shards=1)


def test_another_list_is_another_data_set(raw, tmp_path):
    names = [path.relative_to(raw / "street").as_posix() for path in sorted((raw / "street").rglob("*.png"))]
    flags = [f"--output={tmp_path}/data", f"--first={raw}/street", f"--second={raw}/aerial", "--image_size=16"]
    flags += ["--workers=1", f"--train_list={tmp_path}/train.txt"]
    (tmp_path / "train.txt").write_text("\n".join(names))
    assert run_prepare(*flags).returncode == 0
    (tmp_path / "train.txt").write_text("\n".join(names[1:]))
    refused = run_prepare(*flags)
    assert refused.returncode == 2
    assert "continues only with the settings it began with" in refused.stderr
    assert "splits was" in refused.stderr


def as_an_earlier_version_left_it(data: Path, source: str) -> None:
    """Takes away what versions before `made_from` did not write: they had the sum of the files' bytes, and no order."""
    described = json.loads((data / "dataset.json").read_text())
    del described["crc32"]  # which earlier versions did not write
    del described["settings"]["made_from"]
    described["source"]["folders"] = source
    (data / "dataset.json").write_text(json.dumps(described, indent=2) + "\n")
    for path in (data / "manifest.csv", data / lists.REJECTED):
        if path.exists():
            path.write_text(re.sub(r"(\d+)\+(\d+)", lambda both: str(int(both[1]) + int(both[2])), path.read_text()))


REFUSED = (
    r"data was made from the folders street, aerial, in this order, but now it would be made from the folders "
    r"aerial, street: give the folders or panels as before, or, to make all pairs anew in the new order, remove "
    r"\S*data or name another --output\.$"
)


@pytest.mark.parametrize("state", ["finished", "finished by an earlier version", "killed", "with files added"])
def test_folders_in_another_order_are_refused_in_one_sentence_that_says_the_way_out(raw, tmp_path, monkeypatch, state):
    panels = ("left", "right")
    with monkeypatch.context() as patched:
        if state == "killed":
            kill_at(patched, preparing, "near_duplicates")
            with pytest.raises(Killed):
                prepare_folders(raw, tmp_path / "data", panels=panels)
        else:
            prepare_folders(raw, tmp_path / "data", panels=panels)
    if state == "finished by an earlier version":
        as_an_earlier_version_left_it(tmp_path / "data", "street, ../other/aerial")
    if state == "with files added":
        write_two_folders(raw, count=13)
    before = tree(tmp_path / "data")
    with pytest.raises(UserError, match=REFUSED):
        prepare_folders(raw, tmp_path / "data", folders=("aerial", "street"), panels=panels)
    assert tree(tmp_path / "data") == before
    prepare_folders(raw, tmp_path / "data", panels=panels)  # as before
    shutil.rmtree(tmp_path / "data")  # the other way out
    prepare_folders(raw, tmp_path / "data", folders=("aerial", "street"), panels=panels)
    name = next(iter(read(tmp_path / "data" / "manifest.csv")))
    both = np.asarray(Image.open(tmp_path / "data" / name))
    left = Image.open(raw / "aerial" / name.partition("/")[2]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(both[:, :16], left)


def test_panels_that_are_corrected_after_a_look_at_the_preview_are_refused_too(tmp_path):
    write_pairs(tmp_path / "old" / "train", 3)
    flags = [f"--output={tmp_path}/data", f"--composites={tmp_path}/old", "--panels=street,aerial", "--workers=1"]
    assert run_prepare(*flags, "--source_panels=street,aerial").returncode == 0
    refused = run_prepare(*flags, "--source_panels=aerial,street")
    assert refused.returncode == 2
    assert (
        "was made from composites of street,aerial, in this order, but now it would be made from composites of "
        "aerial,street: give the folders or panels as before"
    ) in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "finished before" in run_prepare(*flags, "--source_panels=street,aerial").stdout


def test_folders_of_equal_names_differ_and_may_be_moved(raw, tmp_path):
    for folder in ("street", "aerial"):
        (raw / folder).rename(tmp_path / "train")
        (raw / folder).mkdir()
        (tmp_path / "train").rename(raw / folder / "train")
    folders, panels = ("street/train", "aerial/train"), ("a", "b")
    prepare_folders(raw, tmp_path / "data", folders=folders, panels=panels)
    with pytest.raises(UserError, match="from the folders street/train, aerial/train, in this order, but now"):
        prepare_folders(raw, tmp_path / "data", folders=folders[::-1], panels=panels)
    moved = raw.rename(tmp_path / "moved")
    assert prepare_folders(moved, tmp_path / "data", folders=folders, panels=panels).finished_before
    (tmp_path / "disk").mkdir()
    (moved / "aerial").rename(tmp_path / "disk" / "aerial")
    folders = ("street/train", tmp_path / "disk" / "aerial" / "train")
    assert prepare_folders(moved, tmp_path / "data", folders=folders, panels=panels).finished_before


def test_files_that_changed_places_are_made_again(raw, tmp_path):
    """Their sum stays the same."""
    prepare_folders(raw, tmp_path / "data")
    one, other = raw / "street" / "00.png", raw / "aerial" / "00.png"
    sizes = [path.stat().st_size for path in (one, other)]
    assert sizes[0] != sizes[1]
    entry = next(entry for entry in read(tmp_path / "data" / "manifest.csv").values() if entry.pair == "00.png")
    assert entry.source_bytes == f"{sizes[0]}+{sizes[1]}"
    one.rename(tmp_path / "x")
    other.rename(one)
    (tmp_path / "x").rename(other)
    outcome = prepare_folders(raw, tmp_path / "data")
    assert (outcome.finished_before, outcome.made) == (False, 1)
    prepare_folders(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("shards", [0, 2])
def test_sets_of_earlier_versions_are_recognised_and_extended(raw, tmp_path, shards):
    (raw / "street" / "00.png").write_bytes(b"")
    prepare_folders(raw, tmp_path / "data", shards=shards, max_bad_files=1)
    as_an_earlier_version_left_it(tmp_path / "data", f"{raw}/street, {raw}/aerial")
    before = find_pairs(tmp_path / "data")
    assert prepare_folders(raw, tmp_path / "data", shards=shards, max_bad_files=1).finished_before
    assert find_pairs(tmp_path / "data") == before
    if not shards:
        write_two_folders(raw, count=20)
        assert prepare_folders(raw, tmp_path / "data").made == 9  # 8 new ones, and the mended one
        prepare_folders(raw, tmp_path / "fresh")
        assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("content", [b"", b"pair;split;problem;source_bytes\n00;train;empty;1\n", b"\xff\xfe\n\xff\n"])
def test_a_list_of_rejected_pairs_that_was_saved_otherwise_is_written_anew(raw, tmp_path, content):
    """As by a table program."""
    (raw / "street" / "00.png").write_bytes(b"")
    prepare_folders(raw, tmp_path / "data", max_bad_files=1)
    before = tree(tmp_path / "data")
    (tmp_path / "data" / lists.REJECTED).write_bytes(content)
    assert [one.pair for one in prepare_folders(raw, tmp_path / "data", max_bad_files=1).rejected] == ["00"]
    assert tree(tmp_path / "data") == before


def test_what_an_earlier_version_began_is_made_again_for_nobody_knows_its_order(raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, "near_duplicates")
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data", panels=("a", "b"))
    state = tmp_path / "data" / ".prepare" / "dataset.json"
    begun = json.loads(state.read_text())
    del begun["crc32"]
    del begun["settings"]["made_from"]
    state.write_text(json.dumps(begun))
    turned = {"folders": ("aerial", "street"), "panels": ("a", "b")}
    assert prepare_folders(raw, tmp_path / "data", **turned).made == 12
    prepare_folders(raw, tmp_path / "fresh", **turned)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_a_finished_set_without_its_manifest_is_refused_with_a_way_out(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    (tmp_path / "data" / "manifest.csv").unlink()
    with pytest.raises(UserError, match=r"manifest\.csv is gone\. Put it back, remove .*, or name another --output"):
        prepare_folders(raw, tmp_path / "data")


def test_a_rejected_pair_with_a_name_like_a_formula_is_known_again(tmp_path):
    rejected = [Rejected("=f(x)", "train", "its width 3 is not", "1+2"), Rejected("-a", "val", "it is empty", "0+1")]
    lists.write_rejected(tmp_path, rejected)
    assert (tmp_path / lists.REJECTED).read_text().splitlines()[1].startswith("./=f(x),")
    assert lists.read_rejected(tmp_path) == rejected
