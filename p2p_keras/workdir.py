"""The run's folder: the lock, `config.json`, `history.jsonl`. Nothing half-written ever stands under a final name."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2p_keras.cadence import is_due
from p2p_keras.config import TrainConfig, read_config
from p2p_keras.errors import UserError


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder if need be and keeps a second training run out of it. A killed run leaves no lock behind.

    Raises:
        UserError: The folder cannot be written, or another process trains in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "w")  # noqa: SIM115  held open, for the lock lives as long as it
    except OSError as error:
        raise UserError(
            f"--workdir must be a folder that can be written. {workdir}: {error.strerror}. Name another one."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"Only one p2p-train may write a run. Another one is at work in {workdir}. "
                "Wait for it, stop it, or name another --workdir."
            ) from error
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


def write_text(path: Path, text: str) -> None:
    """Writes a whole file beside, then renames it.

    Raises:
        UserError: The disk or the permissions don't allow it; what was there before stays.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with open(beside, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written: {error.strerror}. Make room or name another folder.") from error


def keep_history(path: Path, done_steps: int, steps_per_epoch: int) -> None:
    """Drops the records of `history.jsonl` that will be made again: beyond the restored step, or of part of an epoch.

    Args:
        path: The file; need not exist.
        done_steps: Steps that need not be made again.
        steps_per_epoch: Steps in an epoch.
    """
    records = [
        record
        for record in read_history(path)
        if record["step"] <= done_steps and is_due(record["step"], steps_per_epoch)
    ]
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_history(path: Path, record: dict) -> None:
    """Adds one line to `history.jsonl`."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror}. Make room, then run it again.") from error


def read_history(path: Path) -> list[dict]:
    """The records of `history.jsonl`, one an epoch; none if there is no such file. A line cut short is passed over."""
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records


def sync_tree(folder: Path) -> None:
    """Makes the disk keep a folder and all that is in it."""
    for path in [*folder.rglob("*"), folder]:
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """Makes the disk keep a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
