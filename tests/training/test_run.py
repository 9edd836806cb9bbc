import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    DEADLINE_SECS,
    assert_same_end,
    cell,
    checkpoint_values,
    draw_pair,
    quiet,
    share,
    small_config,
    start_command,
    tree,
    write_pairs,
)
from PIL import Image

from p2p_keras.errors import UserError
from p2p_keras.export.open import open_model
from p2p_keras.training import recorder
from p2p_keras.training import run as run_module
from p2p_keras.training.run import train
from p2p_keras.training.step import LOSS_NAMES
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import locked, read_config, to_json
from p2p_keras.workdir.generator import build_generator, weights_checksum
from p2p_keras.workdir.history import read_history


def test_a_run_leaves_what_the_readme_promises(finished):
    workdir, data, told = finished
    assert checkpoints.list_steps(workdir / "checkpoints") == [6]
    assert [path.name for path in sorted((workdir / "samples").iterdir())] == ["epoch_0002.png"]
    assert (workdir / "curves.png").exists()
    assert list((workdir / "summaries").glob("events*"))
    history = read_history(workdir)
    assert [record["step"] for record in history] == [3, 6]
    assert [record["epoch"] for record in history] == [1.0, 2.0]
    assert all(np.isfinite(record[name]) for record in history for name in LOSS_NAMES)
    for record in history:
        assert record["generator_loss"] == pytest.approx(record["gan_loss"] + 100 * record["l1_loss"], rel=1e-5)
    config, record = read_config(workdir / "config.json")
    assert config == small_config(data, input_channels=3, output_channels=3, input_bits=8, output_bits=8)
    assert record["inference"] == {"statistics": "moving", "noise": False}
    assert record["data"]["counts"] == {"train": 12, "val": 3, "test": 0}
    assert [line.split(":")[0] for line in told[-4:]] == ["Samples", "Curves", "Checkpoint", "Next"]
    assert any(line.startswith("epoch 2/2") for line in told)


def test_the_last_samples_are_what_the_last_checkpoint_generates(finished):
    workdir, _, _ = finished
    with Image.open(workdir / "samples" / "epoch_0002.png") as image:
        sheet = np.asarray(image)
    generate = open_model(workdir).translate
    for row, index in enumerate((100, 101, 102)):
        input_image, target_image = draw_pair(index)
        np.testing.assert_array_equal(cell(sheet, row, 0), input_image)
        np.testing.assert_array_equal(cell(sheet, row, 1), target_image)
        difference = cell(sheet, row, 2) - generate([input_image[None]], None)[0].astype(int)
        assert np.abs(difference).max() <= 1  # alone and in a batch convolutions may add up in another order


def test_training_learns(finished, one_device, tmp_path):
    _, data, _ = finished
    settings = {"epochs": 12, "samples_every_epochs": 12, "learning_rate": 2e-3}
    train(small_config(data, **settings), tmp_path, one_device, quiet)
    l1 = [record["l1_loss"] for record in read_history(tmp_path)]
    assert l1[-1] < 0.5 * l1[0]


@pytest.mark.slow
def test_in_bfloat16_it_trains_close_to_float32_and_keeps_float32_weights(finished, one_device, tmp_path):
    """The run of `finished` again, from the same weights. A rounding to 8 bits is off by up to 0.4 %, with either sign.

    A loss is a mean over thousands of pixels, in which roundings cancel, so it stays within one rounding.
    """
    whole, data, _ = finished
    told = []
    train(small_config(data, precision="bfloat16"), tmp_path, one_device, told.append)
    assert any("in bfloat16 on 1 device" in line for line in told)
    for ours, theirs in zip(read_history(tmp_path), read_history(whole), strict=True):
        for name in LOSS_NAMES:
            assert ours[name] == pytest.approx(theirs[name], rel=2**-8), name
        assert ours["l1_loss"] != theirs["l1_loss"]  # it did compute with other numbers
    ours, theirs = checkpoint_values(tmp_path, 6), checkpoint_values(whole, 6)
    assert {name: value.dtype for name, value in ours.items()} == {name: value.dtype for name, value in theirs.items()}
    assert {value.dtype.name for value in ours.values()} == {"float32", "float64", "int64"}  # losses' sums, counters


