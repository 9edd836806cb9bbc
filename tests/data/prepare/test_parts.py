"""A data set made in parts: whatever befalls them, it is that of one go, byte for byte."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    SMALL_FORM,
    Killed,
    at_once,
    call_command,
    kill_at,
    prepare_folders,
    run_command,
    start_command,
    tree,
    write_two_folders,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p2p_keras.cli import prepare as prepare_command
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import parts, sources, splits, stack
from p2p_keras.data.prepare.parts import Part, merge, parse_part, prepare_part
from p2p_keras.data.prepare.run import Outcome
from p2p_keras.data.prepare.shards import write_shards
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size
from p2p_keras.system import files

RULE = {"shares": [60, 20, 20]}
FORM = SMALL_FORM


def _arguments(root: Path, output: Path, form=FORM) -> tuple:
    found = sources.two_folders([root / "street", root / "aerial"])
    return found, splits.by_hash(found.sources, splits.Shares(60, 20, 20)), output, form, RULE


def make(root: Path, output: Path, part: Part, shards: int = 0, bad: int = 9, form=FORM) -> Outcome:
    return prepare_part(*_arguments(root, output, form), part, shards, max_bad_files=bad)


def join(root: Path, output: Path, shards: int = 0, bad: int = 9) -> Outcome:
    return merge(*_arguments(root, output), shards, bad)


def make_all(root: Path, output: Path, of: int, shards: int = 0) -> None:
    for number in range(of):
        make(root, output, Part(number, of), shards)


def spoil(root: Path) -> None:
    """Gives every list something: a bad file, one without a partner, pairs of two splits that look alike."""
    (root / "aerial" / "06.png").write_bytes(b"no image")
    (root / "street" / "alone.png").write_bytes((root / "street" / "00.png").read_bytes())
    found = sources.two_folders([root / "street", root / "aerial"]).sources
    split_of = splits.by_hash(found, splits.Shares(60, 20, 20)).split_of
    train, test = (next(s for s in found if split_of[s] == split and "06" not in s.name) for split in ("train", "test"))
    for source, copy in zip(train.files, test.files, strict=True):
        shutil.copy(source, copy)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> tuple[Path, dict[int, dict[str, bytes]]]:
    """A source with something for every list; and for numbers of shards what one go makes of it."""
    folder = tmp_path_factory.mktemp("spoilt")
    write_two_folders(folder / "raw", count=20)
    spoil(folder / "raw")
    for shards in (0, 3, 7):
        prepare_folders(folder / "raw", folder / f"whole{shards}", shards=shards, max_bad_files=1)
    whole = {shards: tree(folder / f"whole{shards}") for shards in (0, 3, 7)}
    assert whole[0].keys() > {"rejected.csv", "unmatched.csv", "near_duplicates.csv", "preview.png", "manifest.csv"}
    return folder / "raw", whole


@pytest.mark.parametrize("of", [1, 3, 50])  # fifty: most parts of 20 pairs are empty
@pytest.mark.parametrize("shards", [0, 3])
def test_parts_make_what_one_go_makes(spoilt, tmp_path, shards, of):
    raw, whole = spoilt
    made = 0
    for number in reversed(range(of)):
        made += make(raw, tmp_path / "data", Part(number, of), shards).made
    with pytest.raises(UserError, match=r"has not finished.*--merge"):
        find_pairs(tmp_path / "data")
    outcome = join(raw, tmp_path / "data", shards)
    assert (made, outcome.made, len(outcome.rejected)) == (19, 19, 1)
    assert tree(tmp_path / "data") == whole[shards]
    assert not list((tmp_path / "data").glob(".*"))
    assert join(raw, tmp_path / "data", shards).finished_before
    again = make(raw, tmp_path / "data", Part(0, of), shards)
    assert (again.finished_before, again.made) == (True, 0)
    assert tree(tmp_path / "data") == whole[shards]


calls = st.tuples(st.integers(0, 3), st.integers(1, 60))  # which part, or with 3 the merge; killed at which file


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0, 3, 7]), st.lists(calls, max_size=8), st.permutations(range(3)))
def test_any_order_with_any_kills_ends_as_one_go(spoilt, tmp_path_factory, shards, killed, order):
    """Each call is killed before a file gets its name, if it comes so far; then all are run to their end."""
    raw, whole = spoilt
    output = tmp_path_factory.mktemp("parts") / "data"
    for number, call in killed:
        with pytest.MonkeyPatch.context() as patched:
            kill_at(patched, os, "replace", call)
            try:
                make(raw, output, Part(number, 3), shards) if number < 3 else join(raw, output, shards)
            except Killed:
                pass
            except UserError as error:  # a merge that comes too early
                assert number == 3 and "--merge" in str(error)  # noqa: PT017, PT018
    for number in order:
        make(raw, output, Part(number, 3), shards)
    join(raw, output, shards)
    assert tree(output) == whole[shards]


@pytest.mark.parametrize("shards", [0, 3])
def test_a_merge_ends_with_the_same_bytes_after_any_sequence_of_kills(spoilt, tmp_path, monkeypatch, shards):
    """Killed before its first file gets its name, then before its second, and so on until it comes through."""
    raw, whole = spoilt
    make_all(raw, tmp_path / "data", 3, shards)
    for call in range(1, 100):
        with monkeypatch.context() as patched:
            kill_at(patched, os, "replace", call)
            try:
                join(raw, tmp_path / "data", shards)
                break
            except Killed:
                pass
    assert call > len([name for name in whole[shards] if "/" not in name or name.endswith(".tfrecord")])
    assert tree(tmp_path / "data") == whole[shards]


def test_commands_at_the_same_time_in_one_folder(raw, tmp_path):
    flags = [f"--first={raw}/street", f"--second={raw}/aerial", "--image_size=16", "--workers=1", "--splits=60,20,20"]
    started = [start_command("prepare", *flags, f"--output={tmp_path}/data", f"--part={k}/3") for k in range(3)]
    for k, process in enumerate(started):
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert f"Part {k}/3 of {tmp_path}/data is finished (4 made now): " in out
        assert out.endswith("When all 3 are: the same command with --merge instead of --part\n")
    merged = run_command("prepare", *flags, f"--output={tmp_path}/data", "--merge")
    assert (merged.returncode, merged.stderr) == (0, "")
    assert "(12 merged now)" in merged.stdout
    assert call_command(prepare_command, *flags, f"--output={tmp_path}/whole") == 0
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


WITHOUT_LOCKS = """
import fcntl
import os
import sys
from p2p_keras.cli import prepare

