"""What a run is: one frozen dataclass, validated, to JSON and back. No TF.

A setting is declared in one place, its line in `TrainConfig`: name, type, default, range, help, and whether it may
change when a run is resumed. The flags of `p2p-train`, their help, the range checks and `config.json` follow from it.
Rules that concern several settings together are in `_check_together`.
"""

import dataclasses
import re

from p2p_keras.declare import check_values, setting
from p2p_keras.errors import UserError
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics.table import BY_NAME, METRICS
from p2p_keras.sizes import Size, to_size

LARGEST_SIDE = 2048  # pixels, of what the networks see
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
DIRECTIONS = ("a2s", "s2a", "AtoB", "BtoA")
# Down-sampling layers of stride 2 in each discriminator; the two convolutions of stride 1 that follow (patch16 and
# larger) shrink the map by one each. models.build_discriminator builds from the same numbers.
DISCRIMINATOR_STRIDED_LAYERS = {"patch70": 3, "patch16": 1, "pixel": 0, "patch286": 5, "compact": 3}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it writes.

    The field names are the flags of `p2p-train` and the keys of `config.json`. Defaults are the paper's (Isola et al.
    2017, section 6.2 of the supplement); departures are named in the modules that act on the field.

    Raises:
        UserError: A value breaks its rule; names the flag.
    """

    data_dir: str | None = setting(
        None,
        "Folder with train/, and optionally val/ and test/.",
        meaning="the embedded demo, a drawn town",
        free=True,  # the pairs themselves are compared, by fingerprint
    )
    init_from: str | None = setting(
        None,
        "A run or an export whose weights a new run begins with: the generator's, and the discriminator's if it is "
        "there and has the same form. Of a run the best checkpoint, else the newest.",
        meaning="weights drawn from the seed",
    )
    direction: str = setting(
        "a2s",
        "What becomes what: a2s aerial to street, s2a street to aerial, both by panel name; AtoB, BtoA the first two "
        "panels by position.",
        choices=DIRECTIONS,
    )
    panels: tuple[str, ...] = setting(
        (),
        "What the panels of a file show, left to right, as street,aerial.",
        meaning="what dataset.json in the data set says, else two panels without names",
    )
    input_panels: tuple[str, ...] = setting(
        (),
        "Instead of --direction: the panels, by name, that together are the input, as aerial,street_seg. The networks "
        "see their channels one after the other.",
        meaning="--direction decides",
    )
    target_panel: str = setting("", "The panel that is the target, with --input_panels.", meaning="--direction decides")
    batch_size: int = setting(1, "Pairs per step, over all devices together.", at_least=1)
    epochs: int | None = setting(200, "Passes over the training pairs.", at_least=1, free=True)
    steps: int | None = setting(
        None, "Length in steps, instead of --epochs.", meaning="--epochs decides", at_least=1, free=True
    )
    image_size: Size | None = setting(
        None,
        "Size of what the networks see, pixels: one number, or height and width as 256x512; multiples of 32. The "
        "generator halves it as often as both sides can be.",
        meaning="the data set's own (dataset.json), else 256",
    )
    load_size: Size | None = setting(
        None,
        "Size that training images are resized to before a random crop of --image_size.",
        meaning="the paper's ratio, 286 for 256",
    )
    mirror: bool = setting(True, "Mirror every second training pair, at random.")
    crops: str = setting(
        "resized",
        "Where training crops come from: the whole image, resized to --load_size, or the image in its own resolution "
        "(native), which p2p-translate then works in, too.",
        choices=("resized", "native"),
    )
    input_channels: tuple[int, ...] | None = setting(
        None,
        "Channels of the input images: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; files with others are converted. With "
        "--input_panels a number for each.",
        meaning="the data set's own (dataset.json), else 3",
    )
    output_channels: int | None = setting(
        None, "The same of the target images.", meaning="the data set's own (dataset.json), else 3"
    )
    labels: tuple[int, ...] = setting(
        (),
        "Classes, if the input is a label map: an indexed or grey PNG whose numbers are 0 to N - 1. The networks see a "
        "channel for each class. With --input_panels a number for each, 0 for an image.",
        meaning="an image",
    )
    output_labels: int = setting(0, "The same of the target.", meaning="an image")
    input_bits: tuple[int, ...] | None = setting(
        None,
        "Bits of each number in the input's files, 8 or 16. With --input_panels a number for each.",
        meaning="as in the first training pair",
    )
    output_bits: int | None = setting(
        None, "The same of the target's files.", meaning="as in the first training pair", choices=(8, 16)
    )
    learning_rate: float = setting(2e-4, "Learning rate of Adam, for both networks.", above=0, below=1)
    beta1: float = setting(0.5, "Adam's first-moment decay, for both networks.", at_least=0, below=1)
    lambda_l1: float = setting(100.0, "Weight of the L1 loss in the generator's loss.", at_least=0)
    decay_epochs: int = setting(
        0, "Number of final epochs over which the learning rate decays to 0.", meaning="constant", at_least=0
    )
    discriminator: str = setting(
        "patch70",
        "Patches that the discriminator judges: of 70, 16, 1 or 286 pixels; compact is the report's small one, 46.",
        choices=tuple(DISCRIMINATOR_STRIDED_LAYERS),
    )
    base_filters: int = setting(
        64, "Channels of the first convolution of both networks; the others are multiples.", at_least=1
    )
    precision: str = setting(
        "auto",
        "Numbers that the networks compute with.",
        meaning="bfloat16 where the device is fast at it, else float32",
        choices=("float32", "bfloat16", "auto"),
    )
    jit_compile: bool = setting(
        False, "Have XLA compile the gradients' computation: for a GPU; on one device alone; the start takes longer."
    )
    seed: int = setting(0, "Seed of initial weights, data order, jitter and dropout noise.", at_least=0, below=2**31)
    checkpoint_every_steps: int = setting(
        500, "Steps between checkpoints; one is also written at the end and on a stop.", at_least=1, free=True
    )
    checkpoint_every_secs: int = setting(
        600, "Seconds after a checkpoint until the next, if its step has not come by then.", at_least=1, free=True
    )
    keep_checkpoints: int = setting(3, "Newest checkpoints kept; 0 keeps all.", at_least=0, free=True)
    snapshot_every_epochs: int = setting(
        0,
        "Epochs between snapshots: the generator alone, in snapshots/, all of them kept (218 MB each at 256x256), for "
        "p2p-eval --checkpoint=all.",
        meaning="never",
        at_least=0,
        free=True,
    )
    samples_every_epochs: int = setting(1, "Epochs between sample grids.", at_least=1, free=True)
    max_bad_files: int = setting(
        0, "Unreadable files that are listed and left out; with more, nothing starts.", at_least=0, free=True
    )
    statistics: str = setting(
        "",
        "Batch normalisation at inference: moving averages over training, or each image's own (per_image), which is "
        "what the paper's test mode does at batch 1.",
        meaning="per_image at batch size 1, else moving",
        choices=("moving", "per_image"),
    )
    eval_every_epochs: int = setting(
        0,
        "Epochs between evaluations on val/, which keep the best checkpoint apart.",
        meaning="never",
        at_least=0,
        free=True,
    )
    inception: str | None = setting(
        None,
        "Also FID, KID and Inception Score in those evaluations: default (downloaded once), or a network as for "
        "p2p-eval.",
        meaning="without",
        free=True,
    )
    best_metric: str = setting(
        "",
        "What the best checkpoint is best at. pixel_accuracy and mean_iou are of label maps, l1 of both, the others of "
        "images.",
        meaning="l1, with --inception kid",
        choices=tuple(metric.name for metric in METRICS if metric.decides),
        free=True,  # as long as no best checkpoint is kept
    )
    patience: int = setting(
        0, "Evaluations without improvement after which the run ends.", meaning="never", at_least=0, free=True
    )

    def __post_init__(self) -> None:
        for name in ("image_size", "load_size"):
            _set(self, name, _read_size(name, getattr(self, name)))
        for name in ("panels", "input_panels"):
            _set(self, name, tuple(getattr(self, name)))
        for name in ("input_channels", "labels", "input_bits"):
            _set(self, name, _read_numbers(name, getattr(self, name)))
        if not any(self.labels):
            _set(self, "labels", ())
        if not self.statistics:
            _set(self, "statistics", "per_image" if self.batch_size == 1 else "moving")
        check_values(self)
        _check_together(self)


def best_metric(config: TrainConfig) -> str:
    """Which metric decides what the best checkpoint is."""
    return config.best_metric or ("kid" if config.inception else "l1")


def input_kinds(config: TrainConfig) -> tuple[Kind, ...]:
    """What the input images are: one, or one for each of the `input_panels`."""
    count = len(config.input_panels) or 1
    columns = [config.labels or (0,), config.input_channels or (None,), config.input_bits or (None,)]
    return tuple(_kind(*row) for row in zip(*(column * (count // len(column)) for column in columns), strict=True))


def input_names(config: TrainConfig) -> tuple[str, ...]:
    """What the input images are called where each needs a name of its own: `image`, or as the `input_panels`."""
    return config.input_panels or ("image",)


def task_name(config: TrainConfig) -> str:
    """What becomes what: the direction, or with `input_panels` as `aerial+street_seg_to_street`."""
    if not config.input_panels:
        return config.direction
    return f"{'+'.join(config.input_panels)}_to_{config.target_panel}"


def target_kind(config: TrainConfig) -> Kind:
    """What the target image is, and so the generated one."""
    return _kind(config.output_labels, config.output_channels, config.output_bits)


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps at which the run is finished."""
    return config.steps if config.steps is not None else config.epochs * steps_per_epoch


