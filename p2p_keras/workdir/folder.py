"""The run's folder: its lock, and the settings that it was begun with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2p_keras.config import TrainConfig, read_config
from p2p_keras.errors import UserError
from p2p_keras.system import files


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder if need be and keeps a second training run out of it. A killed run leaves no lock behind.

    Raises:
        UserError: The folder cannot be written, or another process trains in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(workdir / ".lock", wait=False))
        except BlockingIOError as error:
            raise UserError(
                f"Only one p2p-train may write a run. Another one is at work in {workdir}. "
                "Wait for it, stop it, or name another --workdir."
            ) from error
        except OSError as error:
            raise UserError(
                f"--workdir must be a folder that can be written. {workdir}: {error.strerror}. Name another one."
            ) from error
        files.remove_leftovers(workdir)
        yield


def saved_run(workdir: Path) -> tuple[TrainConfig, dict[str, Any]] | None:
    """Config and record of the run in a folder; None if it holds no run.

    Raises:
        UserError: There is a run, but no readable `config.json`.
    """
    path = workdir / "config.json"
    if not path.exists() and not any(workdir.glob("checkpoints/step_*")):
        return None
    return read_config(path)
