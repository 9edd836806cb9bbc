"""The run's folder: its lock, and `config.json` with the settings that it was begun with."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2p_keras.config import TrainConfig, decay_steps, total_steps
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size
from p2p_keras.system import files

FORMAT = 1
_MINUTE_SECS = 60  # more than any file in the folder itself takes

# What runs were before these settings existed.
_FIRST_FORMAT = {"input_channels": 3, "output_channels": 3, "input_bits": 8, "output_bits": 8}


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
        with contextlib.suppress(OSError):  # another user may have left it
            files.remove_leftovers(workdir, _MINUTE_SECS, beneath=True)  # a p2p-eval may just be writing one
        yield


def saved_run(workdir: Path) -> tuple[TrainConfig, dict[str, Any]] | None:
    """Config and record of the run in a folder; None if it holds no run.

    Raises:
        UserError: There is a run, but no readable `config.json`.
    """
    path = workdir / "config.json"
    begun = any(workdir.glob("checkpoints/step_*")) or any(workdir.glob("checkpoints/best/step_*"))
    if not path.exists() and not begun:
        return None
    return read_config(path)


def to_json(config: TrainConfig, **more: Any) -> str:
    """The text of `config.json`: the settings under the flags' names, and what else the run records about itself."""
    return json.dumps({"format": FORMAT, "config": settings_of(config), **more}, indent=2) + "\n"


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON has them, sizes of a square as one number."""
    settings = dataclasses.asdict(config)
    return {name: value.plain if isinstance(value, Size) else value for name, value in settings.items()}


def read_config(path: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Reads `config.json`: the config and the rest of the record.

    Raises:
        UserError: Not there, not JSON, or not of a form this version knows.
    """
    try:
        record = files.read_json(path)
        config = settings_from(record, _FIRST_FORMAT)
        record.pop("config")
        if record.get("format", FORMAT) != FORMAT:
            raise ValueError(f"its format is {record['format']!r:.20}, this version knows {FORMAT}")
        for name in ("data", "inference", "versions", "init_from", "imported"):
            if not isinstance(record.get(name, {}), dict):
                raise ValueError(f"its {name} is no object")
        return config, record
    except (OSError, ValueError) as error:
        raise UserError(
            f"A run folder holds a config.json written by p2p-train. {path} cannot be read as one: {error}. "
            "Give the --workdir of a run, or a new folder."
        ) from error


def settings_from(record: Any, before: dict[str, Any] | None = None) -> TrainConfig:
    """The settings that stand in a `config.json`, or in what an export says of its run.

    Args:
        record: What was read, whatever it is.
        before: What settings were that are not in it; by default what they are now.

    Raises:
        ValueError: It holds no settings, or one that breaks its rule.
    """
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ValueError("it is no JSON object with a config")
    settings = {**(before or {}), **record["config"]}
    if unknown := settings.keys() - {field.name for field in dataclasses.fields(TrainConfig)}:
        raise ValueError(f"this version knows no setting {min(unknown):.60}")
    try:
        return TrainConfig(**settings)
    except UserError as error:
        raise ValueError(str(error)) from error


def steps_per_epoch(config: TrainConfig, record: dict[str, Any], path: Path) -> int:
    """How many steps an epoch of a run has, by what its `config.json` says of its training pairs.

    Args:
        config: The run's settings.
        record: The rest, as `read_config` gives it.
        path: The file, for the error.

    Raises:
        UserError: It does not say how many there are.
    """
    counts = record.get("data", {}).get("counts")
    count = counts.get("train") if isinstance(counts, dict) else None
    if type(count) is not int or count < config.batch_size:
        raise UserError(
            f"A run's config.json says how many training pairs it has, at least a batch of {config.batch_size}. "
            f"{path} says {count!r:.40}. Put the file back as p2p-train wrote it: the same p2p-train command does."
        )
    return count // config.batch_size


def check_resume(saved: TrainConfig, asked: TrainConfig, done_steps: int, steps_per_epoch: int) -> None:
    """Refuses to continue a run with settings under which its first `done_steps` steps would have gone differently.

    Length may change freely while the learning rate of the steps already done stays the same.

    Raises:
        UserError: Names every setting that differs.
    """
    names = [field.name for field in dataclasses.fields(TrainConfig) if not field.metadata["free"]]
    changed = [name for name in names if getattr(saved, name) != getattr(asked, name)]
    if total_steps(saved, steps_per_epoch) != total_steps(asked, steps_per_epoch):
        decay_starts = (
            total_steps(config, steps_per_epoch) - decay_steps(config, steps_per_epoch) for config in (saved, asked)
        )
        if (saved.decay_epochs or asked.decay_epochs) and done_steps > min(decay_starts):
            changed.append("epochs" if asked.steps is None else "steps")
    if changed:
        differences = ", ".join(f"--{name} was {show(saved, name)}, is {show(asked, name)}" for name in changed)
        raise UserError(
            f"A run continues only with the settings it began with. Changed: {differences}. "
            "Give the old values, or another --workdir for a new run."
        )


def show(config: TrainConfig, name: str) -> str:
    """A setting as its flag takes it."""
    value = getattr(config, name)
    return ",".join(map(str, value)) if type(value) is tuple else str(value)
