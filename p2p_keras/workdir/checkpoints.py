"""Checkpoints that are either whole or not there: save, verify, rotate, find the newest whole one, restore.

Each lies in a folder of its own, `step_00000500/`, with TensorFlow's own checkpoint format inside. It is written under
another name, read back, synced and renamed, so a kill or a full disk at any moment leaves the earlier ones as they
were. The best one lies in `best/`, out of reach of the rotation, and is as good to continue from as any other. A
snapshot is a checkpoint of the generator alone, in `snapshots/` beside: no run continues from it, every other command
takes it, and none is rotated out.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from p2p_keras.errors import UserError
from p2p_keras.system.files import remove_folder, sync_path, sync_tree

_PREFIX = "checkpoint"  # of the files inside a checkpoint's folder


def path_of(directory: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return Path(directory) / f"step_{step:08d}"


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is of."""
    return int(path.name.removeprefix("step_"))


def list_steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return sorted(step_of(path) for path in Path(directory).glob("step_" + "[0-9]" * 8))


def best_of(directory: Path) -> Path:
    """Folder of the best checkpoint, which the rotation of the newest does not touch."""
    return Path(directory) / "best"


def snapshots_of(directory: Path) -> Path:
    """Folder of a run's snapshots, which lies beside its `checkpoints/`."""
    return Path(directory).with_name("snapshots")


def all_steps(directory: Path) -> list[int]:
    """Steps of all checkpoints that a run can continue from, the best one too, ascending."""
    return sorted({*list_steps(directory), *list_steps(best_of(directory))})


def generator_steps(directory: Path) -> list[int]:
    """Steps of which the generator can be had, ascending: those of checkpoints and of snapshots, each once."""
    return sorted({*all_steps(directory), *list_steps(snapshots_of(directory))})


def choose(directory: Path, which: str) -> list[int]:
    """The steps of the checkpoints and snapshots that a command is asked to take, ascending.

    Args:
        directory: The run's `checkpoints/`.
        which: `latest` (all of them, for the newest may be damaged), `best`, `all`, or a step.

    Raises:
        UserError: There is no such checkpoint.
    """
    steps = generator_steps(directory)
    if not steps:
        raise UserError(f"A checkpoint is needed. There is none in {directory}. Train first: p2p-train writes them.")
    if which in ("latest", "all"):
        return steps
    if which == "best":
        best = list_steps(best_of(directory))
        if not best:
            raise UserError(
                "--checkpoint=best is the one that p2p-train --eval_every_epochs=N keeps. This run has none yet."
                f" Take --checkpoint=latest, or one of the steps {_list(steps)}."
            )
        return best[-1:]
    if not (which.isascii() and which.isdecimal()) or int(which) not in steps:
        raise UserError(
            f"--checkpoint is latest, best or a step, of p2p-eval also all. Received: {which}. "
            f"This run has {_list(steps)}."
        )
    return [int(which)]


def places(directory: Path, step: int) -> list[Path]:
    """Where the checkpoint of a step that a run can continue from lies: in one folder, or in both."""
    return [path for path in (path_of(directory, step), path_of(best_of(directory), step)) if path.is_dir()]


def save(
    checkpoint: tf.train.Checkpoint,
    directory: Path,
    step: int,
    keep: int,
    what: str = "checkpoint",
    twin: Path | None = None,
) -> Path:
    """Writes a checkpoint, verifies it, and removes the oldest ones beyond `keep` (0 keeps all).

    Args:
        checkpoint: What is written.
        directory: Folder of the checkpoints.
        step: Steps done.
        keep: Newest ones that stay.
        what: What an error calls it.
        twin: The same, written and verified a moment ago in another folder: its files get a second name here, which
            takes no time and no room. Where the file system knows no such thing, they are written once more.

    Raises:
        UserError: It could not be written or read back, or holds a value that is not finite. Nothing was removed.
    """
    final, beside = path_of(directory, step), Path(directory) / f".step_{step:08d}.part"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        problem = None
        if twin is None or not _link(twin, beside):
            checkpoint.write(str(beside / _PREFIX))
            problem = find_problem(beside)
        if problem:
            diverged = "Begin another --workdir with a lower --learning_rate or --precision=float32."
            way_out = diverged if "not finite" in problem else "Mend the disk, then the same command continues."
            raise UserError(f"The {what} of step {step} was not kept: {problem}. {_kept(directory)}{way_out}")
        sync_tree(beside)
        if final.exists():  # a damaged one that a resumed run has overtaken
            shutil.rmtree(final)
        os.rename(beside, final)
        sync_path(Path(directory))
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"The {what} of step {step} could not be saved in {directory}: {first_line(error)}. "
            f"{_kept(directory)}Make room there, or mend the disk; then the same command continues."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    rotate(directory, step, keep)
    return final


