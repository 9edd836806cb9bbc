"""Checkpoints that do not stall training: written and verified by a thread, from a copy."""

import concurrent.futures
import time
from pathlib import Path
from types import TracebackType

import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.training.cadence import is_due
from p2p_keras.training.networks import Networks, build_networks
from p2p_keras.workdir import checkpoints


class Saver:
    """Writes a run's checkpoints and snapshots, one after the other, while the run goes on.

    As a context manager it ends with all written.

    Args:
        config: The run's settings.
        networks: The run's.
        decaying: Final steps over which the learning rate falls: without any, it is one of the optimizers' variables.
        directory: The run's `checkpoints/`.
    """

    def __init__(self, config: TrainConfig, networks: Networks, decaying: int, directory: Path) -> None:
        self.step = -1  # of the newest rotating checkpoint, written or under way
        self._config, self._networks, self._directory = config, networks, directory
        self._last = time.monotonic()
        with tf.device("CPU:0"):
            self._copy = build_networks(config, tf.distribute.get_strategy(), decaying, decaying)
        self._release()
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._job: concurrent.futures.Future | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._thread.shutdown()
        except KeyboardInterrupt:  # whoever holds the run's lock must not give it back while the thread writes
            self._thread.shutdown()
            raise
        if error is None:
            self.wait()

    def is_due(self, step: int) -> bool:
        """Whether one is to be written after a step, by the number of the step or by the time since the last."""
        late = time.monotonic() - self._last >= self._config.checkpoint_every_secs
        return late or is_due(step, self._config.checkpoint_every_steps)

    def save(self, step: int, best: bool = False, rotating: bool = True, snapshot: bool = False) -> None:
        """Copies the networks as they are now, and has them written.

        Args:
            step: Steps done.
            best: Write it as the best.
            rotating: Write it as the newest, and remove the oldest.
            snapshot: Write the generator alone, too, to be kept.

        Raises:
            UserError: The one before could not be written.
        """
        self.wait()
        # On a CPU nothing is copied yet: TensorFlow shares the memory until a step changes it, and copies it then.
        for copy, variable in zip(self._copy.variables(), self._networks.variables(), strict=True):
            _set(copy, variable.read_value())
        self._job = self._thread.submit(self._write, step, best, rotating, snapshot)
        if rotating:
            self.step, self._last = step, time.monotonic()

    def check(self) -> None:
        """Raises what went wrong since, if writing has ended."""
        if self._job and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Returns when all is written. Raises as `checkpoints.save`."""
        job, self._job = self._job, None
        if job:
            job.result()

    def _write(self, step: int, best: bool, rotating: bool, snapshot: bool) -> None:
        checkpoint, keep, twin = self._copy.checkpoint, self._config.keep_checkpoints, None
        try:
            if snapshot:  # first: once there is a checkpoint of the step, a killed run does not come by again
                part = tf.train.Checkpoint(generator=self._copy.inference)
                checkpoints.save(part, checkpoints.snapshots_of(self._directory), step, 0, "snapshot")
            if best:
                twin = checkpoints.save_best(checkpoint, self._directory, step)
            if rotating:
                # Two names for the same bytes; but where only one is kept, the best is a copy to fall back on.
                checkpoints.save(checkpoint, self._directory, step, keep, "checkpoint", twin if keep != 1 else None)
        finally:
            self._release()

    def _release(self) -> None:
        """Gives the copy's memory back to TensorFlow, for the steps to come."""
        for variable in self._copy.variables():
            _set(variable, tf.zeros((), variable.dtype))


def _set(variable: tf.Variable, value: tf.Tensor) -> None:
    """Assigns a value of any shape, which `assign` would refuse."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
