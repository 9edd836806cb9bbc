"""What a run is: one frozen dataclass, validated, to JSON and back. No TF.

A setting is declared in one place, its line in `TrainConfig`: name, type, default, range, help, and whether it may
change when a run is resumed. The flags of `p2p-train`, their help, the range checks and `config.json` follow from it.
Rules that concern several settings together are in `_check_together`.
"""

import dataclasses

from p2p_keras.declare import check_values, setting
from p2p_keras.errors import UserError
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics.table import BY_NAME, METRICS

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
    batch_size: int = setting(
        1,
        "Pairs per step, over all devices together.",
        meaning="raised, as a preset's, to a multiple of the number of devices",
        at_least=1,
    )
    accumulate: int = setting(
        1,
        "Parts that a step's pairs are computed in, one after the other, for less memory: each update is by the mean "
        "of the parts' gradients. Batch normalisation is over the pairs of a part.",
        at_least=1,
    )
    epochs: int | None = setting(200, "Passes over the training pairs.", at_least=1, free=True)
    steps: int | None = setting(
        None, "Length in steps, instead of --epochs.", meaning="--epochs decides", at_least=1, free=True
    )
    image_size: int | None = setting(
        None,
        "Height and width of what the networks see, pixels: 32, 64, 128, 256 or 512.",
        meaning="the data set's own (dataset.json), else 256",
        choices=(32, 64, 128, 256, 512),
    )
    input_channels: int | None = setting(
        None,
        "Channels of the input images: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; files with others are converted.",
        meaning="the data set's own (dataset.json), else 3",
    )
    output_channels: int | None = setting(
        None, "The same of the target images.", meaning="the data set's own (dataset.json), else 3"
    )
    labels: int = setting(
        0,
        "Classes, if the input is a label map: an indexed or grey PNG whose numbers are 0 to N - 1. The networks see a "
        "channel for each class.",
        meaning="an image",
    )
    output_labels: int = setting(0, "The same of the target.", meaning="an image")
    input_bits: int | None = setting(
        None,
        "Bits of each number in the input's files, 8 or 16.",
        meaning="as in the first training pair",
        choices=(8, 16),
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
    samples_every_epochs: int = setting(
        1, "Epochs between sample grids; the first comes after about a minute.", at_least=1, free=True
    )
    samples: tuple[str, ...] = setting(
        (),
        "Names of the pairs in the sample grids, as in the folder val/, with or without extension.",
        meaning="six, spread over val/",
        free=True,
    )
    max_bad_files: int = setting(
        0, "Unreadable files that are listed and left out; with more, nothing starts.", at_least=0, free=True
    )
    statistics: str = setting(
        "",
        "Batch normalisation at inference: moving averages over training, or each image's own (per_image), which is "
        "what the paper's test mode does at batch 1.",
        meaning="per_image at batch size 1 (or 1 in each part of --accumulate), else moving",
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
        if not self.statistics:
            alone = self.batch_size == self.accumulate  # each image was normalised by itself while training, too
            object.__setattr__(self, "statistics", "per_image" if alone else "moving")
        check_values(self)
        _check_together(self)


def best_metric(config: TrainConfig) -> str:
    """Which metric decides what the best checkpoint is."""
    return config.best_metric or ("kid" if config.inception else "l1")


def input_kind(config: TrainConfig) -> Kind:
    """What the input image is."""
    return _kind(config.labels, config.input_channels, config.input_bits)


def target_kind(config: TrainConfig) -> Kind:
    """What the target image is, and so the generated one."""
    return _kind(config.output_labels, config.output_channels, config.output_bits)


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps at which the run is finished."""
    return config.steps if config.steps is not None else config.epochs * steps_per_epoch


def decay_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps at the end of the run over which the learning rate falls to 0."""
    return min(config.decay_epochs * steps_per_epoch, total_steps(config, steps_per_epoch))


def _kind(classes: int, channels: int | None, bits: int | None) -> Kind:
    return Kind(classes, labels=True) if classes else Kind(channels or 3, bits or 8)


def _check_together(config: TrainConfig) -> None:
    """The rules that concern several settings."""
    if (config.epochs is None) == (config.steps is None):
        raise UserError(f"A run needs --epochs or --steps. Received: epochs={config.epochs}, steps={config.steps}")
    for name in ("decay_epochs", "eval_every_epochs"):
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
    if config.image_size is not None and patch_size(config.discriminator, config.image_size) < 1:
        raise UserError(
            f"--discriminator={config.discriminator} needs images larger than --image_size={config.image_size}: "
            "its last map would have no pixel. Take a larger --image_size, or --discriminator=patch70 or patch16."
        )
    _check_channels("labels", config.labels, "input_channels", config.input_channels)
    _check_channels("output_labels", config.output_labels, "output_channels", config.output_channels)
    _check_metric(config)


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


def patch_size(discriminator: str, image_size: int) -> int:
    """Height and width of the discriminator's map of logits: 30 for `patch70` at 256."""
    size = image_size // 2 ** DISCRIMINATOR_STRIDED_LAYERS[discriminator]
    return size - 2 if discriminator.startswith("patch") else size
