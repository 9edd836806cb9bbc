import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import Eye, cell, draw_pair, quiet, raise_, small_config, write_pairs
from PIL import Image

from p2p_keras.errors import UserError
from p2p_keras.evaluation.drawing import image_writer
from p2p_keras.evaluation.records import read_records
from p2p_keras.evaluation.run import draw_curves, evaluate, open_evaluation
from p2p_keras.images import charts, codec
from p2p_keras.metrics import frechet_distance, kernel_distance
from p2p_keras.models import make_inference
from p2p_keras.system.files import whole_path
from p2p_keras.training.networks import build_generator
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config


@pytest.fixture
def run_dir(finished_copy):
    """A copy of a finished run, with its one checkpoint twice, so that there is a curve."""
    steps = finished_copy / "checkpoints"
    shutil.copytree(checkpoints.path_of(steps, 6), checkpoints.path_of(steps, 3))
    return finished_copy


def test_it_writes_numbers_curves_sheet_and_images(run_dir, finished):
    evaluation = open_evaluation(run_dir, split="val", which="all", report=quiet)
    eye = Eye()
    records = evaluate(evaluation, eye.extractor, batch_size=2, save_images=True)
    assert eye.seen == 9  # three targets once, three generated images at two checkpoints
    draw_curves([evaluation], records[-1:])

    folder = run_dir / "eval" / "val"
    written = read_records(folder)
    assert written == json.loads(json.dumps(records))
    assert [(r["step"], r["epoch"], r["count"]) for r in written] == [(3, 1.0, 3), (6, 2.0, 3)]
    assert written[0]["metrics"] == written[1]["metrics"]  # it is the same checkpoint
    assert written[0]["extractor"]["source"] == "an eye"
    assert written[0]["extractor"]["width"] == 12
    assert set(written[0]["versions"]) >= {"p2p_keras", "tensorflow", "tensorflow-gan", "python"}

    # The same numbers from the saved images and the drawn targets, without any of the code in between.
    names = ["000", "001", "002"]
    for name, index in zip(names, (100, 101, 102), strict=True):
        with Image.open(folder / "images" / "step_00000006" / f"{name}.png") as image:
            saved = np.asarray(image).astype(float)
        l1 = np.abs(saved - draw_pair(index)[1]).mean() / 127.5
        row = next(r for r in (folder / "per_image.csv").read_text().splitlines() if r.startswith(f"6,{name}.png,"))
        assert float(row.split(",")[2]) == pytest.approx(l1, rel=1e-5)  # six digits are written
    assert (folder / "curves.png").exists()


def test_the_sheet_shows_the_best_first_and_the_worst_last(run_dir):
    evaluation = open_evaluation(run_dir, split="train", report=quiet)
    evaluate(evaluation, None, "none", save_images=True)
    folder = run_dir / "eval" / "train"
    with open(folder / "per_image.csv", newline="") as file:
        l1 = {row["name"]: float(row["l1"]) for row in csv.DictReader(file)}
    order = sorted(l1, key=l1.get)
    assert len(set(l1.values())) == 12
    with Image.open(folder / "sheet.png") as image:
        sheet = np.asarray(image)
    assert len(sheet) == 20 + 9 * 150
    for row, name in enumerate([*order[:3], *order[4:7], *order[9:]]):  # best, median, worst
        input_image, target_image = draw_pair(int(name.removesuffix(".png")))
        np.testing.assert_array_equal(cell(sheet, row, 0, captions=True), input_image)
        np.testing.assert_array_equal(cell(sheet, row, 1, captions=True), target_image)
        with Image.open(folder / "images" / "step_00000006" / name) as image:
            # In a batch of another size the convolutions may add up in another order.
            assert np.abs(cell(sheet, row, 2, captions=True) - np.asarray(image).astype(int)).max() <= 1


def test_images_are_generated_by_the_inference_contract(run_dir, finished):
    evaluate(open_evaluation(run_dir, split="val", report=quiet), None, "none", save_images=True)
    generator = build_generator(small_config(finished[1]))
    checkpoints.restore_generator(generator, checkpoints.path_of(run_dir / "checkpoints", 6))
    first = (draw_pair(101)[0] / 127.5 - 1).astype(np.float32)
    expected = codec.from_unit_range(make_inference(generator)(first[None]).numpy()[0])
    with Image.open(run_dir / "eval" / "val" / "images" / "step_00000006" / "001.png") as image:
        # Alone and in a batch the convolutions may add up in another order: a level where it was about to round.
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_the_batch_size_changes_no_number(run_dir):
    evaluation = open_evaluation(run_dir, split="train", report=quiet)
    one, other = (evaluate(evaluation, Eye().extractor, batch_size=size)[0]["metrics"] for size in (5, 12))
    for name, value in one.items():
        # As above: single levels of single pixels, of 12 images of 3072 values.
        assert value == pytest.approx(other[name], rel=1e-4), name


