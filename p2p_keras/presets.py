"""From what a user gives to the settings of a run: the best ones, those for pairs of different views, the paper's, the
demo's, the report's experiments. No TensorFlow.
"""

import dataclasses
from typing import Any

from p2p_keras.config import TrainConfig
from p2p_keras.declare import check_value
from p2p_keras.errors import UserError

# What the paper has, where the others depart from it.
PAPER = {
    "upsampling": "transposed",
    "ema_decay": 0.0,
    "jitter": True,
    "dropout": True,
    "diffaugment": False,
    "batch_size": 1,
    "learning_rate": 2e-4,
}

# What made better pictures in as many images, of facades and of the drawn town, and in less than half the time: so it
# is the default. docs/results.md has the figures, also of the next.
BEST = {
    **PAPER,
    "upsampling": "resize",
    "ema_decay": 0.999,
    "jitter": False,
    "dropout": False,
    "diffaugment": True,
    "batch_size": 8,
    "learning_rate": 6e-4,
}

# For inputs and targets that are different views of one scene, as from the air and from the street. Of such a scene the
# same crop leaves out other things in each, and all that is drawn has to pass the innermost layers, where the paper has
# its dropout; a discriminator that judges larger patches is sure of them too soon.
CROSSVIEW = {
    "upsampling": "resize",
    "ema_decay": 0.999,
    "jitter": False,
    "dropout": False,
    "diffaugment": False,
    "discriminator": "patch16",
}  # The batch size and the learning rate stay the default's, the demo's, or those of a run that goes on.

# The demo is small on purpose: a few minutes on two CPU cores show everything that a run does. Its 9000 steps call
# for a higher learning rate than the paper's hundred thousands, falling to 0 in the second half.
DEMO = {
    **CROSSVIEW,
    "image_size": 64,
    "epochs": 120,
    "samples_every_epochs": 10,
    "batch_size": 8,
    "base_filters": 32,
    "learning_rate": 4e-4,
}

# Section 3.5 of the report. It gives no length for experiments 3 and 4; they take the 200 epochs that it aimed for. Its
# three GPUs cannot share out experiment 1's batch evenly: on three devices it is 129.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "best": BEST,
    "crossview": CROSSVIEW,
    "experiment1": {**PAPER, "direction": "s2a", "batch_size": 128, "learning_rate": 2e-3, "epochs": 174},
    "experiment2": {**PAPER, "direction": "a2s", "batch_size": 48, "learning_rate": 2e-3, "epochs": 200},
    "experiment3": {**PAPER, "direction": "s2a", "batch_size": 24, "learning_rate": 2e-3, "epochs": 200},
    "experiment4": {**PAPER, "direction": "s2a", "batch_size": 1, "learning_rate": 2e-3, "epochs": 200},
}

_MOST_DEVICES = 16  # of one machine


def make_config(
    preset: str | None = None, saved: TrainConfig | None = None, devices: int = 1, **flags: Any
) -> TrainConfig:
    """Builds a config: `BEST`, or `DEMO` without data; then the preset's, the settings given (None: not given).

    Args:
        preset: One of `PRESETS`.
        saved: The config of a run that is to continue: what is not given is as it was, instead of the defaults.
        devices: How many share a batch. A batch size that is neither given nor the saved run's is raised to a multiple.
            A saved run keeps a preset's as it was raised for another number of devices.
        **flags: Fields of `TrainConfig`.

    Raises:
        UserError: A value breaks its rule, both `epochs` and `steps` are given, or the saved run names a network that
            is not given.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    # As in --inception=
    given |= {name: None for name in ("data_dir", "inception", "init_from") if given.get(name) == ""}
    if "epochs" in given and "steps" in given:
        raise UserError("Give --epochs or --steps, not both. The length of a run is one of them.")
    if given.get("input_panels") and "direction" in given:
        raise UserError("Give --direction, or --input_panels and --target_panel, not both.")
    defaults = BEST if given.get("data_dir") else DEMO
    base = dict(dataclasses.asdict(saved) if saved else defaults)
    chosen = {} if preset is None else PRESETS[check_value("preset", preset, choices=tuple(PRESETS))]
    base.update(chosen, **({"steps": None} if "epochs" in chosen else {}))
    if "steps" in given:
        base["epochs"] = None
    if "epochs" in given:
        base["steps"] = None
    settings = {**base, **given}
    if preset in (None, "best") and settings.get("data_dir") and "jitter" not in given:
        settings["jitter"] |= settings.get("load_size") is not None or settings.get("crops") == "native"  # its crops'
    if saved and saved.inception not in (None, "default") and "inception" not in given:
        raise UserError(
            "A network for evaluations is a program, and the run may be a stranger's, so it is not taken from its "
            f"config.json. If you trust it, give --inception={saved.inception} again; --inception= goes on without."
        )
    if not (saved or "epochs" in chosen or given.get("data_dir")) and settings["epochs"]:
        settings.setdefault("decay_epochs", settings["epochs"] // 2)  # the demo's
    if "batch_size" not in given and (preset or not saved):
        size = settings.get("batch_size", TrainConfig.batch_size)
        raised = {count: -(-size // count) * count for count in (devices, *range(1, _MOST_DEVICES + 1))}
        kept = saved and saved.batch_size in raised.values()
        settings["batch_size"] = saved.batch_size if kept else raised[devices]
    return TrainConfig(**settings)
