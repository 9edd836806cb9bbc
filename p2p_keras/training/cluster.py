"""A run on several hosts: that all were given the same, and what is said when one has gone."""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from p2p_keras.config import TrainConfig
from p2p_keras.errors import HostLostError, UserError
from p2p_keras.system.hosts import ENDED, Hosts
from p2p_keras.versions import versions
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
    facts |= {"the training files": fingerprint}
    facts |= {f"the version of {package}": version for package, version in versions().items()}
    rows = hosts.agree([_digest(value) for value in facts.values()])
    for host, row in enumerate(rows):
        differ = [name for name, own, chiefs in zip(facts, row, rows[0], strict=True) if own != chiefs]
        if differ:
            raise UserError(
                f"All hosts of a run need the same settings, training files and versions. Host {host} differs from "
                f"host 0 in {', '.join(differ)}. Give the same command everywhere, with the same data and packages."
            )


@contextlib.contextmanager
def lost_hosts_in_words(hosts: Hosts, workdir: Path) -> Iterator[None]:
    """Turns what TensorFlow raises when another host has gone into a line.

    Raises:
        HostLostError: Another host has gone.
    """
    try:
        yield
    except ENDED as error:
        if hosts.count == 1:
            raise
        raise HostLostError(
            f"A run goes on while all of its {hosts.count} hosts do. One of them has gone or refused to go on (see "
            f"what host 0 says), or cannot be reached. The same command on all hosts continues from the newest "
            f"checkpoint in {workdir} of host 0."
        ) from error


def quiet_unless_chief(hosts: Hosts, report: Callable[[str], None]) -> Callable[[str], None]:
    """The same report on the chief; on the others it is silent, after a line that says so."""
    if hosts.is_chief:
        return report
    report(f"Host {hosts.index} of 0 to {hosts.count - 1}: computes its share; host 0 writes and reports")
    return lambda line: None


def _digest(value: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:7], "big")