@pytest.mark.slow
def test_interrupted_anywhere_a_run_ends_bit_equal(finished, one_device, tmp_path):
    config, whole, parts = small_config(finished[1], samples_every_epochs=1), tmp_path / "whole", tmp_path / "parts"
    train(config, whole, one_device, quiet)
    for steps in (1, 4, 6):  # within the first epoch, within the second, to the end
        train(dataclasses.replace(config, epochs=None, steps=steps), parts, one_device, quiet)
    # Stopping short of an epoch's end writes that part's record and image; the whole epoch's replace them.
    assert_same_end(whole, parts, 6)
    assert read_config(parts / "config.json")[0].steps == 6


@pytest.mark.slow
def test_while_the_learning_rate_decays_a_run_continues_bit_equal_too(pairs_dir, one_device, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small_config(pairs_dir, decay_epochs=1), whole, one_device, quiet)

    def stop_after_first_epoch(line):
        if line.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(small_config(pairs_dir, decay_epochs=1), parts, one_device, stop_after_first_epoch) == signal.SIGTERM
    train(small_config(pairs_dir, decay_epochs=1), parts, one_device, quiet)
    assert_same_end(whole, parts, 6)


def test_sigterm_saves_and_the_same_call_continues_to_the_same_end(finished, one_device, tmp_path):
    workdir, data, _ = finished
    told = []

    def stop_after_first_epoch(line):
        told.append(line)
        if line.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert train(small_config(data), tmp_path, one_device, stop_after_first_epoch) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints.list_steps(tmp_path / "checkpoints") == [3]
    assert any("Stopped at step 3 of 6" in line for line in told)
    assert train(small_config(data), tmp_path, one_device, quiet) is None
    assert checkpoints.list_steps(tmp_path / "checkpoints") == [3, 6]
    assert_same_end(workdir, tmp_path, 6)


@pytest.mark.slow
def test_a_closed_terminal_saves_as_any_other_stop(finished, one_device, tmp_path):
    """SIGHUP, as when ssh is closed. Unless it is ignored, as under nohup: then the run goes on."""
    _, data, _ = finished

    def hang_up_after_first_epoch(line):
        if line.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGHUP)

    assert train(small_config(data), tmp_path / "a", one_device, hang_up_after_first_epoch) == signal.SIGHUP
    assert checkpoints.list_steps(tmp_path / "a" / "checkpoints") == [3]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(small_config(data), tmp_path / "b", one_device, hang_up_after_first_epoch) is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_further_hang_ups_change_nothing(finished, one_device, tmp_path):
    """The shell and the kernel send one each."""

    def hang_up_twice(line):
        if line.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)

    assert train(small_config(finished[1]), tmp_path, one_device, hang_up_twice) == signal.SIGHUP
    assert checkpoints.list_steps(tmp_path / "checkpoints") == [3]


@pytest.mark.slow
def test_a_report_that_nobody_can_see_stops_nothing(finished, one_device, tmp_path):
    def no_terminal(line):
        raise OSError(errno.EIO, "Input/output error")

    assert train(small_config(finished[1]), tmp_path, one_device, no_terminal) is None
    assert checkpoints.list_steps(tmp_path / "checkpoints") == [6]


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_saves_as_any_other_stop(finished, tmp_path):
    """`p2p-train | tee log` over ssh: tee goes with the connection, and a pipe sends no SIGHUP."""
    _, data, _ = finished
    flags = [f"--data_dir={data}", f"--workdir={tmp_path}", "--direction=AtoB", "--image_size=32", "--base_filters=4"]
    flags += ["--batch_size=4", "--epochs=100000", "--precision=float32", "--samples_every_epochs=100000"]
    running = start_command("train", *flags)
    while not running.stdout.readline().startswith("epoch 1/"):
        assert running.poll() is None
    running.stdout.close()
    with running.stderr:
        assert running.stderr.read() == ""
    assert running.wait(DEADLINE_SECS) == 128 + signal.SIGPIPE
    assert checkpoints.list_steps(tmp_path / "checkpoints")[-1] >= 3


