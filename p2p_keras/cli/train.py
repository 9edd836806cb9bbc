"""p2p-train: trains pix2pix on pairs of images."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import TrainConfig, task_name
from p2p_keras.declare import setting_type
from p2p_keras.errors import UserError
from p2p_keras.presets import BEST, CROSSVIEW, DEMO, PAPER, PRESETS, make_config
from p2p_keras.sizes import Size
from p2p_keras.workdir.folder import saved_run

DOC = """
    p2p-train trains pix2pix: one network that translates images, another that judges them.

      p2p-train --direction=a2s                                      the demo, a drawn town: aerial -> street
      p2p-train --data_dir=DATA --direction=AtoB                     your own pairs, side by side in one file each
      p2p-train --data_dir=DAYTON --panels=street,aerial --preset=experiment3

    DATA holds train/ and optionally val/ and test/, of JPEG or PNG files with two or more equal panels side by side.
    The same command in the same --workdir continues where the run stopped, however it stopped; so does
    p2p-train --workdir=RUN alone. Ctrl-C, SIGTERM, a closed terminal or pipe save and stop.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string(
    "workdir",
    None,
    "The run's folder: settings, checkpoints, samples, curves. Default: runs/<direction>.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "preset",
    None,
    tuple(PRESETS),
    "best, which is the default of your own pairs: the paper's settings but for --upsampling=resize "
    "--ema_decay=0.999 --diffaugment --nojitter --nodropout --batch_size=8 --learning_rate=6e-4, which made better "
    "pictures in as many images (docs/results.md); crossview, for inputs and targets that are different views, as from "
    "the air and from the street: best, but for --nodiffaugment --discriminator=patch16; paper, the paper's; or one of "
    "the report's experiments: the paper's with their direction, batch size, learning rate 2e-3, epochs. Other flags "
    "override it.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "estimate_memory",
    False,
    "Instead of training: measures the memory of a few batch sizes by some steps of each, and prints what others take "
    "and which is the largest that fits. Some minutes; writes nothing into --workdir.",
    flag_values=FLAGS,
)


def _define_settings() -> None:
    """A flag for each setting, not given by default: what is not given may come from a preset or the saved run."""
    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
        tuple: flags.DEFINE_list,
        Size: flags.DEFINE_string,
    }
    for field in dataclasses.fields(TrainConfig):
        text, kind, choices = _help_of(field), setting_type(TrainConfig, field), field.metadata["choices"]
        if choices and kind is str:
            flags.DEFINE_enum(field.name, None, choices, text, flag_values=FLAGS)
        else:
            define[kind](field.name, None, text, flag_values=FLAGS)


def _help_of(field: dataclasses.Field) -> str:
    """What `--help` says: the setting's own help, its default, and those of the presets and the demo that differ."""

    def show(value: Any) -> str:
        meaning = field.metadata["meaning"] if value == field.default else ""
        return ", ".join(text for text in ("" if value in (None, "", ()) else str(value).lower(), meaning) if text)

    default, others = BEST.get(field.name, field.default), {}
    for name, preset in (("paper", PAPER), ("crossview", BEST | CROSSVIEW), ("demo", DEMO)):
        if (value := preset.get(field.name, field.default)) != default:
            others.setdefault(show(value), []).append(name)
    if field.name == "decay_epochs":  # see make_config
        others["half of its epochs"] = ["demo"]
    texts = [f"Default: {show(default)}", *(f"{', '.join(names)}: {value}" for value, names in others.items())]
    return f"{field.metadata['help']} {'; '.join(texts)}."


_define_settings()


def main(values: flags.FlagValues) -> int:
    """Trains; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    workdir, preset = given.pop("workdir"), given.pop("preset")
    only_estimate = given.pop("estimate_memory")
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = tuple(each.strip() for each in value)
    given["panels"] = given["panels"] or None
    alone = workdir is not None and preset is None and all(value is None for value in given.values())
    if workdir == "":
        raise UserError("--workdir is a folder's name. Received none; --workdir=. is this folder.")
    if workdir is None:
        naming = {name: given[name] for name in ("data_dir", "direction", "panels", "input_panels", "target_panel")}
        workdir = f"runs/{task_name(make_config(preset, **naming))}"  # what a saved run has besides is not known yet
    saved, _ = saved_run(Path(workdir)) or (None, None)
    if alone and not saved and not only_estimate:
        raise UserError(
            f"--workdir alone continues a run, and there is none in {workdir}. A new run needs --data_dir=DATA, or "
            "--direction=a2s for the demo."
        )
    config = make_config(preset, saved, **given)

    if only_estimate:
        with command.quiet_start():
            from p2p_keras.training.estimate import estimate_memory

        estimate_memory(config, Path(workdir))
        return 0

    with command.quiet_start():  # and here, so that --help and a typo don't wait for TensorFlow
        from p2p_keras.system.devices import make_strategy
        from p2p_keras.training.run import train

        strategy = make_strategy()

    devices, default = strategy.num_replicas_in_sync, config.batch_size
    config = make_config(preset, saved, devices, **given)
    if config.batch_size != default:
        print(f"The batch size, {default} by default, is raised to {config.batch_size}: {devices} devices share it.")
    stopped_by = train(config, Path(workdir), strategy)
    return 128 + stopped_by if stopped_by else 0


def entry_point() -> None:
    """`p2p-train`."""
    # TensorFlow's own end may wait for a minute (`dropped_in_background`). In a cluster it also tells the other hosts.
    may_be_in_cluster = {"TF_CONFIG", "SLURM_PROCID"} & os.environ.keys()
    (command.run if may_be_in_cluster else command.run_and_leave)(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
