"""A run on several hosts: where each writes, and that all were given the same."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from p2p_keras.config import TrainConfig
from p2p_keras.system.hosts import Hosts
from p2p_keras.workdir.folder import locked


@contextlib.contextmanager
def run_folder(hosts: Hosts, workdir: Path) -> Iterator[Path]:
    """The run's folder, locked; on other hosts than the chief an empty one, which is gone afterwards."""
    with contextlib.ExitStack() as stack:
        if hosts.is_chief:
            stack.enter_context(locked(workdir))
            yield workdir
        else:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-train-")))


def check_equal(hosts: Hosts, config: TrainConfig, fingerprint: str) -> None:
    """Compares what decides the result over all hosts: settings, training pairs, package versions.

    Args:
        hosts: All of them call this.
        config: This host's settings, resolved.
        fingerprint: Of its training pairs.

    Raises:
        UserError: They differ; names the host and what is different there. Raised on all of them.
    """
    if hosts.count == 1:
        return
    settings = [field.name for field in dataclasses.fields(config) if not field.metadata["free"]]
    in_step = ["epochs", "steps", "checkpoint_every_steps"]  # which decide when the hosts meet
    facts = {f"--{name}": getattr(config, name) for name in [*settings, *in_step]}
    hosts.check_alike({**facts, "the training files": fingerprint})