def rotate(directory: Path, step: int, keep: int) -> None:
    """Removes the oldest checkpoints beyond `keep` (0 keeps all), of those before a step whose own is whole."""
    older = [known for known in list_steps(directory) if known < step]  # whatever else is wrong, one good one stays
    for old in older[: max(0, len(older) + 1 - keep)] if keep else []:
        remove_folder(path_of(directory, old))


def save_best(checkpoint: tf.train.Checkpoint, directory: Path, step: int) -> Path:
    """Writes and verifies the best checkpoint, out of reach of the rotation, then removes the one before it.

    Raises:
        UserError: As `save`; the one before it is still there.
    """
    final = save(checkpoint, best_of(directory), step, keep=0)
    for other in list_steps(best_of(directory)):
        if other != step:
            remove_folder(path_of(best_of(directory), other))
    return final


def _link(source: Path, target: Path) -> bool:
    """Gives the files of a folder a second name in another one; whether that could be done."""
    try:
        for file in source.iterdir():
            os.link(file, target / file.name)
    except OSError:
        for file in target.iterdir():
            file.unlink()
        return False
    return True


def find_problem(path: Path) -> str | None:
    """Reads a checkpoint's every value (TensorFlow checks their checksums). Returns what is wrong with it, or None."""
    try:
        reader = tf.train.load_checkpoint(str(path / _PREFIX))
        for name, dtype in reader.get_variable_to_dtype_map().items():
            value = reader.get_tensor(name)
            if dtype.is_floating and not np.all(np.isfinite(value)):
                return f"{name} is not finite"
    except (OSError, ValueError, RuntimeError, IndexError, tf.errors.OpError) as error:  # the reader raises them all
        return f"it is damaged ({first_line(error)})"
    return None


def restore(checkpoint: tf.train.Checkpoint, path: Path) -> None:
    """Restores a checkpoint, all of it.

    Args:
        checkpoint: All its objects must be in the file, and the other way round.
        path: The checkpoint's folder.

    Raises:
        UserError: It does not fit the objects, so it belongs to networks of another form.
    """
    _read(checkpoint, path, lambda status: status.assert_consumed())


def restore_generator(generator: keras.Model, path: Path) -> None:
    """Restores the generator alone, for everything but training: its moving average, if the run keeps one.

    Raises:
        UserError: It does not fit, so it belongs to a generator of another form.
    """
    part = tf.train.Checkpoint(**{"average" if _holds(path, "average") else "generator": generator})
    _read(part, path, lambda status: status.assert_existing_objects_matched().expect_partial())


def restore_discriminator(discriminator: keras.Model, directory: Path, step: int) -> bool:
    """Restores the discriminator alone from a step's checkpoint. Returns whether there is one.

    Imported runs have none, and neither has a step of which there is no more than a snapshot.

    Raises:
        UserError: The checkpoint is damaged or has gone, or its discriminator is of another form.
    """
    for path in (*places(directory, step), path_of(snapshots_of(directory), step)):
        if find_problem(path) is None:
            if not _holds(path, "discriminator"):
                return False
            part = tf.train.Checkpoint(discriminator=discriminator)
            _read(part, path, lambda status: status.assert_existing_objects_matched().expect_partial())
            return True
    raise UserError(f"The checkpoint of step {step} in {directory} has gone or is damaged since. Do the same again.")


def _holds(path: Path, name: str) -> bool:
    """Whether a checkpoint has a part of that name."""
    graph = tf.train.load_checkpoint(str(path / _PREFIX)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    return any(part.local_name == name for part in TrackableObjectGraph.FromString(graph).nodes[0].children)


def _read(checkpoint: tf.train.Checkpoint, path: Path, check: Callable) -> None:
    try:
        check(checkpoint.read(str(path / _PREFIX)))
    except (AssertionError, ValueError) as error:
        problem = first_line(error).split(" Target variable: ")[0].rstrip(".")  # without Keras' print of its numbers
        raise UserError(
            f"{path} does not fit these networks: {problem}. It was written by another "
            "version of p2p_keras or with other settings. Take another --workdir."
        ) from error


def _list(steps: list[int]) -> str:
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) < 12 else [*shown[:5], "...", *shown[-5:]])


def _kept(directory: Path) -> str:
    return "".join(f"That of step {step} is kept. " for step in list_steps(directory)[-1:])


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}; {error.strerror}"  # as TensorFlow says it
    text = re.sub(r"\{\{.*?\}\} |\[Op:.*?\]", "", text)  # TensorFlow names the graph's node, which helps nobody here
    return text.strip().splitlines()[0]