def decay_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps at the end of the run over which the learning rate falls to 0."""
    return min(config.decay_epochs * steps_per_epoch, total_steps(config, steps_per_epoch))


def default_load_size(image_size: Size) -> Size:
    """Size that an image is resized to before the random crop: 286 for 256, the paper's ratio, rounded."""
    return Size(*(round(side * 286 / 256) for side in image_size))


def _set(config: TrainConfig, name: str, value: object) -> None:
    object.__setattr__(config, name, value)  # of a frozen dataclass, in its own __post_init__


def _read_size(name: str, value: object) -> Size | None:
    try:
        return None if value is None else to_size(value)
    except (ValueError, TypeError) as error:
        raise UserError(f"--{name} is one number, or height and width as 256x512. Received: {value}") from error


def _read_numbers(name: str, value: object) -> tuple[int, ...] | None:
    """One number, or several, also as texts."""
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(int(each) for each in values)
    except ValueError as error:
        raise UserError(f"--{name} is a number, or several with commas between. Received: {value}") from error


def _kind(classes: int, channels: int | None, bits: int | None) -> Kind:
    return Kind(classes, labels=True) if classes else Kind(channels or 3, bits or 8)


def _check_together(config: TrainConfig) -> None:
    """The rules that concern several settings."""
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


def _check_sizes(config: TrainConfig) -> None:
    size, load = config.image_size, config.load_size
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


def _check_panels(config: TrainConfig) -> None:
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
        if not _NAME.fullmatch(name) or name == "seed":
            raise UserError(
                "The --input_panels become names of an export's inputs: letters, digits and _, a letter first, and "
                f"not seed. Received: {name}. Call it otherwise, in --panels too."
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


def _check_metric(config: TrainConfig) -> None:
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
