"""The whole run of p2p-prepare: what it makes, that it continues, that it refuses what it must."""

import csv
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE_SECS, ROOT, assert_refused, cell, draw_pair, run_command, tree, wait_for
from PIL import Image

from p2p_keras.data import check, pipeline
from p2p_keras.data.manifest import read
from p2p_keras.data.pairs import Reading, find_pairs, fingerprint
from p2p_keras.data.prepare import lists, sources, splits, stack
from p2p_keras.data.prepare import run as preparing
from p2p_keras.data.prepare.stack import Form
from p2p_keras.errors import UserError

SMALL = Form(image_size=16, format="png")
RULE = {"shares": [60, 20, 20]}


def write_two_folders(root: Path, count: int = 12, size: int = 24) -> None:
    for number in range(count):
        for folder, picture in zip(("street", "aerial"), draw_pair(number, size), strict=True):
            (root / folder / "deep").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / ("deep" if number % 3 else "") / f"{number:02d}.png")


def run(root: Path, output: Path, form: Form = SMALL, **more) -> preparing.Outcome:
    found = sources.two_folders([root / "street", root / "aerial"])
    parts = splits.by_hash(found.sources, splits.Shares(60, 20, 20))
    return preparing.prepare(found, parts, output, form, RULE, **more)


@pytest.fixture
def raw(tmp_path) -> Path:
    write_two_folders(tmp_path / "raw")
    return tmp_path / "raw"


