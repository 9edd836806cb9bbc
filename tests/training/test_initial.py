"""Runs that begin with the weights of another run, or of an export."""

import dataclasses
import json
import os
import shutil
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_end, quiet, small_config, write_pairs

from p2p_keras.errors import UserError
from p2p_keras.export import publication, write
from p2p_keras.training.initial import check_form
from p2p_keras.training.networks import Networks, build_networks
from p2p_keras.training.run import train
from p2p_keras.training.start import Run, open_run, to_record
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import weights_checksum

SMALL = {"image_size": 32, "base_filters": 4, "input_channels": 3, "output_channels": 3}


def _checksum(source, which="latest") -> str:
    return weights_checksum(write.load_trained(source, which).generator)


def _open(source, data, workdir, strategy, told=None, **settings) -> Run:
    workdir.mkdir(exist_ok=True)
    config = small_config(data, **{"batch_size": 2, "learning_rate": 1e-3, "init_from": str(source), **settings})
    return open_run(config, workdir, strategy, quiet if told is None else told.append)


def _restored(source) -> Networks:
    """The newest checkpoint's networks, as a run that goes on has them."""
    networks = build_networks(read_config(source / "config.json")[0], tf.distribute.get_strategy(), 6, 0)
    checkpoints.restore(networks.checkpoint, checkpoints.path_of(source / "checkpoints", 6))
    return networks


def _same_weights(ours: keras.Model, theirs: keras.Model) -> bool:
    pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("devices", [1, 2])
def test_both_networks_begin_with_a_runs_weights_and_the_optimizers_anew(finished, tmp_path, devices):
    source, data, _ = finished
    told, strategy = [], tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    run = _open(source, data, tmp_path, strategy, told)
    theirs = _restored(source)
    assert _same_weights(run.networks.generator, theirs.generator)
    assert _same_weights(run.networks.discriminator, theirs.discriminator)
    assert run.first_step == run.networks.step.numpy() == run.networks.generator_optimizer.iterations.numpy() == 0
    momentums = run.networks.generator_optimizer.variables[2:]
    assert not any(np.any(variable.numpy()) for variable in momentums)
    assert told == [f"Begins with the weights of {source}, step 6"]
    assert run.init_from == {
        "path": str(source),
        "step": 6,
        "checkpoint": "latest",
        "weights": _checksum(source),
        "discriminator": True,
    }


@pytest.mark.slow
def test_a_run_so_begun_continues_bit_equal_when_its_source_has_gone(finished_copy, tmp_path, one_device, monkeypatch):
    write_pairs(tmp_path / "other" / "train", 8, first_index=50)
    settings = {"batch_size": 2, "epochs": 2, "samples_every_epochs": 1, "init_from": str(finished_copy)}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small_config(tmp_path / "other", **settings), whole, one_device, quiet)
    cut = {**settings, "epochs": None, "steps": 3}
    train(small_config(tmp_path / "other", **cut), parts, one_device, quiet)
    begun = read_config(parts / "config.json")[1]["init_from"]
    assert begun == read_config(whole / "config.json")[1]["init_from"]
    shutil.rmtree(finished_copy)
    monkeypatch.chdir(tmp_path)
    relative = {**settings, "init_from": os.path.relpath(finished_copy)}  # the same place, said otherwise
    train(small_config(tmp_path / "other", **relative), parts, one_device, quiet)
    assert_same_end(whole, parts, 8)
    assert (
        read_config(parts / "config.json")[1]["init_from"]
        == begun
        == read_config(whole / "config.json")[1]["init_from"]
    )
    with pytest.raises(UserError, match=r"Changed: --init_from was /.*, is None"):
        train(small_config(tmp_path / "other", **{**settings, "init_from": None}), parts, one_device, quiet)


