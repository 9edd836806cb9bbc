"""Runs with several input panels, in rectangles and on native crops, from files to every way out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import call_command, cell, draw_pair, quiet, small_config
from PIL import Image

import p2p_keras
from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import export as export_command
from p2p_keras.cli import train as train_command
from p2p_keras.cli import translate as translate_command
from p2p_keras.errors import UserError
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.export.open import open_model
from p2p_keras.images import codec
from p2p_keras.metrics import inception
from p2p_keras.training.run import train
from p2p_keras.workdir.folder import read_config

PANELS = ("photo", "map", "drawing")


def _write_panels(root: Path, height: int = 32, width: int = 32) -> Path:
    """Folders of RGB photos, label maps of two classes, and RGB drawings: the photo's negative where the class is 1."""
    for split, indices in (("train", range(8)), ("val", range(100, 102))):
        for index in indices:
            photo = np.asarray(Image.fromarray(draw_pair(index)[0]).resize((width, height)))
            classes = (np.indices((height, width)).sum(axis=0) % (index + 9) < 5).astype(np.uint8)
            drawing = np.where(classes[..., None], 255 - photo, photo)
            for name, image in zip(PANELS, (photo, classes, drawing), strict=True):
                folder = root / name / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{index:03d}.png")
    return root


@pytest.fixture(scope="module")
def three(tmp_path_factory, one_device) -> tuple[Path, Path]:
    """A run of two inputs in 32x64; its folder and its data."""
    data = _write_panels(tmp_path_factory.mktemp("panels"), 32, 64)
    workdir = tmp_path_factory.mktemp("three") / "run"
    config = small_config(
        data,
        direction="a2s",
        image_size="32x64",
        panels=PANELS,
        input_panels=("map", "photo"),
        target_panel="drawing",
        labels=(2, 0),
        statistics="per_image",
        discriminator="patch16",
    )
    assert train(config, workdir, one_device, quiet) is None
    return workdir, data


def test_a_run_of_two_inputs_shows_them_by_name_and_in_order(three):
    workdir, data = three
    config, _ = read_config(workdir / "config.json")
    assert (config.image_size, config.input_channels, config.input_bits) == ((32, 64), (2, 3), (8, 8))
    with Image.open(workdir / "samples" / "epoch_0002.png") as image:
        sheet = np.asarray(image)
    with Image.open(data / "photo" / "val" / "100.png") as image:
        assert (sheet == np.asarray(image)[0, 0]).all(axis=-1).any()
    # Titles stand above a row of four images of 64, enlarged twice.
    assert sheet.shape[1] > 4 * 128