def test_another_data_set_by_its_own_panels(run_dir, tmp_path):
    write_pairs(tmp_path / "other" / "test", 4, first_index=500)
    (tmp_path / "other" / "dataset.json").write_text('{"panels": ["left", "right"]}')
    evaluation = open_evaluation(run_dir, tmp_path / "other", report=quiet)
    assert evaluation.config.panels == ("left", "right")
    assert evaluate(evaluation, None, "none")[0]["count"] == 4
    assert open_evaluation(run_dir, tmp_path / "other", limit=2, report=quiet).pairs.names == ("000.png", "002.png")


def test_names_that_differ_in_their_extension_only_are_both_kept(run_dir, tmp_path):
    folder = tmp_path / "other" / "test" / "deep"
    write_pairs(folder, 2)
    Image.open(folder / "000.png").save(folder / "000.jpg")
    evaluate(open_evaluation(run_dir, tmp_path / "other", report=quiet), None, "none", save_images=True)
    written = (run_dir / "eval" / "test" / "images" / "step_00000006").rglob("*.*")
    assert sorted(path.name for path in written) == ["000.jpg.png", "000.png.png", "001.png"]


def test_two_runs_share_a_chart(run_dir, tmp_path, monkeypatch):
    other, drawn = shutil.copytree(run_dir, tmp_path / "other_run"), []
    monkeypatch.setattr(charts, "metric_curves", lambda curves, path: drawn.append((curves, path)))
    runs = [open_evaluation(folder, split="val", which="all", report=quiet) for folder in (run_dir, other)]
    records = [evaluate(run, None, "none") for run in runs]
    paths = draw_curves(runs, [records[0][0], records[1][1]])  # which record of a run is given does not matter
    assert paths == [folder / "eval" / "val" / "curves.png" for folder in (run_dir, other)]
    curves = json.loads(json.dumps({f"AtoB ({run_dir.name})": records[0], "AtoB (other_run)": records[1]}))
    assert drawn == [(curves, path) for path in paths]


def test_each_of_several_runs_has_its_curve_though_their_folders_have_one_name(run_dir, tmp_path, monkeypatch):
    others = [shutil.copytree(run_dir, tmp_path / place / "same") for place in ("a", "b")]
    runs = [open_evaluation(folder, split="val", report=quiet) for folder in (run_dir, *others)]
    newest = [evaluate(run, None, "none")[-1] for run in runs]
    drawn = []
    monkeypatch.setattr(charts, "metric_curves", lambda curves, path: drawn.append(list(curves)))
    draw_curves(runs, newest)
    assert drawn == [[f"AtoB ({run_dir.name})", "AtoB (same)", f"AtoB ({others[1]})"]] * 3


def test_what_is_amiss_is_said_before_anything_is_computed(run_dir, tmp_path):
    with pytest.raises(UserError, match=r"must hold a folder test/ .* holds train, val"):
        open_evaluation(run_dir, report=quiet)
    with pytest.raises(UserError, match=r"--checkpoint is latest, best or a step, .* Received: 5. This run has 3, 6"):
        open_evaluation(run_dir, split="val", which="5", report=quiet)
    config = json.loads((run_dir / "config.json").read_text())
    config["config"]["data_dir"] = str(tmp_path / "gone")
    (run_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"gone, which is not there. Say where: --data_dir=DATA"):
        open_evaluation(run_dir, split="val", report=quiet)


def test_files_that_cannot_be_read_are_left_out_only_if_the_run_said_so(run_dir, tmp_path):
    write_pairs(tmp_path / "other" / "test", 2)
    (tmp_path / "other" / "test" / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"bad\.png: it is not an image"):
        open_evaluation(run_dir, tmp_path / "other", report=quiet)