def test_before_the_first_checkpoint_the_source_is_read_again(finished, tmp_path, one_device):
    """A kill before it leaves config.json alone; the same command begins with the source's weights once more."""
    source, data, _ = finished
    first = _open(source, data, tmp_path / "new", one_device)
    (tmp_path / "new" / "config.json").write_text(to_record(first))
    again = _open(source, data, tmp_path / "new", one_device)
    assert to_record(again) == to_record(first)
    assert _same_weights(again.networks.generator, _restored(source).generator)


def test_of_a_run_the_best_checkpoint_is_taken_or_else_the_newest(finished, finished_copy, tmp_path, one_device):
    directory, data = finished_copy / "checkpoints", finished[1]
    config = dataclasses.replace(read_config(finished_copy / "config.json")[0], seed=1)
    other = build_networks(config, tf.distribute.get_strategy(), 6, 0)
    best = checkpoints.save_best(other.checkpoint, directory, 3)
    told = []
    run = _open(finished_copy, data, tmp_path / "a", one_device, told)
    assert _same_weights(run.networks.generator, other.generator)
    assert _same_weights(run.networks.discriminator, other.discriminator)
    assert (run.init_from["step"], run.init_from["checkpoint"]) == (3, "best")
    assert told == [f"Begins with the weights of {finished_copy}, step 3, its best checkpoint"]

    for path in best.glob("*.data*"):
        path.write_bytes(path.read_bytes()[:-100])
    told.clear()
    run = _open(finished_copy, data, tmp_path / "b", one_device, told)
    assert (run.init_from["step"], run.init_from["weights"]) == (6, _checksum(finished[0]))
    assert told[0].startswith("Skipped the checkpoint of step 3: it is damaged")
    assert best.exists()  # another run's folder stays as it is


@pytest.mark.parametrize("left", ["nothing", "a damaged one"])
def test_of_a_snapshot_alone_the_discriminator_begins_anew(finished, finished_copy, tmp_path, one_device, left):
    """As of a run that is still in training, or of what is set aside in `before_<time>/`."""
    directory = finished_copy / "checkpoints"
    networks = _restored(finished_copy)
    part = tf.train.Checkpoint(generator=networks.generator)
    checkpoints.save(part, checkpoints.snapshots_of(directory), 6, 0, "snapshot")
    for path in checkpoints.path_of(directory, 6).iterdir():
        path.unlink() if left == "nothing" else path.write_bytes(path.read_bytes()[:-100])
    if left == "nothing":
        checkpoints.path_of(directory, 6).rmdir()
    told = []
    run = _open(finished_copy, finished[1], tmp_path / "new", one_device, told)
    assert _same_weights(run.networks.generator, networks.generator)
    assert (run.init_from["step"], run.init_from["discriminator"]) == (6, False)
    assert told[-1].endswith("step 6; the discriminator begins anew, for that run has none of this step")


def test_a_discriminator_of_another_form_begins_anew(finished, tmp_path, one_device):
    source, data, _ = finished
    told = []
    run = _open(source, data, tmp_path, one_device, told, discriminator="patch16")
    assert _same_weights(run.networks.generator, _restored(source).generator)
    assert not run.init_from["discriminator"]
    fresh = build_networks(run.config, tf.distribute.get_strategy(), 12, 0).discriminator
    assert _same_weights(run.networks.discriminator, fresh)
    assert told[-1].endswith("begins anew, for --discriminator is patch70 there, patch16 here")


@pytest.mark.parametrize("form", [pytest.param("savedmodel", marks=pytest.mark.slow), "keras"])
def test_an_export_gives_the_generator_its_weights(finished, tmp_path, one_device, form):
    source, data, _ = finished
    trained = write.load_trained(source)
    fill = partial({"savedmodel": write.write_saved_model, "keras": write.write_keras}[form], trained)
    version = publication.publish(trained, tmp_path / "models", fill)
    told = []
    for place in (tmp_path / "models", version, *version.glob("*.keras")):
        run = _open(place, data, tmp_path / "new", one_device, told)
        assert run.init_from["weights"] == _checksum(source)  # with the moving averages
        assert (run.init_from["step"], run.init_from["checkpoint"], run.init_from["discriminator"]) == (6, None, False)
        assert told.pop().endswith("step 6; the discriminator begins anew, for an export has none")