@pytest.mark.slow
def test_a_terminal_that_has_gone_costs_no_step(finished, tmp_path):
    """Whoever is left without a terminal cannot print: that must not come before the save."""
    _, data, _ = finished
    code = (
        "import os, pty, sys, time; pid, terminal = pty.fork()\n"
        "if pid == 0: os.execv(sys.executable, [sys.executable, '-m', 'p2p_keras.cli.train', *sys.argv[1:]])\n"
        "seen = b''\n"
        "while b'epoch 1/' not in seen: seen += os.read(terminal, 1000)\n"
        "os.close(terminal)\n"  # the kernel sends SIGHUP, and every write is an error from now on
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    flags = [f"--data_dir={data}", f"--workdir={tmp_path}", "--direction=AtoB", "--image_size=32", "--base_filters=4"]
    flags += ["--batch_size=4", "--epochs=100000", "--precision=float32", "--samples_every_epochs=100000"]
    done = subprocess.run([sys.executable, "-c", code, *flags], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == str(128 + signal.SIGHUP)
    assert checkpoints.list_steps(tmp_path / "checkpoints")[-1] >= 3


def test_a_finished_run_says_so_and_changes_nothing(finished, finished_copy, one_device):
    before, told = tree(finished_copy), []
    assert train(small_config(finished[1]), finished_copy, one_device, told.append) is None
    assert "finished: 6 of 6" in told[0]
    assert tree(finished_copy) == before


def test_a_run_killed_within_its_last_save_finishes_the_save(finished, finished_copy, one_device):
    """Between the best checkpoint and the newest, with the best before it still there."""
    steps = finished_copy / "checkpoints"
    best = checkpoints.best_of(steps)
    best.mkdir()
    checkpoints.path_of(steps, 6).rename(checkpoints.path_of(best, 6))
    shutil.copytree(checkpoints.path_of(best, 6), checkpoints.path_of(best, 3))
    assert train(small_config(finished[1]), finished_copy, one_device, quiet) is None
    assert (checkpoints.list_steps(steps), checkpoints.list_steps(best)) == ([6], [6])
    assert_same_end(finished[0], finished_copy, 6)


def test_changed_settings_and_changed_data_are_refused(finished, finished_copy, one_device, tmp_path):
    data = shutil.copytree(finished[1], tmp_path / "pairs")
    with pytest.raises(UserError, match=r"--batch_size was 4, is 2.*--lambda_l1 was 100.0, is 10"):
        train(small_config(data, batch_size=2, lambda_l1=10), finished_copy, one_device)
    with pytest.raises(UserError, match="--direction was AtoB, is BtoA"):
        train(small_config(data, direction="BtoA"), finished_copy, one_device)
    write_pairs(data / "train", 13)
    with pytest.raises(UserError, match="Changed: the training files"):
        train(small_config(data), finished_copy, one_device)


def test_auto_precision_continues_with_the_runs_own(finished, finished_copy, one_device):
    told = []
    train(small_config(finished[1], precision="auto"), finished_copy, one_device, told.append)
    assert "finished: 6 of 6" in told[0]
    assert read_config(finished_copy / "config.json")[0].precision == "float32"


def test_batch_must_fit_the_data_and_the_replicas(pairs_dir, one_device, two_devices, tmp_path):
    with pytest.raises(UserError, match=r"A batch has 13 pairs, and there are 12 to train on\. Give --batch_size=12"):
        train(small_config(pairs_dir, batch_size=13), tmp_path, one_device)
    write_pairs(tmp_path / "odd" / "train", 5)
    for batch_size, way_out in ((6, r"Give --batch_size=4\."), (5, r"CUDA_VISIBLE_DEVICES, or take 4\.")):
        with pytest.raises(UserError, match=way_out):
            train(small_config(tmp_path / "odd", batch_size=batch_size), tmp_path / "run", two_devices)
    write_pairs(tmp_path / "one" / "train", 1)
    for batch_size in (1, 2):  # no number is offered, for none would do
        with pytest.raises(UserError, match=r"\(1\) than devices \(2\)\. Show fewer devices with \w+, or add pairs\.$"):
            train(small_config(tmp_path / "one", batch_size=batch_size), tmp_path / "run", two_devices)
    with pytest.raises(UserError, match=r"2 devices. Received: 5. Show fewer devices with \w+, or take 4 or 6\."):
        train(small_config(pairs_dir, batch_size=5), tmp_path, two_devices)
    with pytest.raises(UserError, match=r"that a device gets, 6, .* Received: 4. Take one of 1, 2, 3, 6, or .* of 8\."):
        train(small_config(pairs_dir, batch_size=12, accumulate=4), tmp_path, two_devices)


def test_a_run_that_goes_on_is_offered_no_other_batch(one_device, two_devices, tmp_path):
    data, workdir = tmp_path / "data", tmp_path / "run"
    write_pairs(data / "train", 5)
    config = {"batch_size": 5, "epochs": None}
    train(small_config(data, **config, steps=1), workdir, one_device, quiet)
    with pytest.raises(UserError, match=r"Received: 5\. Show fewer devices with CUDA_VISIBLE_DEVICES\.$"):
        train(small_config(data, **config, steps=2), workdir, two_devices, quiet)
    next((data / "train").iterdir()).unlink()
    with pytest.raises(UserError, match=r"the training files in .* Put them back"):
        train(small_config(data, **config, steps=2), workdir, one_device, quiet)


def test_xla_is_for_one_device(pairs_dir, two_devices, tmp_path):
    with pytest.raises(UserError, match=r"--jit_compile is for one device\. There are 2"):
        train(small_config(pairs_dir, jit_compile=True), tmp_path, two_devices, quiet)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # NumPy's, of the weight
def test_losses_that_are_not_finite_stop_the_run_and_save_nothing(pairs_dir, one_device, tmp_path):
    with pytest.raises(UserError, match=r"At step 1: generator_loss inf"):
        train(small_config(pairs_dir, lambda_l1=1e39), tmp_path, one_device, quiet)  # beyond float32
    assert checkpoints.list_steps(tmp_path / "checkpoints") == []


@pytest.mark.slow
def test_a_file_that_goes_bad_while_training_is_named(pairs_dir, one_device, tmp_path):
    def spoil(line):
        if line.startswith("epoch 1/"):
            (pairs_dir / "train" / "005.png").write_text("spoilt")

    with pytest.raises(UserError, match=r"005\.png: it is not an image"):
        train(small_config(pairs_dir, epochs=1000, checkpoint_every_steps=10**6), tmp_path, one_device, spoil)


@pytest.mark.slow
def test_files_that_are_left_out_do_not_count_as_pairs(pairs_dir, one_device, tmp_path):
    (pairs_dir / "train" / "notes.txt").write_text("text")
    told = []
    train(small_config(pairs_dir, epochs=None, steps=1), tmp_path, one_device, told.append)
    assert told[0].startswith("Left out 1 file, for example train/notes.txt")
    assert told[1].startswith("CPU: ")
    assert told[2].startswith("AtoB: 12 training pairs")


@pytest.mark.slow
def test_interrupted_while_it_accumulates_a_run_ends_bit_equal(pairs_dir, one_device, tmp_path):
    told, config = [], small_config(pairs_dir, accumulate=2, samples_every_epochs=1)
    train(config, tmp_path / "whole", one_device, told.append)
    assert any("batch 4 in 2 parts in float32" in line for line in told)
    for steps in (2, 6):
        train(dataclasses.replace(config, epochs=None, steps=steps), tmp_path / "parts", one_device, quiet)
    assert_same_end(tmp_path / "whole", tmp_path / "parts", 6)
    with pytest.raises(UserError, match="--accumulate was 2, is 1"):
        train(small_config(pairs_dir), tmp_path / "whole", one_device, quiet)


@pytest.mark.parametrize("step", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_memory_that_runs_out_is_said_in_words_and_costs_no_checkpoint(
    pairs_dir, one_device, tmp_path, monkeypatch, step
):
    """A step function that takes its first steps, then fails as TensorFlow does."""
    original = run_module.make_train_steps

    def make_train_steps(*arguments):
        train_steps, calls = original(*arguments), []

        def fail_later(iterator, count):
            calls.append(count)
            if len(calls) > step:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return train_steps(iterator, count)

        return fail_later

    monkeypatch.setattr(run_module, "make_train_steps", make_train_steps)
    monkeypatch.setattr(run_module, "SECS_PER_CALL", 0.0)  # one step a call
    with pytest.raises(UserError, match=r"--accumulate=2, --precision=bfloat16, a lower --batch_size") as caught:
        train(small_config(pairs_dir, checkpoint_every_steps=2), tmp_path, one_device, quiet)
    saved = checkpoints.list_steps(tmp_path / "checkpoints")
    assert saved == ([2] if step else [])
    assert ("The checkpoint of step 2 is kept" in str(caught.value)) == bool(step)


@pytest.mark.slow
def test_a_first_grid_comes_before_the_first_epoch_is_through(finished, one_device, tmp_path, monkeypatch):
    """As on a slow machine. It changes nothing else, and comes once in a run."""
    config, whole, parts = small_config(finished[1], samples_every_epochs=1), tmp_path / "whole", tmp_path / "parts"
    train(config, whole, one_device, quiet)
    monkeypatch.setattr(recorder, "FIRST_SAMPLES_AFTER_SECS", 0.0)
    for steps in (2, 6):  # the end of a run draws a grid anyway
        train(dataclasses.replace(config, epochs=None, steps=steps), parts, one_device, quiet)
    first = parts / "samples" / "step_00000001.png"
    assert [path.name for path in first.parent.glob("step_*")] == [first.name]
    first.unlink()
    assert_same_end(whole, parts, 6)


@pytest.mark.slow
def test_unknown_pairs_for_the_samples_bind_nothing(pairs_dir, one_device, tmp_path):
    with pytest.raises(UserError, match=r"There is none named 7, x\.png"):
        train(small_config(pairs_dir, samples=("000", "7", "x.png")), tmp_path, one_device, quiet)
    assert not (tmp_path / "config.json").exists()
    train(small_config(pairs_dir, samples=("002",)), tmp_path, one_device, quiet)
    with Image.open(tmp_path / "samples" / "epoch_0002.png") as image:
        np.testing.assert_array_equal(cell(np.asarray(image), 0, 0), draw_pair(102)[0])
    train(small_config(pairs_dir, samples=("000", "001"), epochs=3), tmp_path, one_device, quiet)  # free on resume
    with Image.open(tmp_path / "samples" / "epoch_0003.png") as image:
        assert image.height == 20 + 2 * 130
    assert read_config(tmp_path / "config.json")[0].samples == ("000", "001")


@pytest.mark.slow
def test_bad_files_are_listed_and_left_out(pairs_dir, one_device, tmp_path):
    (pairs_dir / "train" / "001.png").write_text("text")
    with pytest.raises(UserError, match="--max_bad_files=1"):
        train(small_config(pairs_dir), tmp_path, one_device)
    told = []
    train(small_config(pairs_dir, max_bad_files=1, epochs=None, steps=1), tmp_path, one_device, told.append)
    assert "Left out train/001.png: it is not an image" in told
    assert any(line.startswith("AtoB: 11 training pairs") for line in told)


@pytest.mark.slow
def test_a_start_that_failed_binds_nothing(pairs_dir, one_device, tmp_path):
    """Until there is a checkpoint, other settings may be tried in the same folder."""
    (tmp_path / "config.json").write_text(to_json(small_config(pairs_dir, batch_size=2, seed=9)))
    train(small_config(pairs_dir, epochs=None, steps=1), tmp_path, one_device, quiet)
    assert read_config(tmp_path / "config.json")[0].batch_size == 4


def test_a_second_run_in_the_same_folder_is_refused(pairs_dir, one_device, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match="Another one is at work"):
        train(small_config(pairs_dir), tmp_path, one_device)


def test_config_json_is_complete_enough_to_be_read_without_flags(finished):
    record = json.loads((finished[0] / "config.json").read_text())
    assert record["config"]["image_size"] == 32
    assert record["config"]["precision"] == "float32"
    assert Path(record["config"]["data_dir"]).is_absolute()
    assert record["versions"]["tensorflow"] == tf.__version__


@pytest.fixture(scope="module")
def with_snapshots(finished, one_device, tmp_path_factory) -> tuple[Path, list[str]]:
    """The run of `finished`, with a snapshot and a checkpoint after each epoch."""
    workdir, told = tmp_path_factory.mktemp("run"), []
    config = small_config(finished[1], snapshot_every_epochs=1, checkpoint_every_steps=3)
    train(config, workdir, one_device, told.append)
    return share(workdir), told


def test_snapshots_are_the_generator_after_each_epoch_and_change_nothing(finished, with_snapshots):
    workdir, told = with_snapshots
    assert told[-2] == f"Snapshots:  2 in {workdir / 'snapshots'}"
    assert checkpoints.list_steps(workdir / "snapshots") == [3, 6]
    assert_same_end(finished[0], workdir, 6)
    generator, checksums = build_generator(small_config(finished[1])), []
    for step in (3, 6):
        for folder in ("snapshots", "checkpoints"):
            checkpoints.restore_generator(generator, checkpoints.path_of(workdir / folder, step))
            checksums.append(weights_checksum(generator))
    assert checksums[0] == checksums[1] != checksums[2] == checksums[3]


def test_a_run_that_goes_on_from_further_back_will_make_its_later_snapshots_again(
    finished, with_snapshots, one_device, tmp_path, monkeypatch
):
    run, told = shutil.copytree(with_snapshots[0], tmp_path / "run"), []
    shutil.rmtree(checkpoints.path_of(run / "checkpoints", 6))
    monkeypatch.setattr(run_module, "_train", lambda *_: None)
    train(small_config(finished[1], snapshot_every_epochs=1), run, one_device, told.append)
    assert "Removed 1 snapshot(s) of steps after 3: they are made again" in told
    assert checkpoints.list_steps(run / "snapshots") == [3]
    assert not list(run.glob("before_*"))


def test_a_run_begun_anew_mixes_with_nothing_of_the_one_before(
    finished, with_snapshots, one_device, tmp_path, monkeypatch
):
    """Its longer samples, history and snapshots would otherwise stand among those of the new one."""
    run, told = shutil.copytree(with_snapshots[0], tmp_path / "run"), []
    shutil.rmtree(run / "checkpoints")
    monkeypatch.setattr(run_module, "_train", lambda *_: None)
    train(small_config(finished[1], epochs=1, seed=7), run, one_device, told.append)
    (aside,) = run.glob("before_*")
    assert f"What an earlier attempt left in {run} is now in {aside}" in told
    assert [path.name for path in run.rglob("*.png") if aside not in path.parents] == []
    assert (checkpoints.list_steps(run / "snapshots"), read_history(run)) == ([], [])
    before = tree(aside)
    assert {path: content for path, content in tree(with_snapshots[0]).items() if path in before} == before
    assert {"config.json", "history.jsonl", "samples/epoch_0002.png", "curves.png"} <= before.keys()
    assert read_config(aside / "config.json")[0].seed == 0
    assert open_model(aside, "6", quiet).contract.image_size == (32, 32)  # its snapshots can still be taken


def test_the_data_is_let_go_where_nobody_waits(tmp_path, monkeypatch, one_device):
    make, threads = run_module._batches, []

    def batches(run):
        made = make(run)
        weakref.finalize(made, lambda: threads.append(threading.current_thread()))
        return made

    monkeypatch.setattr(run_module, "_batches", batches)
    write_pairs(tmp_path / "data" / "train", 4)
    train(small_config(tmp_path / "data", epochs=1), tmp_path / "run", one_device, quiet)
    until = time.monotonic() + DEADLINE_SECS
    while not threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threads
    assert threading.main_thread() not in threads  # TensorFlow may wait for a minute in it
