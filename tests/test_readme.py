"""What the README says must exist."""

import re
from pathlib import Path

from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import export as export_command
from p2p_keras.cli import prepare as prepare_command
from p2p_keras.cli import train as train_command
from p2p_keras.cli import translate as translate_command
from p2p_keras.presets import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_flag_in_the_readme_exists():
    others = {
        "logdir",
        "enable_batching",
        "batching_parameters_file",
        "model_config_file",
    }  # TensorBoard's, TF Serving's
    named = set(re.findall(r"(?<![\w-])--([a-z_0-9]+)", README)) - {"help"} - others
    assert named >= {"data_dir", "direction", "workdir", "preset", "checkpoint"}
    commands = (prepare_command, train_command, eval_command, export_command, translate_command)
    assert named <= {name for command in commands for name in command.FLAGS}


def test_every_preset_and_command_in_the_readme_exists():
    assert set(re.findall(r"experiment\d", README)) <= set(PRESETS)
    for name in set(re.findall(r"(?<!venv/)bin/([a-z0-9-]+)", README)):
        assert (ROOT / "bin" / name).exists() or f'"{name} = ' in (ROOT / "setup.py").read_text()


def test_it_opens_with_the_two_commands():
    assert README.index("bin/quickstart") < README.index("bin/test") < 700


def test_versions_are_pinned_within_the_ranges_of_setup_py():
    pinned = re.findall(r"^([a-z-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    ranged = re.findall(r'^        "([a-z-]+)>=', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert set(ranged) == set(pinned)