@pytest.mark.slow
def test_moving_averages_that_an_export_left_out_begin_anew(finished_copy, tmp_path, one_device):
    record = json.loads((finished_copy / "config.json").read_text())
    record["config"]["statistics"] = "per_image"
    (finished_copy / "config.json").write_text(json.dumps(record))
    trained = write.load_trained(finished_copy)
    publication.publish(trained, tmp_path / "models", partial(write.write_saved_model, trained))
    run = _open(tmp_path / "models", record["config"]["data_dir"], tmp_path / "new", one_device)
    for ours, theirs in zip(run.networks.generator.weights, trained.generator.weights, strict=True):
        begins = {"moving_mean": 0.0, "moving_variance": 1.0}.get(ours.name)
        np.testing.assert_array_equal(ours, theirs if begins is None else np.full(ours.shape, begins))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_filters": 8}, "--base_filters is 4 there, 8 here. Give the same as there, or"),
        ({"upsampling": "resize"}, "--upsampling is transposed there, resize here. Give the same as there, or"),
        ({"image_size": 64}, "--image_size is 32x32 there, 64x64 here."),
        ({"input_channels": 1}, "--input_channels is 3 there, 1 here."),
        (
            {"output_channels": 4, "base_filters": 2},
            "--base_filters is 4 there, 2 here, --output_channels is 3 there, 4 here.",
        ),
        # As many channels, but they are classes
        ({"input_channels": None, "labels": 3}, "--labels is none there, 3 here."),
        # And here they are of two images
        (
            {"input_panels": ("a", "b"), "target_panel": "c", "input_channels": (1, 2)},
            "--input_panels is none there, a,b here.",
        ),
    ],
)
def test_a_generator_of_another_form_is_refused_by_name(settings, words):
    theirs = small_config("x", **SMALL)
    check_form(theirs, small_config("x", **SMALL, direction="BtoA", discriminator="pixel", input_bits=16))
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        check_form(theirs, small_config("x", **{**SMALL, **settings}))


def test_sizes_that_can_be_halved_equally_often_have_the_same_form():
    def sized(size):
        return small_config("x", **{**SMALL, "image_size": size})

    check_form(sized("32x64"), sized(32))
    check_form(sized("64x192"), sized(64))
    with pytest.raises(UserError, match="--image_size is 32x64 there, 64x64 here"):
        check_form(sized("32x64"), sized(64))


def test_what_is_no_source_is_refused_before_anything_is_written(finished, tmp_path, one_device):
    _, data, _ = finished
    (tmp_path / "damaged" / "1").mkdir(parents=True)
    (tmp_path / "damaged" / "1" / "saved_model.pb").write_text("")
    config = {"config": vars(small_config(data))}
    (tmp_path / "damaged" / "1" / "metadata.json").write_text(json.dumps({**config, "step": 1}))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text(json.dumps({**config, "format": 1}))
    for name in ("a.tflite", "latest_net_G.pth", "notes.txt"):
        (tmp_path / name).write_text("x")
    for name, words in (
        ("none", "none is none of them. For one: --init_from=runs/a2s"),
        ("notes.txt", "notes.txt is none of them"),
        ("a.tflite", "a.tflite is TFLite, which keeps no weights to train on"),
        ("latest_net_G.pth", "is PyTorch's: p2p-import makes a run of it"),
        ("damaged", "--init_from takes a whole export. .*1 cannot be read"),
        ("begun", "A checkpoint is needed. There is none in"),
    ):
        with pytest.raises(UserError, match=words):
            train(small_config(data, init_from=str(tmp_path / name)), tmp_path / "run", one_device, quiet)
        assert not (tmp_path / "run" / "config.json").exists()
