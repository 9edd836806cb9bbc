"""The whole run of p2p-prepare: what it makes, that it continues, that it refuses what it must."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    READING,
    ROOT,
    SMALL_FORM,
    call_command,
    cell,
    draw_pair,
    prepare_folders,
    run_prepare,
    tree,
    write_pairs,
    write_two_folders,
)
from PIL import Image

from p2p_keras.cli import prepare as prepare_command
from p2p_keras.data import archives, check, pipeline
from p2p_keras.data.manifest import read
from p2p_keras.data.pairs import find_pairs, fingerprint
from p2p_keras.data.prepare import lists, sources, splits
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size


def test_a_prepared_data_set_says_all_about_itself_and_is_found_again(raw, tmp_path):
    outcome = prepare_folders(raw, tmp_path / "data")
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
    assert (pairs.panels, pairs.image_size) == (("street", "aerial"), (16, 16))
    assert {name for names in pairs.splits.values() for name in names} == set(entries)
    assert not (tmp_path / "data" / ".prepare").exists()
    with Image.open(tmp_path / "data" / "preview.png") as image:
        preview = np.asarray(image)
    for number, name in enumerate(pairs.splits["train"]):  # three pairs side by side
        with Image.open(tmp_path / "data" / name) as image:
            panels = np.split(np.asarray(image), 2, axis=1)
        for panel, image in enumerate(panels):
            shown = cell(preview, number // 3, number % 3 * 2 + panel, size=16)
            np.testing.assert_array_equal(shown, image)


def test_panels_are_resized_as_pillow_does_and_stand_in_their_order(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    pairs = find_pairs(tmp_path / "data")
    for name in pairs.splits["train"][:3]:
        both = np.asarray(Image.open(tmp_path / "data" / name))
        for number, folder in enumerate(("street", "aerial")):
            source = Image.open(raw / folder / name.removeprefix("train/"))
            expected = np.asarray(source.resize((16, 16), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(both[:, 16 * number : 16 * number + 16], expected)


def test_bad_files_are_rejected_with_their_reason_and_too_many_stop_it(raw, tmp_path):
    (raw / "street" / "00.png").write_bytes(b"")
    (raw / "aerial" / "03.png").write_text("text")
    with pytest.raises(
        UserError, match=r"More than 1 pairs cannot be made.*--max_bad_files; the same command continues"
    ):
        prepare_folders(raw, tmp_path / "data", max_bad_files=1)
    assert len((tmp_path / "data" / lists.REJECTED).read_text().splitlines()) == 3
    with pytest.raises(UserError, match="has not finished"):
        find_pairs(tmp_path / "data")
    outcome = prepare_folders(raw, tmp_path / "data", max_bad_files=2)
    assert {one.pair: one.problem.rpartition(": ")[2] for one in outcome.rejected} == {
        "00": "it is empty",
        "03": "it is not an image",
    }
    assert prepare_folders(raw, tmp_path / "data", max_bad_files=2).finished_before
    Image.fromarray(draw_pair(0, 24)[0]).save(raw / "street" / "00.png")  # mended
    outcome = prepare_folders(raw, tmp_path / "data", max_bad_files=2)
    assert (outcome.made, [one.pair for one in outcome.rejected]) == (1, ["03"])


def test_shards_hold_the_same_pairs_in_the_same_order(raw, tmp_path):
    prepare_folders(raw, tmp_path / "loose")
    outcome = prepare_folders(raw, tmp_path / "sharded", shards=3)
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
    assert prepare_folders(raw, tmp_path / "sharded", shards=3).finished_before
    write_two_folders(raw, count=13)
    with pytest.raises(UserError, match="Shards are not changed"):
        prepare_folders(raw, tmp_path / "sharded", shards=3)


def test_near_duplicates_across_parts_are_listed(raw, tmp_path):
    found = sources.two_folders([raw / "street", raw / "aerial"])
    part_of = {
        source.name: split
        for source, split in splits.by_hash(found.sources, splits.Shares(60, 20, 20)).split_of.items()
    }
    train, test = (next(name for name, part in part_of.items() if part == split) for split in ("train", "test"))
    for folder in ("street", "aerial"):  # the same image, smaller and as a JPEG
        (raw / folder / f"{test}.png").unlink()
        Image.open(raw / folder / f"{train}.png").resize((20, 20)).save(raw / folder / f"{test}.jpg", quality=80)
    outcome = prepare_folders(raw, tmp_path / "data")
    assert (f"test/{test}.png", f"train/{train}.png") in {(one.pair, one.like) for one in outcome.alike}
    with open(tmp_path / "data" / lists.DUPLICATES, newline="") as file:
        assert len(list(csv.reader(file))) == len(outcome.alike) + 1


def test_a_run_on_shards_sees_what_a_run_on_loose_files_sees(raw, tmp_path):
    prepare_folders(raw, tmp_path / "loose", form=SMALL_FORM._replace(image_size=Size(32, 32)))
    prepare_folders(raw, tmp_path / "sharded", form=SMALL_FORM._replace(image_size=Size(32, 32)), shards=4)
    batches = []
    for folder in ("loose", "sharded"):
        files = find_pairs(tmp_path / folder).files("train")
        dataset = pipeline.training_dataset(files, READING, 2, seed=5, first_step=3, last_step=8)
        batches.append(list(dataset.as_numpy_iterator()))
    for loose, sharded in zip(*batches, strict=True):
        for ours, theirs in zip(loose, sharded, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_prepared_set_is_not_decoded_again_and_a_changed_file_is(raw, tmp_path):
    prepare_folders(raw, tmp_path / "data")
    pairs, read_again = find_pairs(tmp_path / "data"), []
    reading = READING
    memory = tmp_path / "memory.json"
    kept, bad = check.checked(pairs, reading, 0, memory, lambda done, total: read_again.append(done))
    assert (kept, bad, read_again) == (pairs, {}, [])
    name = pairs.splits["train"][0]
    (tmp_path / "data" / name).write_text("changed")
    with pytest.raises(UserError, match=f"{name}: it is not an image"):
        check.checked(pairs, reading, 0, memory)
    (tmp_path / "data" / "train" / "mine.png").write_bytes(b"")
    assert find_pairs(tmp_path / "data").ignored == {"train/mine.png": "it is not in manifest.csv"}
    prepare_folders(raw, tmp_path / "sharded", shards=1)
    shard = next((tmp_path / "sharded" / "shards").glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"A shard must be as p2p-prepare wrote it.*tfrecord has"):
        check.checked(find_pairs(tmp_path / "sharded"), reading, 0, memory)


def test_the_command_says_what_it_did_and_refuses_in_one_line(raw, tmp_path):
    flags = [f"--output={tmp_path}/data", f"--first={raw}/street", f"--second={raw}/aerial", "--image_size=16"]
    done = run_prepare(*flags, "--workers=1", "--splits=60,20,20")
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
        refused = run_prepare(*wrong)
        assert refused.returncode == 2
        assert rule in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_stop_for_too_many_bad_files_leaves_the_other_lists(raw, tmp_path):
    (raw / "street" / "alone.png").write_bytes((raw / "street" / "00.png").read_bytes())
    prepare_folders(raw, tmp_path / "data")
    listed = (tmp_path / "data" / lists.UNMATCHED).read_text()
    (raw / "street" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match="More than 0 pairs"):
        prepare_folders(raw, tmp_path / "data")
    assert (tmp_path / "data" / lists.UNMATCHED).read_text() == listed


def test_a_worker_that_is_killed_is_no_traceback(tmp_path):
    """As the kernel does when memory runs out; what was made before is kept."""
    write_two_folders(tmp_path / "raw", count=40)
    stopped = (
        "import multiprocessing\n"
        "from p2p_keras.cli import prepare\n"
        "from p2p_keras.data.prepare import run\n"
        "make_pairs = run.make_pairs\n"
        "def killed(*arguments):\n"
        "    for batch in make_pairs(*arguments):\n"
        "        for worker in multiprocessing.active_children():\n"
        "            worker.kill()\n"
        "        yield batch\n"
        "run.make_pairs = killed\n"
        "if __name__ == '__main__': prepare.entry_point()\n"
    )
    (tmp_path / "stopped.py").write_text(stopped)
    flags = [f"--first={tmp_path}/raw/street", f"--second={tmp_path}/raw/aerial", f"--output={tmp_path}/data"]
    flags += ["--workers=2", "--image_size=16"]
    command = [sys.executable, tmp_path / "stopped.py", *flags]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Each of 2 workers must stay alive" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert run_prepare(*flags).returncode == 0


def test_height_and_width_go_all_the_way(raw, tmp_path):
    for output, shards in (("loose", 0), ("sharded", 2)):
        form = SMALL_FORM._replace(image_size=Size(16, 40))
        outcome = prepare_folders(raw, tmp_path / output, form, shards=shards)
        described = json.loads((tmp_path / output / "dataset.json").read_text())
        assert described["image_size"] == described["settings"]["image_size"] == [16, 40]
        assert outcome.sizes == {Size(16, 40)}
        assert {(entry.width, entry.height) for entry in read(tmp_path / output / "manifest.csv").values()} == {
            (80, 16)
        }
        assert prepare_folders(raw, tmp_path / output, form, shards=shards).finished_before
        with pytest.raises(UserError, match=r"image_size was \[16, 40\], is 16\. Give the old values"):
            prepare_folders(raw, tmp_path / output, shards=shards)
    name = find_pairs(tmp_path / "loose").splits["train"][0]
    with Image.open(tmp_path / "loose" / "preview.png") as sheet, Image.open(tmp_path / "loose" / name) as pair:
        shown = np.asarray(sheet)[20 : 20 + 16 * 3, 2 : 2 + 40 * 3][::3, ::3]  # enlarged to over 128 pixels of width
        np.testing.assert_array_equal(shown, np.asarray(pair)[:, :40])


def test_composites_keep_their_bytes_by_default_and_leave_the_size_to_training(tmp_path, monkeypatch):
    """As `--download=maps` must: its panels are 600x600, and were shrunk to 256, to be enlarged to 286 again."""
    sizes = [(60, 60), (60, 60), (48, 90)]
    for number, (height, width) in enumerate(sizes):
        path = tmp_path / "old" / "train" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.concatenate(draw_pair(number, 96), axis=1)
        Image.fromarray(image).resize((2 * width, height)).save(path, quality=60 + number)
    flags = [f"--composites={tmp_path}/old", "--source_panels=aerial,map", "--workers=1"]
    done = run_prepare(*flags, f"--output={tmp_path}/data")
    assert done.returncode == 0, done.stderr
    assert "The panels keep their own size, 2 of them from 60x60 to 48x90; p2p-train resizes them" in done.stdout
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert "image_size" not in described
    assert described["settings"]["image_size"] == "native"
    for number, (height, width) in enumerate(sizes):
        name = f"train/{number}.jpg"
        assert (tmp_path / "data" / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
        entry = read(tmp_path / "data" / "manifest.csv")[name]
        assert (entry.height, entry.width) == (height, 2 * width)
    pairs = find_pairs(tmp_path / "data")
    assert pairs.image_size is None
    dataset = pipeline.inference_dataset(pairs.files("train"), READING, 3)
    assert [image.shape for image in next(iter(dataset))] == [(3, 32, 32, 3)] * 2
    assert "It was finished before" in run_prepare(*flags, f"--output={tmp_path}/data").stdout
    refused = run_prepare(*flags, f"--output={tmp_path}/data", "--image_size=256")
    assert "image_size was native, is 256" in refused.stderr
    monkeypatch.setattr(archives, "fetch_archive", lambda name: tmp_path / "old")
    assert call_command(prepare_command, f"--output={tmp_path}/maps", "--download=maps", "--workers=1") == 0
    assert tree(tmp_path / "maps" / "train") == tree(tmp_path / "old" / "train")


@pytest.mark.parametrize("unfinished", [False, True])
def test_composites_that_an_earlier_version_made_of_256_are_continued(tmp_path, unfinished):
    """It shrank them by default; the same command must go on with them."""
    write_pairs(tmp_path / "old" / "train", 3)
    flags = [f"--composites={tmp_path}/old", "--source_panels=a,b", "--workers=1", "--format=png"]
    assert run_prepare(*flags, f"--output={tmp_path}/data", "--image_size=256").returncode == 0
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert described["image_size"] == described["settings"]["image_size"] == 256  # as it was written
    if unfinished:
        (tmp_path / "data" / ".prepare").mkdir()
        for name in ("dataset.json", "manifest.csv"):
            (tmp_path / "data" / name).rename(tmp_path / "data" / ".prepare" / name)
    else:
        write_pairs(tmp_path / "old" / "train", 4)
    done = run_prepare(*flags, f"--output={tmp_path}/data")
    assert f"({0 if unfinished else 1} made now)" in done.stdout
    assert {entry.height for entry in read(tmp_path / "data" / "manifest.csv").values()} == {256}


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("256x", "a size is one number or height x width, as 256 or 256x512, not 256x"),
        ("7", "height and width must lie in 8 to 4096, not 7x7"),
        ("64x4097", "height and width must lie in 8 to 4096, not 64x4097"),
        (
            "naive",
            "a size is one number or height x width, as 256 or 256x512, not naive. native keeps the panels' own.",
        ),
    ],
)
def test_a_size_that_is_none_is_refused(raw, tmp_path, value, rule):
    flags = [f"--output={tmp_path}/data", f"--first={raw}/street", f"--second={raw}/aerial"]
    done = run_prepare(*flags, f"--image_size={value}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--image_size: {rule}" in done.stderr
    assert not (tmp_path / "data").exists()