def test_a_prepared_data_set_says_all_about_itself_and_is_found_again(raw, tmp_path):
    outcome = run(raw, tmp_path / "data")
    assert outcome.made == 12
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert (described["panels"], described["image_size"], described["channels"]) == (["street", "aerial"], 16, 3)
    assert described["splits"] == outcome.counts
    assert sum(outcome.counts.values()) == 12
    entries = read(tmp_path / "data" / "manifest.csv")
    for name, entry in entries.items():
        content = (tmp_path / "data" / name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        with Image.open(tmp_path / "data" / name) as image:
            assert image.size == (entry.width, entry.height) == (32, 16)
    pairs = find_pairs(tmp_path / "data")
    assert (pairs.panels, pairs.image_size) == (("street", "aerial"), 16)
    assert {name for names in pairs.splits.values() for name in names} == set(entries)
    assert not (tmp_path / "data" / ".prepare").exists()
    with Image.open(tmp_path / "data" / "preview.png") as image:
        preview = np.asarray(image)
    for number, name in enumerate(pairs.splits["train"]):  # three pairs side by side
        with Image.open(tmp_path / "data" / name) as image:
            panels = np.split(np.asarray(image), 2, axis=1)
        for panel, picture in enumerate(panels):
            shown = cell(preview, number // 3, number % 3 * 2 + panel, size=16)
            np.testing.assert_array_equal(shown, picture)


def test_panels_are_resized_as_pillow_does_and_stand_in_their_order(raw, tmp_path):
    run(raw, tmp_path / "data")
    pairs = find_pairs(tmp_path / "data")
    for name in pairs.splits["train"][:3]:
        both = np.asarray(Image.open(tmp_path / "data" / name))
        for number, folder in enumerate(("street", "aerial")):
            source = Image.open(raw / folder / name.removeprefix("train/"))
            expected = np.asarray(source.resize((16, 16), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(both[:, 16 * number : 16 * number + 16], expected)


def test_the_same_again_is_recognised_and_workers_change_nothing(raw, tmp_path):
    run(raw, tmp_path / "data")
    before = tree(tmp_path / "data")
    assert run(raw, tmp_path / "data").finished_before
    run(raw, tmp_path / "other", workers=2)
    assert tree(tmp_path / "other") == tree(tmp_path / "data") == before


def test_what_is_damaged_missing_or_half_written_is_made_again(raw, tmp_path):
    run(raw, tmp_path / "data")
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
    run(raw, tmp_path / "data")
    assert tree(tmp_path / "data") == whole


def test_added_changed_and_removed_sources_are_followed(raw, tmp_path):
    run(raw, tmp_path / "data")
    part_of = {name.partition("/")[2]: name for name in read(tmp_path / "data" / "manifest.csv")}
    write_two_folders(raw, count=20)
    (raw / "street" / "00.png").unlink()
    Image.new("RGB", (90, 90)).save(raw / "street" / "03.png")
    outcome = run(raw, tmp_path / "data")
    assert (outcome.made, outcome.removed) == (9, 1)
    after = read(tmp_path / "data" / "manifest.csv")
    assert len(after) == 19
    assert all(part_of.get(name.partition("/")[2], name) == name for name in after)  # nobody moved to another part
    assert not (tmp_path / "data" / part_of["00.png"]).exists()
    assert "aerial/00.png,it has no partner" in (tmp_path / "data" / lists.UNMATCHED).read_text()
    fresh = run(raw, tmp_path / "fresh")
    assert fresh.made == 19
    assert tree(tmp_path / "fresh") == tree(tmp_path / "data")


def test_bad_files_are_rejected_with_their_reason_and_too_many_stop_it(raw, tmp_path):
    (raw / "street" / "00.png").write_bytes(b"")
    (raw / "aerial" / "03.png").write_text("text")
    with pytest.raises(
        UserError, match=r"More than 1 pairs cannot be made.*--max_bad_files; the same command continues"
    ):
        run(raw, tmp_path / "data", max_bad_files=1)
    assert len((tmp_path / "data" / lists.REJECTED).read_text().splitlines()) == 3
    with pytest.raises(UserError, match="has not finished"):
        find_pairs(tmp_path / "data")
    outcome = run(raw, tmp_path / "data", max_bad_files=2)
    assert {one.pair: one.problem.rpartition(": ")[2] for one in outcome.rejected} == {
        "00": "it is empty",
        "03": "it is not a picture",
    }
    assert run(raw, tmp_path / "data", max_bad_files=2).finished_before
    Image.fromarray(draw_pair(0, 24)[0]).save(raw / "street" / "00.png")  # mended
    outcome = run(raw, tmp_path / "data", max_bad_files=2)
    assert (outcome.made, [one.pair for one in outcome.rejected]) == (1, ["03"])


def test_other_settings_and_other_folders_are_refused(raw, tmp_path):
    run(raw, tmp_path / "data")
    with pytest.raises(UserError, match="image_size was 16, is 32"):
        run(raw, tmp_path / "data", form=SMALL._replace(image_size=32))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        run(raw, tmp_path / "mine")
    (tmp_path / "mine" / "dataset.json").write_text('{"panels": ["a", "b"]}')
    with pytest.raises(UserError, match="did not make"):
        run(raw, tmp_path / "mine")
    with pytest.raises(UserError, match="can be written"):
        run(raw, Path("/proc/data"))


def test_a_full_disk_stops_it_and_it_continues_afterwards(raw, tmp_path, monkeypatch):
    replace, done = os.replace, []

    def full(source, target):
        if str(target).endswith(".png") and "deep" in str(target):
            done.append(target)
            if len(done) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(stack.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        run(raw, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.part"))
    assert run(raw, tmp_path / "data").counts
    run(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


# p2p-prepare that is sent a signal when three batches are in the journal and its workers are at more of them.
STOPPED = """
import os, sys
from p2p_keras.cli import prepare
from p2p_keras.data.prepare import run

make_pairs, send = run.make_pairs, {send}

def stopped(*arguments):
    for count, batch in enumerate(make_pairs(*arguments)):
        if count == 3:
            send()
        yield batch

run.make_pairs = stopped
prepare.entry_point()
"""
KILL = "lambda: os.kill(os.getpid(), 9)"  # of the one process, as `kill -9` does
CTRL_C = "lambda: os.killpg(0, 2)"  # reaches the workers as well


@pytest.mark.parametrize(
    ("send", "status"), [(KILL, -signal.SIGKILL), (CTRL_C, 128 + signal.SIGINT)], ids=["kill -9", "Ctrl-C"]
)
def test_stopped_in_the_middle_no_worker_stays_and_it_ends_with_the_same_bytes(tmp_path, send, status):
    write_two_folders(tmp_path / "raw", count=200, size=64)
    flags = [f"--first={tmp_path}/raw/street", f"--second={tmp_path}/raw/aerial", "--workers=2", "--image_size=64"]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(send=send), *flags, f"--output={tmp_path}/data"],
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.wait(DEADLINE_SECS) == status
    wait_for(lambda: not any_left(process.pid))  # the workers follow
    assert len(read(tmp_path / "data" / ".prepare" / "manifest.csv")) == 3 * 16
    for output in ("data", "fresh"):
        assert run_command("prepare", *flags, f"--output={tmp_path}/{output}").returncode == 0
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


def test_shards_hold_the_same_pairs_in_the_same_order(raw, tmp_path):
    run(raw, tmp_path / "loose")
    outcome = run(raw, tmp_path / "sharded", shards=3)
    loose, sharded = find_pairs(tmp_path / "loose"), find_pairs(tmp_path / "sharded")
    assert fingerprint(loose) == fingerprint(sharded)
    assert loose.splits == sharded.splits
    assert not (tmp_path / "sharded" / "train").exists()
    for split in ("train", "val", "test"):
        files = sharded.files(split)
        for (shard,), offset, size, name in zip(
            files.paths, files.offsets, files.sizes, sharded.splits[split], strict=True
        ):
            content = Path(shard).read_bytes()[offset + 12 : offset + 12 + size]  # after length and its checksum
            assert content == (tmp_path / "loose" / name).read_bytes()
    for shard, size in outcome.shards.items():
        assert (tmp_path / "sharded" / shard).stat().st_size == size
    assert run(raw, tmp_path / "sharded", shards=3).finished_before
    write_two_folders(raw, count=13)
    with pytest.raises(UserError, match="Shards are not changed"):
        run(raw, tmp_path / "sharded", shards=3)


def test_near_duplicates_across_parts_are_listed(raw, tmp_path):
    found = sources.two_folders([raw / "street", raw / "aerial"])
    part_of = {
        source.name: split
        for source, split in splits.by_hash(found.sources, splits.Shares(60, 20, 20)).split_of.items()
    }
    train, test = (next(name for name, part in part_of.items() if part == split) for split in ("train", "test"))
    for folder in ("street", "aerial"):  # the same picture, smaller and as a JPEG
        (raw / folder / f"{test}.png").unlink()
        Image.open(raw / folder / f"{train}.png").resize((20, 20)).save(raw / folder / f"{test}.jpg", quality=80)
    outcome = run(raw, tmp_path / "data")
    assert (f"test/{test}.png", f"train/{train}.png") in {(one.pair, one.like) for one in outcome.alike}
    with open(tmp_path / "data" / lists.DUPLICATES, newline="") as file:
        assert len(list(csv.reader(file))) == len(outcome.alike) + 1


def test_a_run_on_shards_sees_what_a_run_on_loose_files_sees(raw, tmp_path):
    run(raw, tmp_path / "loose", form=SMALL._replace(image_size=32))
    run(raw, tmp_path / "sharded", form=SMALL._replace(image_size=32), shards=4)
    batches = []
    for folder in ("loose", "sharded"):
        files = find_pairs(tmp_path / folder).files("train")
        dataset = pipeline.training_dataset(files, Reading(image_size=32), 2, seed=5, first_step=3, last_step=8)
        batches.append(list(dataset.as_numpy_iterator()))
    for loose, sharded in zip(*batches, strict=True):
        for ours, theirs in zip(loose, sharded, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_prepared_set_is_not_decoded_again_and_a_changed_file_is(raw, tmp_path):
    run(raw, tmp_path / "data")
    pairs, read_again = find_pairs(tmp_path / "data"), []
    reading = Reading(image_size=32)
    memory = tmp_path / "memory.json"
    kept, bad = check.checked(pairs, reading, 0, memory, lambda done, total: read_again.append(done))
    assert (kept, bad, read_again) == (pairs, {}, [])
    name = pairs.splits["train"][0]
    (tmp_path / "data" / name).write_text("changed")
    with pytest.raises(UserError, match=f"{name}: it is not a picture"):
        check.checked(pairs, reading, 0, memory)
    (tmp_path / "data" / "train" / "mine.png").write_bytes(b"")
    assert find_pairs(tmp_path / "data").ignored == {"train/mine.png": "it is not in manifest.csv"}
    run(raw, tmp_path / "sharded", shards=1)
    shard = next((tmp_path / "sharded" / "shards").glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"A shard must be as p2p-prepare wrote it.*tfrecord has"):
        check.checked(find_pairs(tmp_path / "sharded"), reading, 0, memory)


def test_the_command_says_what_it_did_and_refuses_in_one_line(raw, tmp_path):
    flags = [f"--output={tmp_path}/data", f"--first={raw}/street", f"--second={raw}/aerial", "--image_size=16"]
    done = run_command("prepare", *flags, "--workers=1", "--splits=60,20,20")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"12 pairs in {raw}/street, {raw}/aerial"
    assert "(12 made now)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("are the panels street | aerial?")
    for wrong, rule in [
        (["--output=x"], "one of --first with --second"),
        ([*flags, "--dayton=x"], "one of --first with --second"),
        ([*flags, "--bits=16"], "16 with --channels=1"),
        ([*flags, "--channels=4"], "Add --format=png"),
        ([*flags, "--panels=one,one"], "two or more different panels"),
        ([*flags, "--splits=1,2,3"], "together 100"),
    ]:
        assert_refused(run_command("prepare", *wrong), rule)


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


def kill_at(monkeypatch, place: object, name: str, call: int = 1) -> None:
    """The so-many-th call of a function does not come back."""
    original, calls = getattr(place, name), []

    def killed(*arguments, **more):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return original(*arguments, **more)

    monkeypatch.setattr(place, name, killed)


@pytest.mark.parametrize("place", ["near_duplicates", "write_whole"])
def test_pairs_that_were_added_are_not_lost_when_it_is_killed_before_the_manifest(raw, tmp_path, monkeypatch, place):
    run(raw, tmp_path / "data")
    write_two_folders(raw, count=20)
    with monkeypatch.context() as patched:
        kill_at(patched, preparing, place, call=2 if place == "write_whole" else 1)  # the first writes the settings
        with pytest.raises(Killed):
            run(raw, tmp_path / "data")
    assert not run(raw, tmp_path / "data").finished_before
    run(raw, tmp_path / "fresh")
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("call", [1, 2, 3, 4])  # the three parts that lay loose, and the journal
def test_shards_are_finished_when_it_is_killed_while_it_tidies_up(raw, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing.shutil, "rmtree", call)
        with pytest.raises(Killed):
            run(raw, tmp_path / "data", shards=3)
    assert run(raw, tmp_path / "data", shards=3).finished_before
    run(raw, tmp_path / "fresh", shards=3)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_shards_of_an_interrupted_call_are_not_believed(raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, preparing.os, "sync")
        with pytest.raises(Killed):
            run(raw, tmp_path / "data", shards=3)
    shard = next((tmp_path / "data" / "shards").glob("train*"))
    shard.write_bytes(b"x" * shard.stat().st_size)  # whatever it is: the size is right
    run(raw, tmp_path / "data", shards=3)
    run(raw, tmp_path / "fresh", shards=3)
    assert tree(tmp_path / "data") == tree(tmp_path / "fresh")


def test_a_finished_set_whose_shard_was_cut_is_not_called_finished(raw, tmp_path):
    run(raw, tmp_path / "data", shards=1)
    shard = next((tmp_path / "data" / "shards").glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="Name another --output"):
        run(raw, tmp_path / "data", shards=1)


def test_a_stop_for_too_many_bad_files_leaves_the_other_lists(raw, tmp_path):
    (raw / "street" / "alone.png").write_bytes((raw / "street" / "00.png").read_bytes())
    run(raw, tmp_path / "data")
    listed = (tmp_path / "data" / lists.UNMATCHED).read_text()
    (raw / "street" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match="More than 0 pairs"):
        run(raw, tmp_path / "data")
    assert (tmp_path / "data" / lists.UNMATCHED).read_text() == listed


def test_another_list_is_another_data_set(raw, tmp_path):
    names = [path.relative_to(raw / "street").as_posix() for path in sorted((raw / "street").rglob("*.png"))]
    flags = [f"--output={tmp_path}/data", f"--first={raw}/street", f"--second={raw}/aerial", "--image_size=16"]
    flags += ["--workers=1", f"--train_list={tmp_path}/train.txt"]
    (tmp_path / "train.txt").write_text("\n".join(names))
    assert run_command("prepare", *flags).returncode == 0
    (tmp_path / "train.txt").write_text("\n".join(names[1:]))
    refused = run_command("prepare", *flags)
    assert_refused(refused, "continues only with the settings it began with", "splits was")
