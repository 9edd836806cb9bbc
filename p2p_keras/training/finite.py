"""Stops a run that has diverged: at the step, and with the last good checkpoint named."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.training.networks import Networks
from p2p_keras.training.saver import Saver
from p2p_keras.training.step import LOSS_NAMES
from p2p_keras.workdir import checkpoints


def check_losses(losses: np.ndarray, done_steps: int, directory: Path, saver: Saver) -> None:
    """Stops a run whose losses, (steps, 4), are not finite. Raises UserError: names the first such step."""
    finite = np.isfinite(losses).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        values = ", ".join(f"{name} {value:g}" for name, value in zip(LOSS_NAMES, losses[bad], strict=True))
        raise _diverged(f"when a loss is not finite. At step {done_steps + bad + 1}: {values}", directory, saver)


def check_weights(networks: Networks, step: int, directory: Path, saver: Saver) -> None:
    """Stops a run with a weight that is not finite. Raises UserError: names it.

    An update can leave it so though its losses were finite; then nothing is to be drawn or scored by it.
    """
    for kind, network in (("generator", networks.generator), ("discriminator", networks.discriminator)):
        for variable in network.weights:
            if not np.all(tf.math.is_finite(variable.value)):
                raise _diverged(
                    f"when a weight is not finite. Such is after step {step} {variable.path} of the {kind}",
                    directory,
                    saver,
                )


def _diverged(what: str, directory: Path, saver: Saver) -> UserError:
    saver.wait()
    saved = checkpoints.all_steps(directory)
    return UserError(
        f"Training stops {what}. "
        + (f"The checkpoint of step {saved[-1]} is kept. " if saved else "")
        + "Begin another --workdir with a lower --learning_rate or --precision=float32."
    )
