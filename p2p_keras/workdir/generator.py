"""The generator that a run's settings describe, under the run's inference contract, with a checkpoint's weights."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from p2p_keras import models
from p2p_keras.config import TrainConfig, input_kinds, target_kind
from p2p_keras.errors import UserError
from p2p_keras.workdir import checkpoints


def build_generator(
    config: TrainConfig, any_size: bool = False, noise: bool = True, compact_weights: bool = False
) -> keras.Model:
    """Builds the run's generator; `any_size`, `noise` and `compact_weights` as in `models.build_generator`."""
    return models.build_generator(
        config.image_size,
        sum(kind.channels for kind in input_kinds(config)),
        target_kind(config).channels,
        config.base_filters,
        per_image_statistics=config.statistics == "per_image",
        dtype=dtype_policy(config),
        any_size=any_size,
        noise=noise,
        compact_weights=compact_weights,
        upsampling=config.upsampling,
    )


def dtype_policy(config: TrainConfig) -> str:
    """Keras' name of what the run computes in; the weights that are trained stay float32."""
    return "mixed_bfloat16" if config.precision == "bfloat16" else "float32"


def weights_checksum(generator: keras.Model) -> str:
    """sha256 of the generator's weights, hexadecimal: the same in training, and restored from whatever checkpoint."""
    digest = hashlib.sha256()
    for variable in generator.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value)
    return digest.hexdigest()


def restore_each(
    generator: keras.Model, directory: Path, which: str, report: Callable[[str], None] = print
) -> Iterator[int]:
    """Restores the generator from each checkpoint or snapshot that a command is asked to take, one after the other.

    Training may go on meanwhile and rotate out what was there a moment ago.

    Args:
        generator: Its weights are overwritten.
        directory: The run's `checkpoints/`.
        which: `latest` (the newest that is whole), `best`, `all`, or a step.
        report: Called with one line for each checkpoint that was skipped, because it is damaged or has gone.

    Yields:
        The step, while the generator has its weights.

    Raises:
        UserError: There is no such checkpoint, none that is whole, or it is of a generator of another form.
    """
    waiting, tried, restored = checkpoints.choose(directory, which), set(), 0
    while waiting:
        step = waiting[-1] if which == "latest" else waiting[0]
        tried.add(step)
        problem = _restore_step(generator, directory, step)
        if problem:
            report(f"Skipped the checkpoint of step {step}: {problem}")
        else:
            restored += 1
            yield step
            if which == "latest":
                return
        # Of the latest, and of the best, there may be another one by now.
        if which == "latest":
            waiting = checkpoints.generator_steps(directory)
        elif which == "best":
            waiting = checkpoints.choose(directory, which)
        waiting = [step for step in waiting if step not in tried]
    if not restored:
        raise UserError(
            f"A whole checkpoint is needed. What --checkpoint={which} means in {directory} is damaged or has gone. "
            "Take another --checkpoint, or train on: p2p-train writes new ones."
        )


def _restore_step(generator: keras.Model, directory: Path, step: int) -> str | None:
    """Restores the generator. Returns what is wrong with the checkpoint of that step, or None."""
    problem = "it has gone"
    for path in (*checkpoints.places(directory, step), checkpoints.path_of(checkpoints.snapshots_of(directory), step)):
        if not path.is_dir():
            continue
        problem = checkpoints.find_problem(path)
        if problem is None:
            try:
                checkpoints.restore_generator(generator, path)
                return None
            except (OSError, tf.errors.OpError) as error:
                problem = f"it cannot be read ({checkpoints.first_line(error)})"
        if not path.is_dir():
            problem = "it has gone"
    return problem
