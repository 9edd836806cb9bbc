"""A run that keeps a moving average of its generator: who takes it, and that it is saved with all else."""

import shutil

import numpy as np
import pytest
from conftest import assert_same_end, checkpoint_values, quiet, share, small_config, write_pairs

from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import read_records
from p2p_keras.export.write import load_trained
from p2p_keras.training.run import train
from p2p_keras.training.start import open_run
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.generator import build_generator, weights_checksum

SETTINGS = {"ema_decay": 0.5, "eval_every_epochs": 1, "snapshot_every_epochs": 1}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    data = tmp_path_factory.mktemp("pairs")
    write_pairs(data / "train", 12)
    write_pairs(data / "val", 3, first_index=100)
    return data


@pytest.fixture(scope="module")
def averaged(pairs, one_device, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("averaged")
    train(small_config(pairs, **SETTINGS), workdir, one_device, quiet)
    return share(workdir)


def _average(workdir, step: int = 6) -> dict[str, np.ndarray]:
    values = checkpoint_values(workdir, step)
    return {name: value for name, value in values.items() if name.startswith("average/")}


def test_it_is_saved_beside_the_weights_themselves(averaged):
    values, average = checkpoint_values(averaged, 6), _average(averaged)
    assert len(average) == 41  # 10 kernels of convolutions and 3 biases, and 4 vectors of each of 7 layers' batch norm
    for name, value in average.items():
        if "moving" in name:  # the trainable ones are called as the optimizer's there
            assert np.abs(value - values[name.replace("average/", "generator/", 1)]).max() > 1e-4, name


def test_everything_but_training_takes_the_average(averaged, one_device):
    generator = build_generator(small_config("x", **SETTINGS))
    checkpoints.restore_generator(generator, checkpoints.path_of(averaged / "checkpoints", 6))
    kernel = next(value for name, value in _average(averaged).items() if value.shape == generator.weights[0].shape)
    np.testing.assert_array_equal(generator.weights[0].numpy(), kernel)
    of_checkpoint = weights_checksum(generator)
    checkpoints.restore_generator(generator, checkpoints.path_of(averaged / "snapshots", 6))
    assert weights_checksum(generator) == of_checkpoint
    assert read_records(averaged / "eval" / "val")[-1]["weights"] == of_checkpoint
    assert weights_checksum(load_trained(averaged, report=quiet).generator) == of_checkpoint


def test_samples_are_drawn_by_it(averaged, pairs, one_device, tmp_path):
    workdir = shutil.copytree(averaged, tmp_path / "run")
    run = open_run(small_config(pairs, **SETTINGS, epochs=3), workdir, one_device, quiet)
    drawn = run.draw_samples()
    for network, counts in ((run.networks.generator, False), (run.networks.average, True)):
        network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
        assert np.array_equal(run.draw_samples(), drawn) != counts


@pytest.mark.slow
def test_interrupted_it_ends_bit_equal(averaged, pairs, one_device, tmp_path):
    for steps in (4, 6):
        train(small_config(pairs, epochs=None, steps=steps, **SETTINGS), tmp_path, one_device, quiet)
    assert_same_end(averaged, tmp_path, 6)
    with pytest.raises(UserError, match=r"--ema_decay was 0\.5, is 0"):
        train(small_config(pairs, **{**SETTINGS, "ema_decay": 0.0}), tmp_path, one_device, quiet)


def test_a_run_that_begins_with_it_begins_with_the_average_in_both(averaged, pairs, one_device, tmp_path):
    run = open_run(small_config(pairs, ema_decay=0.9, init_from=str(averaged)), tmp_path, one_device, quiet)
    average = sorted(float(np.sum(value, dtype=np.float64)) for value in _average(averaged).values())
    for network in (run.networks.generator, run.networks.average):
        found = sorted(float(np.sum(value, dtype=np.float64)) for value in network.get_weights())
        assert found == average
