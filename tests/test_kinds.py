"""Kinds of images other than 8-bit RGB, from folders of files through a whole run and out again."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import call_command, cell, draw_pair, quiet, small_config
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import export as export_command
from p2p_keras.config import input_kinds, target_kind
from p2p_keras.errors import UserError
from p2p_keras.evaluation.drawing import palette_for
from p2p_keras.evaluation.records import read_records
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.export import open as opening
from p2p_keras.export import publication, write
from p2p_keras.export.open import check_export, open_model
from p2p_keras.images import charts, codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.metrics import inception
from p2p_keras.metrics.table import METRICS
from p2p_keras.models import make_inference
from p2p_keras.training.best import judge, value_of
from p2p_keras.training.networks import build_networks
from p2p_keras.training.recorder import _scores
from p2p_keras.training.run import train
from p2p_keras.training.validation import make_validation
from p2p_keras.translate import Job, find_sources, translate_images
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import to_json
from p2p_keras.workdir.resolve import Data, resolve

GREY_16, CLASSES = Kind(1, bits=16), Kind(3, labels=True)
PALETTE = np.array([[9, 9, 9], [250, 10, 20], [30, 40, 250]], np.uint8)  # of the label maps' files, not our own


def test_a_kind_says_what_its_files_hold():
    assert (RGB.levels, RGB.depth, RGB.dtype, RGB.fits_jpeg) == (255, 3, "uint8", True)
    assert (GREY_16.levels, GREY_16.depth, GREY_16.dtype, GREY_16.fits_jpeg) == (65535, 1, "uint16", False)
    assert (CLASSES.depth, CLASSES.dtype, CLASSES.fits_jpeg) == (1, "uint8", False)
    assert [Kind(channels).fits_jpeg for channels in (1, 2, 3, 4)] == [True, False, True, False]


def _deep(index: int) -> np.ndarray:
    """A drawn pair's first image in grey of 16 bits, uint16 (32, 32), with something in the lower 8."""
    colours = draw_pair(index)[0].astype(np.uint16)
    return colours[..., 0] * 256 + colours[..., 1]


def _classes(index: int) -> np.ndarray:
    """A drawn pair's square as class 1 or 2 on class 0, uint8 (32, 32)."""
    return (draw_pair(index)[0][..., 0] > 0).astype(np.uint8) * (1 + index % 2)


def _save_classes(path: Path, index: int) -> None:
    indexed = Image.fromarray(_classes(index))
    indexed.putpalette(PALETTE.tobytes())
    indexed.save(path)


def _write_folders(root: Path, save_a, save_b) -> Path:
    """A/ and B/ with 8 training and 2 validation pairs each, saved by functions of path and index."""
    for split, indices in (("train", range(8)), ("val", range(100, 102))):
        for panel, save in (("A", save_a), ("B", save_b)):
            folder = root / panel / split
            folder.mkdir(parents=True)
            for index in indices:
                save(folder / f"{index:03d}.png", index)
    return root


def _save_deep(path: Path, index: int) -> None:
    Image.fromarray(_deep(index)).save(path)


def _save_rgb(path: Path, index: int) -> None:
    Image.fromarray(draw_pair(index)[0]).save(path)


def _trained(root: Path, save_a, save_b, **settings) -> tuple[Path, Path]:
    """A run of two epochs; its folder and its data."""
    data, workdir = _write_folders(root / "data", save_a, save_b), root / "run"
    config = small_config(data, statistics="per_image", discriminator="pixel", samples_every_epochs=2, **settings)
    assert train(config, workdir, tf.distribute.MirroredStrategy(["CPU:0"]), quiet) is None
    return workdir, data


def _published(workdir: Path, output: Path, fill) -> Path:
    trained = write.load_trained(workdir, report=quiet)
    return publication.publish(trained, output, lambda folder: fill(trained, folder))