def test_what_killed_evaluations_left_is_removed_and_what_is_being_written_is_not(run_dir, monkeypatch):
    images = run_dir / "eval" / "val" / "images" / "step_00000006"
    images.mkdir(parents=True)
    left = [images / ".0.part", images.parents[1] / ".1.part", run_dir / ".2.part"]
    for path in left:
        path.write_bytes(b"half")
    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", lambda *_, **__: raise_(OSError(errno.EROFS, "Read-only file system")))
        open_evaluation(run_dir, split="val", report=quiet)
    assert all(path.exists() for path in left)
    with whole_path(images / "a.png"):
        open_evaluation(run_dir, split="val", report=quiet)
        assert len(list(images.iterdir())) == 1
    assert not any(path.exists() for path in left)


def test_no_image_waits_for_the_disk(run_dir, monkeypatch):
    evaluation = open_evaluation(run_dir, split="val", report=quiet)
    write = image_writer(evaluation.folder, ["a.png"], None)
    monkeypatch.setattr(os, "fsync", pytest.fail)
    write(0, np.zeros((1, 8, 8, 3), np.uint8))
    assert (evaluation.folder / "a.png").exists()


def test_one_image_has_no_distribution(run_dir):
    evaluation = open_evaluation(run_dir, split="val", limit=1, report=quiet)
    (record,) = evaluate(evaluation, Eye().extractor)
    assert record["absent"]["fid@12"] == record["absent"]["kid@12"] == "it needs at least 4 images, there are 1"


@pytest.mark.slow
def test_the_generated_images_are_compared_with_the_targets_of_another_split(run_dir):
    """As the report did it: by hand from what an extractor sees of the saved images and of the training targets."""
    eye = Eye()
    runs = {name: open_evaluation(run_dir, split="val", reference=name, report=quiet) for name in ("train", "val")}
    assert runs["val"].reference is None  # its own
    some = open_evaluation(run_dir, split="train", limit=5, reference="train", report=quiet)
    (record,) = evaluate(some, eye.extractor, save_images=True)
    assert eye.seen == 12 + 5
    assert record["pictures"]["reference"]["split"] == "train"
    assert record["pictures"]["reference"]["count"] == 12
    images = some.folder / "images" / "step_00000006"
    saved = np.stack([np.asarray(Image.open(path)) for path in sorted(images.iterdir())])
    targets = np.stack([draw_pair(index)[1] for index in range(12)])
    generated, reference = (Eye().extractor.run(seen)[0] for seen in (saved, targets))
    assert record["metrics"]["fid@12"] == pytest.approx(frechet_distance(generated, reference), rel=1e-9)
    assert record["metrics"]["kid@12"] == pytest.approx(kernel_distance(generated, reference)[0], rel=1e-9)
    assert "FID@12 is biased upwards by few images, and 5 are" in record["cautions"][0]

    evaluate(runs["train"], eye.extractor)
    assert eye.seen == 12 + 5 + 3  # what is known of the targets serves whatever split is scored
    own = evaluate(runs["val"], eye.extractor)
    assert "reference" not in own[0]["pictures"]
    paths = draw_curves([runs["train"]], own) + draw_curves([runs["val"]], own)
    assert [path.name for path in paths] == ["curves-against-train.png", "curves.png"]


def test_a_reference_that_cannot_be_had_is_said_first(run_dir):
    with pytest.raises(UserError, match=r"--reference=test compares with the targets of test/, and .* has none"):
        open_evaluation(run_dir, split="val", reference="test", report=quiet)


def test_too_few_targets_make_no_distribution(run_dir):
    run = open_evaluation(run_dir, split="train", reference="val", report=quiet)
    (record,) = evaluate(run, Eye().extractor)
    assert record["absent"]["fid@12"] == "it needs at least 4 images, there are 3"


def test_snapshots_are_scored_with_the_checkpoints(run_dir):
    steps = run_dir / "checkpoints"
    generator = build_generator(read_config(run_dir / "config.json")[0])
    checkpoints.restore_generator(generator, checkpoints.path_of(steps, 6))
    for step in (2, 3, 5):
        part = tf.train.Checkpoint(generator=generator)
        path = checkpoints.save(part, checkpoints.snapshots_of(steps), step, 0)
    next(path.glob("*.index")).unlink()
    run, told = open_evaluation(run_dir, split="val", which="all", report=quiet), []
    records = evaluate(run, None, "none", report=told.append)
    assert [record["step"] for record in records] == [2, 3, 6]
    assert len({record["weights"] for record in records}) == 1  # it is the same generator
    assert [line.partition(" (")[0] for line in told] == ["Skipped the checkpoint of step 5: it is damaged"]
