import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import call_command, draw_pair, quiet, small_config
from PIL import Image

import p2p_keras
from p2p_keras import UserError
from p2p_keras.cli import export as export_command
from p2p_keras.export.open import open_model
from p2p_keras.system import devices
from p2p_keras.workdir.history import read_history


def test_importing_the_package_does_not_load_tensorflow():
    code = "import sys, p2p_keras; assert not {'tensorflow', 'keras', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_is_translated_whatever_form_it_comes_in(finished, tmp_path):
    translate = p2p_keras.load(finished[0])
    image = draw_pair(7, size=40)[0]
    expected = open_model(finished[0]).translate([image[None]], None)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    for picture in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(translate(picture), expected)
    batch = translate(np.stack([image, image[::-1]]))
    assert (batch.shape, batch.dtype) == ((2, 40, 40, 3), np.uint8)
    assert np.abs(batch[0].astype(int) - expected).max() <= 1  # alone and in a batch sums have another order
    assert (translate(image, seed=1) != translate(image, seed=2)).any()
    np.testing.assert_array_equal(translate(image, tile=True), open_model(finished[0]).tiled([image[None]], None)[0])
    assert (translate.inputs, translate.config.image_size) == (("image",), (32, 32))


def test_a_pil_image_of_16_bits_is_taken_as_its_file_is(finished, tmp_path):
    translate = p2p_keras.load(finished[0])
    Image.fromarray(np.arange(0, 32 * 32 * 60, 60, np.uint16).reshape(32, 32)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(translate(image), translate(tmp_path / "a.png"))


@pytest.mark.parametrize("seed", [2**31, -(2**31) - 1])
def test_a_seed_of_more_than_32_bits_is_refused_in_words(finished, seed):
    with pytest.raises(UserError, match=f"A seed is a number of 32 bits, .* Received: {seed}"):
        p2p_keras.load(finished[0])(draw_pair(7)[0], seed=seed)


def test_a_run_without_dropout_has_no_noise(finished_copy, tmp_path):
    path = finished_copy / "config.json"
    record = json.loads(path.read_text())
    record["config"]["dropout"] = False
    path.write_text(json.dumps(record))
    model, picture = p2p_keras.load(finished_copy), draw_pair(7)[0]
    assert model(picture).shape == picture.shape
    with pytest.raises(UserError, match="A seed needs a model with noise"):
        model(picture, seed=1)
    with pytest.raises(UserError, match="--noise is of runs with --dropout"):
        call_command(export_command, f"--workdir={finished_copy}", f"--output={tmp_path / 'models'}", "--noise")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ((), "This model takes image. Received 0 pictures"),
        ((np.zeros((8, 8)),), r"takes uint8 \(H, W, 3\), or a batch of them. Received: float64 \(8, 8\)"),
        ((np.zeros((0, 8, 3), np.uint8),), r"Received: uint8 \(0, 8, 3\)"),
        (("nowhere.png",), "nowhere.png: it is not there"),
    ],
)
def test_what_cannot_be_translated_is_refused_in_words(finished, pictures, words):
    with pytest.raises(UserError, match=words):
        p2p_keras.load(finished[0])(*pictures)


@pytest.fixture(autouse=True)
def _one_device(one_device, monkeypatch):
    """Two strategies of several devices in one process collide in TensorFlow's collectives."""
    monkeypatch.setattr(devices, "make_strategy", lambda report: one_device)


def test_a_run_is_trained_and_continued_by_the_same_call(finished, tmp_path):
    config = small_config(finished[1])
    settings = {"direction": "AtoB", "image_size": 32, "base_filters": 8, "discriminator": "pixel", "batch_size": 4}
    for epochs in (1, 2):
        workdir = p2p_keras.train(finished[1], tmp_path / "run", report=quiet, epochs=epochs, **settings)
    assert [record["epoch"] for record in read_history(workdir)] == [1, 2]
    assert p2p_keras.load(workdir).config.seed == config.seed
    with pytest.raises(UserError, match="--batch_size was 4, is 2"):
        p2p_keras.train(finished[1], workdir, report=quiet, **{**settings, "batch_size": 2})


@pytest.mark.slow
def test_a_batch_size_that_nobody_gave_is_raised_to_the_devices(finished, two_devices, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "make_strategy", lambda report: two_devices)
    small = {"image_size": 32, "base_filters": 4, "discriminator": "pixel", "steps": 1}
    p2p_keras.train(finished[1], tmp_path / "run", report=quiet, direction="AtoB", **small)
    assert p2p_keras.load(tmp_path / "run").config.batch_size == 2


@pytest.mark.slow
def test_training_works_in_a_thread_which_no_signal_reaches(finished, tmp_path):
    failures = []

    def work():
        try:
            small = {"image_size": 32, "base_filters": 4, "discriminator": "pixel", "batch_size": 2, "steps": 1}
            p2p_keras.train(finished[1], tmp_path / "run", report=quiet, direction="AtoB", **small)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert (tmp_path / "run" / "checkpoints" / "step_00000001").is_dir()