@pytest.mark.slow
def test_rgb_to_grey_of_16_bits(tmp_path):
    workdir, data = _trained(tmp_path, _save_rgb, _save_deep, output_channels=1)
    run = open_evaluation(workdir, split="val", report=quiet)
    assert (input_kinds(run.config), target_kind(run.config)) == ((RGB,), GREY_16)
    (record,) = evaluate(run, None, "no network", save_images=True)

    # The same L1 from the saved files, and they use all 16 bits.
    saved = [Image.open(path) for path in sorted((run.folder / "images" / "step_00000004").iterdir())]
    assert [image.mode for image in saved] == ["I;16"] * 2
    found = np.stack([np.asarray(image) for image in saved]).astype(float)
    expected = np.stack([_deep(100), _deep(101)])
    assert record["metrics"]["l1"] == pytest.approx(np.abs(found - expected).mean() / 32767.5, rel=1e-9)
    assert len(np.unique(found % 256)) > 128

    # Translated by an export that is loaded again: the same images.
    folder = _published(workdir, tmp_path / "models", write.write_keras)
    images = find_sources([str(data / "A" / "val")])
    outcome = translate_images(open_model(folder), images, tmp_path / "out", Job(), quiet)
    assert (outcome.written, outcome.other_sizes) == (2, 0)
    with Image.open(tmp_path / "out" / "100.png") as image:
        assert image.mode == "I;16"
        assert np.abs(np.asarray(image) - found[0]).max() <= 8  # of 65535: float32 sums in another order
    assert "input_bytes" not in json.loads((folder / "metadata.json").read_text())


@pytest.mark.slow
def test_label_maps_to_rgb(tmp_path):
    workdir, data = _trained(tmp_path, _save_classes, _save_rgb, labels=3)
    run = open_evaluation(workdir, split="val", report=quiet)
    assert (input_kinds(run.config), target_kind(run.config)) == ((CLASSES,), RGB)
    evaluate(run, None, "no network", save_images=True)
    with Image.open(run.folder / "images" / "step_00000004" / "100.png") as image:
        assert image.mode == "RGB"
        expected = np.asarray(image).astype(int)
    with Image.open(workdir / "samples" / "epoch_0002.png") as sheet:
        np.testing.assert_array_equal(cell(np.asarray(sheet), 0, 0), class_colours()[_classes(100)])

    folder = _published(workdir, tmp_path / "models", write.write_keras)
    (data / "A" / "val" / "bad.png").write_bytes(b"")
    Image.fromarray(_classes(3) + 1).save(data / "A" / "val" / "high.png")
    images = find_sources([str(data / "A" / "val")])
    outcome = translate_images(open_model(folder), images, tmp_path / "out", Job(), quiet)
    assert outcome.written == 2
    assert sorted(outcome.bad.values()) == ["it has class 3; with 3 classes the highest is 2", "it is empty"]
    with Image.open(tmp_path / "out" / "100.png") as image:
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def _untrained(root: Path, save_a, save_b, **settings) -> tuple[Path, Path, Data]:
    """A run as `train` leaves it, but with the weights it began with: its folder, its files, its pairs."""
    files, workdir = _write_folders(root / "data", save_a, save_b), root / "run"
    workdir.mkdir()
    config, data = resolve(small_config(files, discriminator="pixel", **settings), None, workdir, quiet)
    networks = build_networks(config, tf.distribute.get_strategy(), 4, 0)
    checkpoints.save(networks.checkpoint, workdir / "checkpoints", 4, keep=0)
    (workdir / "config.json").write_text(to_json(config, data={"counts": {"train": 8}}))
    return workdir, files, data


