"""Checkpoints that are either whole or not there: save, verify, rotate, restore the newest good one.

Each lies in a folder of its own, `step_00000500/`, with TensorFlow's own checkpoint format inside. It is written under
another name, read back, synced and renamed, so a kill or a full disk at any moment leaves the earlier ones as they
were.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.system.files import sync_path, sync_tree

_PREFIX = "checkpoint"  # of the files inside a checkpoint's folder


def path_of(directory: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return Path(directory) / f"step_{step:08d}"


def list_steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return sorted(int(path.name.removeprefix("step_")) for path in Path(directory).glob("step_" + "[0-9]" * 8))


def best_of(directory: Path) -> Path:
    """Folder of the best checkpoint, which the rotation of the newest does not touch."""
    return Path(directory) / "best"


def choose(directory: Path, which: str, report: Callable[[str], None] = print) -> list[tuple[int, Path]]:
    """Finds the checkpoints a command is asked to take, each read through and found whole.

    Args:
        directory: The run's `checkpoints/`.
        which: `latest`, `best`, `all`, or a step.
        report: Told in one line of every damaged one that was passed over.

    Returns:
        Steps, ascending, and the folder each lies in, for `restore_generator`.

    Raises:
        UserError: There is no such checkpoint, or none that is whole.
    """
    places = {step: best_of(directory) for step in list_steps(best_of(directory))}
    best = max(places, default=None)
    places |= {step: Path(directory) for step in list_steps(directory)}
    if not places:
        raise UserError(f"A checkpoint is needed. There is none in {directory}. Train first: p2p-train writes them.")
    steps = sorted(places)
    if which == "best":
        if best is None:
            raise UserError(
                "--checkpoint=best is the one that p2p-train --eval_every_epochs=N keeps. This run was trained without."
                f" Take --checkpoint=latest, or one of the steps {_list(steps)}."
            )
        wanted = [best]
    elif which in ("latest", "all"):
        wanted = steps
    else:
        wanted = [int(which)] if which.isdecimal() else []
        if not set(wanted) & set(steps):
            raise UserError(
                f"--checkpoint is latest, best, all or a step. Received: {which}. This run has {_list(steps)}."
            )
    whole = []
    for step in reversed(wanted):
        problem = find_problem(path_of(places[step], step))
        if problem:
            report(f"Passing over the checkpoint of step {step}: {problem}")
        else:
            whole.insert(0, (step, places[step]))
            if which == "latest":
                break
    if not whole:
        raise UserError(f"A whole checkpoint is needed. What --checkpoint={which} means in {directory} is damaged.")
    return whole


def save(checkpoint: tf.train.Checkpoint, directory: Path, step: int, keep: int) -> Path:
    """Writes a checkpoint, verifies it, and removes the oldest ones beyond `keep` (0 keeps all).

    Raises:
        UserError: It could not be written or read back, or holds a value that is not finite. Nothing was removed.
    """
    final, beside = path_of(directory, step), Path(directory) / f".step_{step:08d}.part"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        checkpoint.write(str(beside / _PREFIX))
        problem = find_problem(beside)
        if problem:
            raise UserError(
                f"The checkpoint of step {step} was not kept: {problem}. {_kept(directory)}"
                "If training has diverged, begin another --workdir with a lower --learning_rate or --precision=float32."
            )
        sync_tree(beside)
        if final.exists():  # a damaged one that a resumed run has overtaken
            shutil.rmtree(final)
        os.rename(beside, final)
        sync_path(Path(directory))
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"The checkpoint of step {step} could not be saved in {directory}: {_first_line(error)}. "
            f"{_kept(directory)}Make room there, then the same command continues."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in list_steps(directory)[:-keep] if keep else []:
        shutil.rmtree(path_of(directory, old))
    return final


def save_best(checkpoint: tf.train.Checkpoint, directory: Path, step: int) -> Path:
    """Writes and verifies the best checkpoint, out of reach of the rotation, then removes the one before it.

    Raises:
        UserError: As `save`; the one before it is still there.
    """
    final = save(checkpoint, best_of(directory), step, keep=0)
    for other in list_steps(best_of(directory)):
        if other != step:
            shutil.rmtree(path_of(best_of(directory), other))
    return final


def find_problem(path: Path) -> str | None:
    """Reads a checkpoint's every value (TensorFlow checks their checksums). Returns what is wrong with it, or None."""
    try:
        reader = tf.train.load_checkpoint(str(path / _PREFIX))
        for name, dtype in reader.get_variable_to_dtype_map().items():
            value = reader.get_tensor(name)
            if dtype.is_floating and not np.all(np.isfinite(value)):
                return f"{name} is not finite"
    except (OSError, ValueError, RuntimeError, IndexError, tf.errors.OpError) as error:  # the reader raises them all
        return f"it is damaged ({_first_line(error)})"
    return None


def restore_newest(
    checkpoint: tf.train.Checkpoint, directory: Path, report: Callable[[str], None] = print
) -> int | None:
    """Restores the newest checkpoint that is whole.

    Args:
        checkpoint: All its objects must be in the file, and the other way round.
        directory: The run's `checkpoints/`.
        report: Told in one line of every damaged one that was passed over.

    Returns:
        Its step, or None if the folder holds no checkpoint at all.

    Raises:
        UserError: There are checkpoints, but all are damaged.
    """
    for leftover in Path(directory).glob(".step_*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    steps = list_steps(directory)
    for step in reversed(steps):
        problem = find_problem(path_of(directory, step))
        if problem is None:
            restore(checkpoint, directory, step)
            return step
        report(f"Passing over the checkpoint of step {step}: {problem}")
    if steps:
        raise UserError(
            f"A run continues from a checkpoint, but all {len(steps)} in {directory} are damaged. "
            "Remove that folder to begin again, or take another --workdir."
        )
    return None


def restore(checkpoint: tf.train.Checkpoint, directory: Path, step: int) -> None:
    """Restores the checkpoint of a step, all of it.

    Raises:
        UserError: It does not fit the objects, so it belongs to networks of another form.
    """
    _read(checkpoint, directory, step, lambda status: status.assert_consumed())


def restore_generator(generator: keras.Model, directory: Path, step: int) -> None:
    """Restores the generator alone from the checkpoint of a step, for everything but training.

    Raises:
        UserError: It does not fit, so it belongs to a generator of another form.
    """
    part = tf.train.Checkpoint(generator=generator)
    _read(part, directory, step, lambda status: status.assert_existing_objects_matched().expect_partial())


def _read(checkpoint: tf.train.Checkpoint, directory: Path, step: int, check: Callable) -> None:
    try:
        check(checkpoint.read(str(path_of(directory, step) / _PREFIX)))
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"{path_of(directory, step)} does not fit these networks: {_first_line(error)}. It was written by another "
            "version of p2p_keras or with other settings. Take another --workdir."
        ) from error


def _list(steps: list[int]) -> str:
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) < 12 else [*shown[:5], "...", *shown[-5:]])


def _kept(directory: Path) -> str:
    steps = list_steps(directory)
    return f"That of step {steps[-1]} is kept. " if steps else ""


def _first_line(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    text = re.sub(r"\{\{.*?\}\} |\[Op:.*?\]", "", text)  # TensorFlow names the graph's node, which helps nobody here
    return text.strip().splitlines()[0]
