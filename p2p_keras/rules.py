"""The rules that concern several settings of a run together. No TensorFlow."""

import keyword
import re
from typing import Any

from p2p_keras.errors import UserError
from p2p_keras.metrics.table import BY_NAME, METRICS

LARGEST_SIDE = 2048  # pixels, of what the networks see
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
# Down-sampling layers of stride 2 in each discriminator; the two convolutions of stride 1 that follow (patch16 and
# larger) shrink the map by one each. models.build_discriminator builds from the same numbers.
DISCRIMINATOR_STRIDED_LAYERS = {"patch70": 3, "patch16": 1, "pixel": 0, "patch286": 5, "compact": 3}


def check_together(config: Any) -> None:
    """Checks the rules that concern several settings of a `TrainConfig`.

    Raises:
        UserError: One is broken; says which, and what to do.
    """
    if (config.epochs is None) == (config.steps is None):
        raise UserError(f"A run needs --epochs or --steps. Received: epochs={config.epochs}, steps={config.steps}")
    for name in ("decay_epochs", "eval_every_epochs", "snapshot_every_epochs"):
        if config.epochs is not None and getattr(config, name) > config.epochs:
            raise UserError(
                f"--{name} must not exceed the --epochs, {config.epochs}. Received: {getattr(config, name)}"
            )
    for name in ("patience", "inception"):
        if getattr(config, name) and not config.eval_every_epochs:
            raise UserError(
                f"--{name} is about evaluations while training, and there are none. Add --eval_every_epochs=1."
            )
    if len(set(config.panels)) != len(config.panels) or len(config.panels) == 1 or "" in config.panels:
        raise UserError(
            "--panels names two or more different panels, left to right, as in --panels=street,aerial. "
            f"Received: {','.join(config.panels)}"
        )
    _check_sizes(config)
    _check_panels(config)
    for i in range(len(config.input_panels) or 1):
        labels, channels, bits = (
            values[i] if values else None for values in (config.labels, config.input_channels, config.input_bits)
        )
        _check_channels("labels", labels or 0, "input_channels", channels)
        if bits not in (None, 8, 16):
            raise UserError(f"--input_bits must be one of 8, 16. Received: {bits}")
    _check_channels("output_labels", config.output_labels, "output_channels", config.output_channels)
    _check_metric(config)


def _check_sizes(config: Any) -> None:
    size, load = config.image_size, config.load_size
    if not config.jitter and (config.crops == "native" or load is not None):
        flag = "--load_size" if load is not None else "--crops=native"
        raise UserError(
            f"{flag} is of what is cropped at random, and with --nojitter, which --preset=crossview and the demo "
            "have, nothing is. A run has one of them, from its first step on: for a new one add --jitter, or "
            f"leave {flag} out; one that has it goes on without --preset."
        )
    if size is None:
        return
    if any(side % 32 or side > LARGEST_SIDE for side in size):
        raise UserError(
            f"--image_size must be multiples of 32, up to {LARGEST_SIDE}: the generator halves them at least five "
            f"times. Received: {size}"
        )
    if min(patch_size(config.discriminator, side) for side in size) < 1:
        raise UserError(
            f"--discriminator={config.discriminator} needs images larger than --image_size={size}: "
            "its last map would have no pixel. Take a larger --image_size, or --discriminator=patch70 or patch16."
        )
    if load is not None and config.crops == "native":
        raise UserError("--crops=native does not resize, so leave --load_size out.")
    if load is not None and not (size.height <= load.height <= 4096 and size.width <= load.width <= 4096):
        raise UserError(f"--load_size must be at least --image_size={size}, and up to 4096. Received: {load}")


def _check_panels(config: Any) -> None:
    names, target = config.input_panels, config.target_panel
    if bool(names) != bool(target):
        raise UserError(
            "--input_panels and --target_panel go together, as --input_panels=aerial,street_seg "
            f"--target_panel=street. Received: {','.join(names)} and {target}"
        )
    if len(set(names)) != len(names) or target in names:
        raise UserError(
            "Each panel is an input, or the target, once. "
            f"Received: --input_panels={','.join(names)} --target_panel={target}"
        )
    for name in names:
        # TensorFlow makes each a parameter of a Python function, and lower case of two to compare them.
        if not _NAME.fullmatch(name) or name in ("seed", "self") or keyword.iskeyword(name):
            raise UserError(
                "The --input_panels become names of an export's inputs: letters, digits and _, a letter first, and "
                f"not seed, nor a word of Python's own, as class or self. Received: {name}. Call it otherwise, in "
                "--panels too."
            )
    if len({name.lower() for name in names}) != len(names):
        raise UserError(
            "The --input_panels become names of an export's inputs, which must differ in more than capitals. "
            f"Received: {','.join(names)}. Call one otherwise, in --panels too."
        )
    for name in ("labels", "input_channels", "input_bits"):
        values, count = getattr(config, name), len(names) or 1
        if values and len(values) != count:
            inputs = f"the {count} --input_panels" if names else "the one input image"
            shown = ",".join(map(str, values))
            raise UserError(f"--{name} has a number for each of {inputs}. Received: {shown}")


def _check_channels(labels: str, classes: int, channels: str, count: int | None) -> None:
    if classes not in (0, *range(2, 257)):
        raise UserError(f"--{labels} is the number of classes, 2 to 256. Received: {classes}")
    if classes and count not in (None, classes):
        raise UserError(
            f"A label map has a channel for each class, so leave --{channels} out with --{labels}. "
            f"Received: {count} and {classes}"
        )
    if not classes and count not in (None, 1, 2, 3, 4):
        raise UserError(
            f"--{channels} are what a JPEG or PNG file holds, 1 to 4. Received: {count}. "
            f"More come from a label map: --{labels}=K."
        )


def _check_metric(config: Any) -> None:
    """Refuses what cannot be computed: of a target that is a label map, or of one that is none, or without network."""
    asked = BY_NAME.get(config.best_metric)
    if config.output_labels and config.inception:
        raise UserError("--inception is a network for images; of --output_labels it can tell nothing. Leave it out.")
    if asked and asked.inception and config.eval_every_epochs and not config.inception and not config.output_labels:
        raise UserError(
            f"--best_metric={asked.name} needs the Inception network. Give --inception=default, or a file, or take "
            "--best_metric=l1."
        )
    if config.output_labels:
        fitting = [metric.name for metric in METRICS if metric.of_label_maps]
    else:
        fitting = [metric.name for metric in METRICS if metric.decides and (metric.of_images or metric.inception)]
    if asked and asked.name not in fitting:
        targets = "label maps" if config.output_labels else "images"
        raise UserError(f"--best_metric of {targets} is one of {', '.join(fitting)}. Received: {asked.name}")


def patch_size(discriminator: str, side: int) -> int:
    """A side of the discriminator's map of logits, by that of the image: 30 for `patch70` at 256."""
    size = side // 2 ** DISCRIMINATOR_STRIDED_LAYERS[discriminator]
    return size - 2 if discriminator.startswith("patch") else size