def test_rgb_to_label_maps(tmp_path, monkeypatch, capfd):
    workdir, files, data = _untrained(tmp_path, _save_rgb, _save_classes, output_labels=5, base_filters=8)
    monkeypatch.setattr(inception, "load_extractor", lambda *_: pytest.fail("it has no use for the network"))
    flags = [f"--workdir={workdir}", "--split=val", "--save_images"]
    with pytest.raises(UserError, match="--require_inception is for images"):
        call_command(eval_command, *flags, "--require_inception")
    assert call_command(eval_command, *flags) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].split() == ["step", "epoch", "L1", "accuracy", "mIoU"]
    folder = workdir / "eval" / "val"
    (record,) = read_records(folder)
    assert set(record["metrics"]) == {"l1", "pixel_accuracy", "mean_iou"}
    assert set(record["absent"]) == {metric.name for metric in METRICS} - set(record["metrics"])
    assert all("label maps" in reason for reason in record["absent"].values())

    generated = []
    for index in (100, 101):
        with Image.open(folder / "images" / "step_00000004" / f"{index}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image.getpalette()).reshape(-1, 3)[:3], PALETTE)  # the targets' own
            generated.append(np.asarray(image))
    assert len(np.unique(generated)) > 2
    right = np.mean([(found == _classes(index)).mean() for found, index in zip(generated, (100, 101), strict=True)])
    assert record["metrics"]["pixel_accuracy"] == pytest.approx(right, rel=1e-12)
    assert record["metrics"]["l1"] == pytest.approx((1 - right) * 4 / 5, rel=1e-12)

    # While training the same numbers are found, from which the best checkpoint can be told.
    trained = write.load_trained(workdir)
    monkeypatch.setattr(charts, "metric_curves", lambda *_: None)  # drawn once, above
    generate = make_inference(trained.generator)
    validate = make_validation(trained.config, trained.generator, generate, data, tmp_path, 2, quiet)
    history = [{"step": 4, "evaluation": validate(4)}]
    assert value_of(judge(history, "mean_iou", None).best, "mean_iou") == record["metrics"]["mean_iou"]
    assert read_records(tmp_path / "eval" / "val")[0]["absent"] == record["absent"]

    assert (
        call_command(export_command, f"--workdir={workdir}", f"--output={tmp_path / 'models'}", "--format=keras") == 0
    )
    assert "model.keras: reloaded, it reproduces the trainer's image to within " in capfd.readouterr().out
    model, images = open_model(tmp_path / "models" / "keras"), find_sources([str(files / "A" / "val")])
    translate_images(model, images, tmp_path / "out", Job(), quiet)
    with Image.open(tmp_path / "out" / "100.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.getpalette()).reshape(-1, 3), class_colours())
        assert (np.asarray(image) == generated[0]).mean() > 0.99  # where two classes were equally likely

    # Targets without a palette are evaluated in our own.
    (files / "B" / "val" / "100.png").write_bytes(codec.encode(_classes(100)[..., np.newaxis]))
    palette = palette_for(open_evaluation(workdir, split="val", report=quiet).pairs)
    np.testing.assert_array_equal(palette, class_colours())


@pytest.mark.slow
def test_a_saved_model_from_label_maps_to_grey_of_16_bits(tmp_path, monkeypatch):
    workdir, _, _ = _untrained(tmp_path, _save_classes, _save_deep, labels=3, output_channels=1)
    folder = _published(workdir, tmp_path / "models", write.write_saved_model)
    signatures = tf.saved_model.load(str(folder)).signatures
    classes = np.stack([_classes(index) for index in (100, 101)])[..., np.newaxis]
    expected = signatures["translate"](image=tf.constant(classes))["image"].numpy()
    assert (expected.dtype, expected.shape) == (np.uint16, (2, 32, 32, 1))
    assert len(np.unique(expected)) > 256  # more than 8 bits could tell apart
    served = signatures["serving_default"](image_bytes=tf.constant([codec.encode(image) for image in classes]))
    floats = signatures["translate_float"](image=codec.to_unit_range(classes, CLASSES))["image"].numpy()
    decoded = [tf.io.decode_png(file, dtype=tf.uint16).numpy() for file in served["image_bytes"]]
    for found in (np.stack(decoded), codec.from_unit_range(floats, GREY_16)):
        assert np.abs(found.astype(int) - expected).max() <= 8  # of 65535: float32 sums in another order
    large = signatures["tiled"](image=tf.zeros((1, 40, 50, 1), tf.uint8))["image"]
    assert (large.dtype, large.shape) == (tf.uint16, (1, 40, 50, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="has classes above 2, the highest of 3"):
        signatures["translate"](image=tf.fill((1, 32, 32, 1), tf.constant(3, tf.uint8)))
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["input_bytes"].startswith("grey PNG of 8 bits whose numbers are the classes 0 to 2; not indexed")
    assert "output_bytes" not in metadata

    # The requests that warm a server up are such as it takes.
    requests = tf.data.TFRecordDataset(str(folder / "assets.extra" / "tf_serving_warmup_requests"))
    for record in requests.take(2):
        log = prediction_log_pb2.PredictionLog()
        log.ParseFromString(record.numpy())
        request = log.predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        assert signatures[request.model_spec.signature_name](**inputs)

    # Reloaded, it is the trainer's; and a level of 65535 is not one of 255.
    model = open_model(folder)
    off = model._replace(translate=lambda image, seed: model.translate(image, seed) + np.uint16(100))
    monkeypatch.setattr(opening, "open_model", lambda path: off)
    assert check_export(folder, write.load_trained(workdir)) == pytest.approx(100 / 257, abs=8 / 257)


def test_the_terminal_shows_what_label_maps_scored():
    evaluation = {"split": "val", "count": 2, "l1": 0.5, "pixel_accuracy": 0.75, "mean_iou": 0.25}
    assert _scores({"evaluation": evaluation}) == "\n    val: L1 0.5000  mIoU 0.2500"
