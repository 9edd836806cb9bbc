"""The command that repeats a run makes the run's own settings again."""

import copy
import shlex
from pathlib import Path

import pytest
from conftest import small_config

from p2p_keras.cli import train as train_command_line
from p2p_keras.config import TrainConfig
from p2p_keras.presets import make_config
from p2p_keras.report.repeat import changed_settings, train_command


def _settings_of(command: list[str]) -> TrainConfig:
    """As p2p-train makes them of its flags."""
    program, *words = shlex.split(" ".join(command))
    assert program == "p2p-train"
    values = copy.deepcopy(train_command_line.FLAGS)
    assert values([program, *words]) == [program]  # nothing but flags
    given = {name: values[name].value for name in values if name not in ("preset", "estimate_memory", "workdir")}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return make_config(**{name: value for name, value in given.items() if name in TrainConfig.__dataclass_fields__})


CONFIGS = {
    "demo": make_config(),
    "demo of other length": make_config(steps=100),
    "best": make_config(data_dir="data", direction="AtoB"),
    "paper": make_config("paper", data_dir="data", direction="AtoB"),
    "experiment": make_config("experiment1", data_dir="data"),
    "resolved": small_config(
        Path("data"), panels=("photo", "labels"), input_channels=(3,), output_channels=3, input_bits=(8,), output_bits=8
    ),
    "of all kinds": TrainConfig(
        data_dir="my data/it's",
        panels=("street", "aerial", "street_seg"),
        input_panels=("aerial", "street_seg"),
        target_panel="street",
        labels=(0, 20),
        image_size="256x512",
        mirror=False,
        jit_compile=True,
        epochs=None,
        steps=7,
        samples=("a b", "$(rm x)"),
        eval_every_epochs=1,
        best_metric="ssim",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_makes_the_same_settings(name):
    assert _settings_of(train_command(CONFIGS[name], "runs/again")) == CONFIGS[name]


def test_it_names_what_departs_from_the_defaults_and_no_more():
    config = make_config(data_dir="data", direction="AtoB")
    assert train_command(config, "runs/again") == [
        "p2p-train",
        "--workdir=runs/again",
        "--data_dir=data",
        "--direction=AtoB",
        "--batch_size=8",
    ]
    assert changed_settings(config) == {"direction": "AtoB"}