def test_p2p_eval_says_what_becomes_what(three, tmp_path, monkeypatch, capfd):
    workdir = shutil.copytree(three[0], tmp_path / "run")
    monkeypatch.setattr(inception, "KNOWN_PLACES", ("http://127.0.0.1:1/inception.tgz",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert call_command(eval_command, f"--workdir={workdir}", "--split=val") == 0
    assert capfd.readouterr().out.splitlines()[0] == f"{workdir}: map+photo_to_drawing, 2 images of val/"


def test_an_evaluation_and_a_translation_see_the_same(three, tmp_path):
    workdir, data = three
    run = open_evaluation(workdir, split="val", report=quiet)
    (record,) = evaluate(run, None, "no network", save_images=True)
    assert record["pictures"]["direction"] == "map+photo_to_drawing"
    assert record["pictures"]["image_size"] == [32, 64]
    flags = [f"--model={workdir}", f"--input={data / 'map' / 'val'},{data / 'photo' / 'val'}"]
    assert call_command(translate_command, *flags, f"--output={tmp_path / 'out'}") == 0
    for name in ("100.png", "101.png"):
        with (
            Image.open(run.folder / "images" / "step_00000004" / name) as one,
            Image.open(tmp_path / "out" / name) as two,
        ):
            assert one.size == two.size == (64, 32)
            assert np.abs(np.asarray(one).astype(int) - np.asarray(two)).max() <= 1


def test_an_evaluation_is_told_by_its_inputs(three, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(inception, "KNOWN_PLACES", ("http://127.0.0.1:1/inception.tgz",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert call_command(eval_command, f"--workdir={three[0]}", "--split=val") == 0
    assert capsys.readouterr().out.startswith(f"{three[0]}: map+photo_to_drawing, 2 images of val/")


@pytest.mark.slow
def test_exports_take_each_input_by_name(three, tmp_path):
    workdir, data = three
    inputs = []
    for name, mode in (("map", "L"), ("photo", "RGB")):
        with Image.open(data / name / "val" / "100.png") as image:
            inputs.append(np.asarray(image.convert(mode)).reshape(1, 32, 64, -1))
    expected = open_model(workdir).translate(inputs, None).astype(int)
    for form in ("savedmodel", "keras", "tflite"):
        assert call_command(export_command, f"--workdir={workdir}", f"--output={tmp_path}", f"--format={form}") == 0
        folder = tmp_path if form == "savedmodel" else tmp_path / form
        assert np.abs(open_model(folder).translate(inputs, None) - expected).max() <= 1
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert set(served["translate"].structured_input_signature[1]) == {"map", "photo"}
    files = {
        f"{name}_bytes": tf.constant([codec.encode(image[0]), b"x"])
        for name, image in zip(("map", "photo"), inputs, strict=True)
    }
    reply = served["serving_default"](**files)
    assert reply["error"].numpy().tolist() == [b"", b"input 1: it is not a JPEG or PNG file"]
    assert np.abs(tf.io.decode_png(reply["image_bytes"][0]).numpy() - expected[0]).max() <= 1
    metadata = json.loads((tmp_path / "1" / "metadata.json").read_text())
    assert "map_bytes" in metadata
    assert metadata["config"]["input_panels"] == ["map", "photo"]


def test_composites_give_their_panels_by_name(three, tmp_path):
    workdir, data = three
    columns = []
    for name in ("drawing", "photo", "map"):  # another order than trained in
        with Image.open(data / name / "val" / "100.png") as image:
            columns.append(np.asarray(image.convert("L")))  # grey, as a label map needs
    Image.fromarray(np.concatenate(columns, axis=1)).save(tmp_path / "a.png")
    flags = [f"--model={workdir}", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}"]
    assert call_command(translate_command, *flags, "--panels=drawing,photo,map") == 0
    photo = np.repeat(columns[1][None, ..., None], 3, axis=-1)
    expected = open_model(workdir).translate([columns[2][None, ..., None], photo], None)[0]
    with Image.open(tmp_path / "out" / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.slow
def test_one_input_by_name_is_translated_from_photos_as_well_as_from_composites(one_device, tmp_path):
    data, workdir = _write_panels(tmp_path / "data"), tmp_path / "run"
    named = {"panels": PANELS, "input_panels": ("photo",), "target_panel": "drawing"}
    assert train(small_config(data, **named), workdir, one_device, quiet) is None
    with Image.open(data / "photo" / "val" / "100.png") as image:
        photo = np.asarray(image)
    expected = open_model(workdir).translate([photo[None]], None)[0]
    Image.fromarray(np.concatenate([255 - photo, photo], axis=1)).save(tmp_path / "composite.png")
    single = data / "photo" / "val" / "100.png"
    for source, more in ((single, []), (tmp_path / "composite.png", ["--panels=map,photo"])):
        flags = [f"--model={workdir}", f"--input={source}", f"--output={tmp_path / 'out'}", *more]
        assert call_command(translate_command, *flags) == 0
        with Image.open(tmp_path / "out" / source.name) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--input={data}/map/val,{data}/photo/val,{data}/map/val"],
            "This model takes 2 inputs, map, photo. Received 3",
        ),
        (["--input={data}/map/val,{data}/photo/train"], "have none in common"),
        (["--input={data}/map/val", "--direction=AtoB"], "leave --direction out"),
        (["--input={data}/map/val", "--panels=map,drawing"], "--panels must name the inputs map, photo"),
    ],
)
def test_wrong_inputs_are_refused_in_words(three, tmp_path, flags, words):
    flags = [flag.format(data=three[1]) for flag in flags]
    with pytest.raises(UserError, match=words):
        call_command(translate_command, f"--model={three[0]}", f"--output={tmp_path / 'out'}", *flags)


def test_a_panel_that_is_not_there_is_refused(three, tmp_path):
    flags = [f"--data_dir={three[1]}", f"--workdir={tmp_path}", "--panels=photo,map,drawing", "--epochs=1"]
    with pytest.raises(UserError, match=r"--input_panels takes names of panels\. There is no panel depth"):
        call_command(train_command, *flags, "--input_panels=photo,depth", "--target_panel=drawing")


@pytest.mark.slow
def test_native_crops_are_trained_scored_and_translated_in_their_own_resolution(one_device, tmp_path):
    data, workdir = _write_panels(tmp_path / "data", 48, 100), tmp_path / "run"
    settings = {"panels": ("photo", "drawing"), "crops": "native", "statistics": "moving"}
    assert train(small_config(data, image_size=32, **settings), workdir, one_device, quiet) is None
    with Image.open(data / "photo" / "val" / "100.png") as image:
        photo = np.asarray(image)
    with Image.open(workdir / "samples" / "epoch_0002.png") as image:
        np.testing.assert_array_equal(cell(np.asarray(image), 0, 0), photo[8:40, 34:66])
    run = open_evaluation(workdir, split="val", report=quiet)
    evaluate(run, None, "no network", save_images=True)
    flags = [f"--model={workdir}", f"--input={data / 'photo' / 'val'}", f"--output={tmp_path / 'out'}"]
    assert call_command(translate_command, *flags) == 0
    expected = open_model(workdir).tiled([photo[None]], None)[0]
    assert expected.shape == (48, 100, 3)
    with Image.open(tmp_path / "out" / "100.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert call_command(translate_command, *flags, "--notile", "--overwrite") == 0
    with Image.open(tmp_path / "out" / "100.png") as image:
        whole = np.asarray(image)
    np.testing.assert_array_equal(whole, open_model(workdir).translate([photo[None]], None)[0])
    assert (whole != expected).any()


@pytest.mark.slow
def test_an_image_of_just_the_native_crops_size_is_seen_as_in_evaluation(one_device, tmp_path):
    data, workdir = _write_panels(tmp_path / "data", 32, 64), tmp_path / "run"
    settings = {"panels": ("photo", "drawing"), "crops": "native", "statistics": "per_image"}
    assert train(small_config(data, image_size="32x64", **settings), workdir, one_device, quiet) is None
    run = open_evaluation(workdir, split="val", report=quiet)
    evaluate(run, None, "no network", save_images=True)
    flags = [f"--model={workdir}", f"--input={data / 'photo' / 'val'}", f"--output={tmp_path / 'out'}"]
    assert call_command(translate_command, *flags) == 0
    photo = data / "photo" / "val" / "100.png"
    ours = p2p_keras.load(workdir)(photo).astype(int)
    for path in (run.folder / "images" / "step_00000004" / "100.png", tmp_path / "out" / "100.png"):
        with Image.open(path) as image:
            assert np.abs(np.asarray(image) - ours).max() <= 1


def test_native_crops_need_images_of_one_size_in_a_pair(one_device, tmp_path):
    data = _write_panels(tmp_path / "data", 48, 100)
    Image.new("RGB", (96, 48)).save(data / "drawing" / "train" / "003.png")
    config = small_config(data, image_size=32, panels=("photo", "drawing"), crops="native")
    with pytest.raises(UserError, match="its images are of 96x48 and 100x48 pixels; native crops need"):
        train(config, tmp_path / "run", one_device, quiet)