def flock(descriptor, operation):
    raise OSError(37, os.strerror(37))  # as NFS without a lock server

fcntl.flock = flock
prepare.entry_point()
"""


@pytest.mark.parametrize("shards", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_a_part_that_runs_twice_at_once_where_there_are_no_locks_harms_nothing(tmp_path, shards):
    """As when a host that is taken for dead is not: one of the two may fail, in one line, but nothing is made wrong."""
    write_two_folders(tmp_path / "raw", count=150)
    flags = [f"--first={tmp_path}/raw/street", f"--second={tmp_path}/raw/aerial", "--image_size=16", "--workers=1"]
    flags += [f"--shards={shards}"]
    output, options = f"--output={tmp_path}/data", {"capture_output": True, "text": True, "cwd": ROOT}
    command = [sys.executable, "-c", WITHOUT_LOCKS, *flags, output]
    ended = at_once(*[lambda: subprocess.run([*command, "--part=0/1"], check=False, **options)] * 2)
    assert 0 in [one.returncode for one in ended]
    assert all(one.returncode == 0 or (one.returncode, one.stderr.count("\n")) == (2, 1) for one in ended), ended
    for last in ("--part=0/1", "--merge"):
        done = subprocess.run([*command, last], check=False, **options)
        assert (done.returncode, done.stderr) == (0, "")
    assert call_command(prepare_command, *flags, f"--output={tmp_path}/whole") == 0
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


@pytest.mark.parametrize("shards", [0, 3])
def test_a_merge_makes_no_pair(raw, tmp_path, monkeypatch, shards):
    make_all(raw, tmp_path / "data", 3, shards)
    monkeypatch.setattr(stack, "open_image", None)
    if shards:
        assert not list((tmp_path / "data").rglob("*.png"))  # there is no small file left to be read
    assert join(raw, tmp_path / "data", shards).made == 12


@pytest.mark.parametrize("shards", [0, 2])
def test_a_merge_names_the_parts_that_are_missing_unfinished_or_of_another_source(raw, tmp_path, monkeypatch, shards):
    data = tmp_path / "data"
    with pytest.raises(UserError, match=rf"There are none in {data}\. Make them with --part"):
        join(raw, data, shards)
    assert not data.exists()
    make(raw, data, Part(2, 3), shards)
    with monkeypatch.context() as patched:
        kill_at(patched, parts, "finish")
        with pytest.raises(Killed):
            make(raw, data, Part(0, 3), shards)
    with pytest.raises(UserError) as caught:
        join(raw, data, shards)
    assert f"Of the 3 parts of {data}, 2 are not: 0/3 (not finished), 1/3 (not begun). Run them" in str(caught.value)
    assert "--part=0/3, then --merge" in str(caught.value)
    make_all(raw, data, 3, shards)
    name = parts.tasks_of(_arguments(raw, data)[1], FORM)[5].source.files[0]
    Image.new("RGB", (90, 90)).save(name)  # of another size in bytes
    with pytest.raises(UserError, match=r"1 is not: 1/3 \(the files of .* have changed\)\. Run it again"):
        join(raw, data, shards)
    make(raw, data, Part(1, 3), shards)
    write_two_folders(raw, count=13)  # draws the changed one as it was, too
    with pytest.raises(UserError, match=r"parts of .*, . are not: .*(is new|and now there are)"):
        join(raw, data, shards)
    make_all(raw, data, 3, shards)
    join(raw, data, shards)
    prepare_folders(raw, tmp_path / "whole", shards=shards)
    assert tree(data) == tree(tmp_path / "whole")


@pytest.mark.parametrize("shards", [0, 2])
def test_what_a_part_made_and_was_damaged_is_named_and_made_again(raw, tmp_path, shards):
    data = tmp_path / "data"
    make_all(raw, data, 3, shards)
    path = sorted(data.rglob("*.tfrecord" if shards else "train/*.png"))[0]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"./3 \(.* is not as it was written\)"):
        join(raw, data, shards)
    make_all(raw, data, 3, shards)
    join(raw, data, shards)
    prepare_folders(raw, tmp_path / "whole", shards=shards)
    assert tree(data) == tree(tmp_path / "whole")


def test_parts_of_other_settings_are_refused_also_if_they_began_at_the_same_moment(raw, tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    make(raw, data, Part(0, 2))
    with pytest.raises(UserError, match=r"In .*data image_size was 16, is 32"):
        make(raw, data, Part(1, 2), form=FORM._replace(image_size=Size(32, 32)))
    with pytest.raises(UserError, match=r"is being made in 2 parts. Received: --part=1/3\. Give another part of 2"):
        make(raw, data, Part(1, 3))
    with pytest.raises(UserError, match="is being made in 2 parts: run those that are missing, with --part"):
        prepare_folders(raw, data)
    make_all(raw, other, 2)
    folder = Part(1, 2).folder(data)
    shutil.copytree(Part(1, 2).folder(other), folder)  # neither saw the other's settings
    described = json.loads((folder / "dataset.json").read_text())
    described["settings"]["quality"] = 50
    del described["crc32"]  # as if it had been written so
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"In .*parts/00001-of-00002 quality was 50, is 95"):
        join(raw, data)


def test_who_is_at_work_keeps_out_whom(raw, tmp_path):
    data = tmp_path / "data"
    make_all(raw, data, 2)
    with files.locked(data, wait=False, shared=True):  # as a part does
        make(raw, data, Part(1, 2))
        for other in (lambda: prepare_folders(raw, data), lambda: join(raw, data)):
            with pytest.raises(UserError, match="Only one p2p-prepare may write a data set"):
                other()
    with files.locked(data, wait=False), pytest.raises(UserError, match="Only one p2p-prepare may write a data set"):
        make(raw, data, Part(1, 2))
    with files.locked(data / ".prepare" / "parts" / "00001-of-00002.lock", wait=False):  # on another host
        for other in (lambda: make(raw, data, Part(1, 2)), lambda: join(raw, data)):
            with pytest.raises(UserError, match=f"Another one is at work on part 1/2 of {data}"):
                other()
        make(raw, data, Part(0, 2))


def test_bad_files_are_counted_over_all_parts(raw, tmp_path):
    for name in ("00", "09"):
        (raw / "aerial" / f"{name}.png").write_bytes(b"")
    found = [task.source.name for task in parts.tasks_of(_arguments(raw, tmp_path)[1], FORM)]
    assert {found.index(name) * 6 // 12 for name in ("00", "09")} != {0}  # in different parts of six
    for number in range(6):
        make(raw, tmp_path / "data", Part(number, 6), bad=1)
    with pytest.raises(UserError, match=r"More than 1 pairs cannot be made.*--max_bad_files"):
        join(raw, tmp_path / "data", bad=1)
    assert len(join(raw, tmp_path / "data", bad=2).rejected) == 2
    prepare_folders(raw, tmp_path / "whole", max_bad_files=2)
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


def test_a_part_with_too_many_bad_files_stops_and_continues(raw, tmp_path):
    (raw / "aerial" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"More than 0 pairs.*of-00001/rejected\.csv"):
        make(raw, tmp_path / "data", Part(0, 1), bad=0)
    write_two_folders(raw)
    make(raw, tmp_path / "data", Part(0, 1), bad=0)
    join(raw, tmp_path / "data", bad=0)
    prepare_folders(raw, tmp_path / "whole")
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


def test_a_finished_data_set_grows_and_shrinks_by_parts(raw, tmp_path):
    data = tmp_path / "data"
    prepare_folders(raw, data)
    write_two_folders(raw, count=20)
    for folder in ("street", "aerial"):
        (raw / folder / "03.png").unlink()
    made = [make(raw, data, Part(number, 3)).made for number in range(3)]
    outcome = join(raw, data)
    assert (sum(made), outcome.made, outcome.removed) == (8, 8, 1)
    prepare_folders(raw, tmp_path / "whole")
    assert tree(data) == tree(tmp_path / "whole")


def test_pairs_that_go_between_the_parts_and_the_merge_go_from_the_data_set(raw, tmp_path):
    make_all(raw, tmp_path / "data", 3)
    for folder in ("street", "aerial"):
        (raw / folder / "03.png").unlink()
    make_all(raw, tmp_path / "data", 3)
    assert join(raw, tmp_path / "data").removed == 1
    prepare_folders(raw, tmp_path / "whole")
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


def test_what_was_begun_in_one_go_is_continued_in_parts(raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, os, "replace", 8)
        with pytest.raises(Killed):
            prepare_folders(raw, tmp_path / "data")
    make_all(raw, tmp_path / "data", 2)
    join(raw, tmp_path / "data")
    prepare_folders(raw, tmp_path / "whole")
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")


def test_grown_shards_are_refused(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data", shards=2)
    write_two_folders(raw, count=13)
    for refused in (lambda: make(raw, tmp_path / "data", Part(0, 2), 2), lambda: join(raw, tmp_path / "data", 2)):
        with pytest.raises(UserError, match=r"Shards are not changed|There are none"):
            refused()


def test_a_part_that_is_cut_short_under_the_merge_leaves_no_shard(raw, tmp_path):
    make_all(raw, tmp_path / "data", 1, 1)
    folder = Part(0, 1).folder(tmp_path / "data")
    entries = list(parts.look_into(folder, parts.settings_of(*_settings(raw, 1))).listed.values())
    os.truncate(folder / "pairs.tfrecord", 1000)
    with pytest.raises(OSError, match="ends too early"):
        write_shards(folder, entries, 1)
    assert not list((folder / "shards").iterdir())


def _settings(raw: Path, shards: int) -> tuple:
    found, _, _, form, rule = _arguments(raw, raw)
    return found, form, rule, shards


@given(st.integers(1, 40), st.integers(0, 200))
def test_every_pair_is_in_one_part_and_parts_are_of_one_size(of, count):
    shares = [Part(number, of).take(range(count)) for number in range(of)]
    assert [task for share in shares for task in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_part_is_read_as_it_is_written_and_counts_from_0(number, of):
    if number < of:
        assert parse_part(f"{number}/{of}") == Part(number, of)
    else:
        with pytest.raises(UserError, match="--part counts from 0"):
            parse_part(f"{number}/{of}")


@pytest.mark.parametrize("text", ["a/b", "3", "3/", "/3", "-1/3", "1/3/3", " 1/3", "1.0/3", "٣/١٦", "1/100000"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UserError, match=r"as 3/16, counted from 0\. Received: "):
        parse_part(text)


def test_the_command_refuses_both_flags_and_a_part_that_is_none(raw, tmp_path):
    flags = [f"--first={raw}/street", f"--second={raw}/aerial", f"--output={tmp_path}/data"]
    for wrong, rule in [
        (["--part=0/2", "--merge"], "Give --part, or, once all parts are finished, --merge, not both."),
        (["--part=17/16"], "--part counts from 0: those of 16 are 0/16 to 15/16. Received: 17/16"),
    ]:
        with pytest.raises(UserError, match=rule):
            call_command(prepare_command, *flags, *wrong)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", ["x", -1, 0, 2.0, 10**9])
def test_a_number_of_parts_that_cannot_be_is_not_believed(number, tmp_path):
    write_two_folders(tmp_path / "raw", count=6)
    make(tmp_path / "raw", tmp_path / "data", Part(0, 2))
    begun = tmp_path / "data" / ".prepare" / "dataset.json"
    described = {name: value for name, value in json.loads(begun.read_text()).items() if name != "crc32"}
    begun.write_text(json.dumps({**described, "parts": number}))
    with pytest.raises(UserError, match="There are none in"):
        join(tmp_path / "raw", tmp_path / "data")
    make(tmp_path / "raw", tmp_path / "data", Part(1, 2))
    assert sum(join(tmp_path / "raw", tmp_path / "data").counts.values()) == 6
