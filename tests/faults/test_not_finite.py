"""NaN in the middle of a run: named with its step, the last good checkpoint kept, and the run goes on from it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_end, quiet, small_config, tree

from p2p_keras.errors import UserError
from p2p_keras.training import run as run_module
from p2p_keras.training.run import train
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.history import read_history


@pytest.fixture
def poison_batch(monkeypatch):
    """Makes the input images of a step NaN."""
    original = run_module.pipeline.training_dataset

    def poison(step: int) -> None:
        def training_dataset(files, reading, batch_size, seed, first_step, last_step, share):
            def poisoned(number, batch):
                factor = tf.where(number == step - 1 - first_step, np.nan, 1.0)
                return batch[0] * factor, *batch[1:]

            batches = original(files, reading, batch_size, seed, first_step, last_step, share)
            return batches.enumerate().map(lambda number, batch: poisoned(number, batch))

        monkeypatch.setattr(run_module.pipeline, "training_dataset", training_dataset)

    return poison


def _poison_update(monkeypatch, step: int, network: str) -> None:
    """The update of a step leaves NaN in a weight, though its losses were finite: as where a gradient overflows."""
    original = run_module.make_train_steps

    def make_train_steps(strategy, generator, discriminator, *rest):
        train_steps, weights = original(strategy, generator, discriminator, *rest), vars()[network].trainable_variables
        counter = rest[3]

        def take(iterator, count):
            losses = train_steps(iterator, count)
            if int(tf.identity(counter)) == step:
                weights[-1].assign(weights[-1] * np.nan)
            return losses

        return take

    monkeypatch.setattr(run_module, "make_train_steps", make_train_steps)
    monkeypatch.setattr(run_module, "SECS_PER_CALL", 0.0)  # one step a call


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (5, {}),
        pytest.param(1, {}, marks=pytest.mark.slow),
        pytest.param(3, {}, marks=pytest.mark.slow),
        pytest.param(5, {"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param(6, {"precision": "bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_a_poisoned_batch_stops_the_run_at_its_step_and_it_goes_on_from_before(
    step, settings, finished, one_device, tmp_path, monkeypatch, poison_batch
):
    config = small_config(finished[1], checkpoint_every_steps=1, **settings)
    with monkeypatch.context():
        poison_batch(step)
        with pytest.raises(UserError, match=rf"Training stops when a loss is not finite\. At step {step}: ") as error:
            train(config, tmp_path / "run", one_device, quiet)
    saved = checkpoints.list_steps(tmp_path / "run" / "checkpoints")
    assert saved == list(range(1, step))[-3:]
    assert (f"The checkpoint of step {step - 1} is kept" in str(error.value)) == (step > 1)
    assert [record["step"] for record in read_history(tmp_path / "run")] == [3][: step > 3]
    monkeypatch.undo()
    told = []
    assert train(config, tmp_path / "run", one_device, told.append) is None
    assert any(f"steps {step} to 6" in line for line in told)
    whole = finished[0]
    if settings:
        whole = tmp_path / "whole"
        train(config, whole, one_device, quiet)
    assert_same_end(whole, tmp_path / "run", 6)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_weights_that_are_not_finite_are_neither_scored_nor_drawn_nor_saved(
    network, finished, one_device, tmp_path, monkeypatch
):
    """At the end of an epoch, when all of that is due."""
    config = small_config(finished[1], checkpoint_every_steps=1, eval_every_epochs=1)
    train(dataclasses.replace(config, epochs=1), tmp_path, one_device, quiet)
    kept = ("samples", "checkpoints/best", "eval", "history.jsonl")
    before = {name: content for name, content in tree(tmp_path).items() if name.startswith(kept)}
    _poison_update(monkeypatch, 6, network)
    with pytest.raises(UserError, match=rf"not finite.*after step 6.*{network}.*The checkpoint of step 5 is kept"):
        train(config, tmp_path, one_device, quiet)
    after = {name: content for name, content in tree(tmp_path).items() if name.startswith(kept)}
    assert after == before
    assert checkpoints.list_steps(tmp_path / "checkpoints") == [3, 4, 5]
