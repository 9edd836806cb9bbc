"""What a new run begins with instead of weights drawn from its seed: those of another run, or of an export."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from p2p_keras.config import TrainConfig, input_kinds, target_kind
from p2p_keras.errors import UserError
from p2p_keras.export.weights import read_weights
from p2p_keras.training.networks import Networks
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config, show
from p2p_keras.workdir.generator import restore_each, weights_checksum


class Source(NamedTuple):
    """Where the weights come from."""

    path: Path
    config: TrainConfig
    step: int = 0  # of an export
    values: dict[str, np.ndarray] | None = None  # of an export's generator, by the variables' paths; None of a run


def open_source(path: Path) -> Source:
    """Finds a run, or reads an export.

    Raises:
        UserError: There is neither, or it cannot be read.
    """
    if (path / "config.json").is_file():
        checkpoints.choose(path / "checkpoints", "latest")  # which raises if there is none
        return Source(path, read_config(path / "config.json")[0])
    weights = read_weights(path)
    return Source(path, weights.config, weights.step, weights.values)


def check_form(theirs: TrainConfig, ours: TrainConfig) -> None:
    """Refuses a generator of another form. Image sizes may differ if they can be halved equally often.

    Raises:
        UserError: Names every setting that differs.
    """
    theirs_in, ours_in = input_kinds(theirs), input_kinds(ours)
    differ = {
        "image_size": theirs.image_size.halvings != ours.image_size.halvings,
        "base_filters": theirs.base_filters != ours.base_filters,
        "upsampling": theirs.upsampling != ours.upsampling,
        "input_panels": len(theirs_in) != len(ours_in),
        "labels": theirs.labels != ours.labels,
        "output_labels": theirs.output_labels != ours.output_labels,
    }
    if not differ["input_panels"] and not differ["labels"]:
        differ["input_channels"] = [kind.channels for kind in theirs_in] != [kind.channels for kind in ours_in]
    if not differ["output_labels"]:
        differ["output_channels"] = target_kind(theirs).channels != target_kind(ours).channels
    names = [name for name, differs in differ.items() if differs]
    if names:
        both = [(name, *(show(config, name) or "none" for config in (theirs, ours))) for name in names]
        said = ", ".join(f"--{name} is {there} there, {here} here" for name, there, here in both)
        raise UserError(
            f"--init_from takes the weights of a generator of the same form. {said}. Give the same as there, or leave "
            "--init_from out."
        )


def load_initial(source: Source, config: TrainConfig, networks: Networks, report: Callable[[str], None]) -> dict:
    """Gives the networks the source's weights: the generator, and the discriminator if there is one of the same form.

    Of a run it takes the best checkpoint, or the newest that is whole. Optimizers and the count of steps begin anew.

    Args:
        source: From `open_source`; of the same form, see `check_form`.
        config: The run's settings.
        networks: The run's.
        report: Called with one line for each damaged checkpoint that was skipped, and one that says what was taken.

    Returns:
        What `config.json` says of it: `path`, `step`, `checkpoint` (`best` or `latest`; None of an export), `weights`
        (`weights_checksum` of the generator) and `discriminator`, whether it was taken too.

    Raises:
        UserError: No checkpoint is whole, or the weights do not fit.
    """
    directory = source.path / "checkpoints"
    if source.values is not None:
        _assign(networks.generator, source.values, source.path)
        step, which, why = source.step, None, "an export has none"
    else:
        step, which = _restore_generator(networks.generator, directory, report)
        why = _other_discriminator(source.config, config)
        if not why and not checkpoints.restore_discriminator(networks.discriminator, directory, step):
            why = "that run has none of this step"
    if networks.average:
        networks.average.set_weights(networks.generator.get_weights())
    place = f"{source.path}, step {step}" + (", its best checkpoint" if which == "best" else "")
    report(f"Begins with the weights of {place}" + (f"; the discriminator begins anew, for {why}" if why else ""))
    return {
        "path": str(source.path),
        "step": step,
        "checkpoint": which,
        "weights": weights_checksum(networks.generator),
        "discriminator": not why,
    }


def _restore_generator(generator: keras.Model, directory: Path, report: Callable[[str], None]) -> tuple[int, str]:
    """Restores the best checkpoint, or the newest whole one. Returns its step and `best` or `latest`."""
    if checkpoints.list_steps(checkpoints.best_of(directory)):
        try:
            return next(restore_each(generator, directory, "best", report)), "best"
        except UserError:  # it is damaged, which was reported
            pass
    return next(restore_each(generator, directory, "latest", report)), "latest"


def _other_discriminator(theirs: TrainConfig, ours: TrainConfig) -> str:
    """Why the source's discriminator does not fit; empty if it does. `check_form` has compared all but its kind."""
    if theirs.discriminator == ours.discriminator:
        return ""
    return f"--discriminator is {theirs.discriminator} there, {ours.discriminator} here"


def _assign(generator: keras.Model, values: dict[str, np.ndarray], path: Path) -> None:
    """Sets the generator's weights. Moving averages that an export leaves out stay as they begin."""
    for variable in generator.weights:
        value = values.get(variable.path)
        if value is None and variable.name.startswith("moving_"):
            continue
        if value is None or value.shape != tuple(variable.shape):
            found = "missing" if value is None else f"of shape {value.shape} instead of {tuple(variable.shape)}"
            raise UserError(
                f"--init_from takes an export of p2p_keras. In {path} {variable.path} is {found}, so it was written by "
                "another version. Take the run itself."
            )
        variable.assign(value)
