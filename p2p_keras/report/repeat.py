"""How a run is done again: its command, the packages, the data."""

import dataclasses
import shlex
from typing import Any

from p2p_keras.config import TrainConfig
from p2p_keras.declare import setting_type
from p2p_keras.presets import make_config
from p2p_keras.workdir.folder import settings_of, show


def changed_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that are other ones than those of a p2p-train that is told the data alone."""
    plain = default_settings(config)
    return {name: value for name, value in settings_of(config).items() if value != plain[name]}


def train_command(config: TrainConfig, workdir: str) -> list[str]:
    """The words of the p2p-train that begins a run with the same settings, quoted for a POSIX shell.

    The data are always named, and `--batch_size`: where it is not given, the number of devices may raise it.

    Args:
        config: The run's settings, with what the data decided filled in.
        workdir: Where the new run is to be.
    """
    words, given = ["p2p-train", f"--workdir={workdir}"], {*changed_settings(config), "data_dir", "batch_size"}
    for field in dataclasses.fields(TrainConfig):
        name, value = field.name, getattr(config, field.name)
        if name not in given or value is None:  # as --epochs, where --steps stands instead
            continue
        if setting_type(TrainConfig, field) is bool:
            words.append(f"--{name}" if value else f"--no{name}")
        else:
            words.append(f"--{name}={show(config, name)}")
    return [shlex.quote(word) for word in words]


def default_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of a p2p-train that is told the data alone."""
    return settings_of(make_config(data_dir=config.data_dir))
