"""What a run is: one frozen dataclass, validated, to JSON and back. No TF.

A setting is declared in one place, its line in `TrainConfig`: name, type, default, range, help, and whether it may
change when a run is resumed. The flags of `p2p-train`, their help, the range checks and `config.json` follow from it.
Rules that concern several settings together are in `rules.py`.
"""

import dataclasses

from p2p_keras.declare import check_values, read_numbers, read_size, setting
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics.table import METRICS
from p2p_keras.rules import DISCRIMINATOR_STRIDED_LAYERS, check_together
from p2p_keras.sizes import Size

DIRECTIONS = ("a2s", "s2a", "AtoB", "BtoA")


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
        "Folder with train/, and optionally val/ and test/; or the URL of one that p2p-prepare made in shards, as "
        "gs://bucket/data.",
        meaning="the embedded demo, a drawn town",
        free=True,  # the pairs themselves are compared, by fingerprint
    )
    init_from: str | None = setting(
        None,
        "A run or an export, or town, whose weights a new run begins with: the generator's, and the discriminator's if "
        "it is there and has the same form. Of a run the best checkpoint, else the newest.",
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
    batch_size: int = setting(
        1,
        "Pairs per step, over all devices together. Where it is not given, it is raised to a multiple of their number.",
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
    jitter: bool = setting(
        True,
        "Resize training pairs to --load_size, and crop them at random, as the paper does. Without, pictures are "
        "better, far better where input and target are different views. --load_size and --crops=native turn it on, but "
        "not with --preset=crossview or in the demo.",
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
    upsampling: str = setting(
        "transposed",
        "How the generator doubles a map: by a transposed convolution, as the paper, or by resizing to the nearest "
        "pixel and convolving (resize), which begins without a checkerboard and leaves less of one.",
        choices=("transposed", "resize"),
    )
    ema_decay: float = setting(
        0.0,
        "Decay, each step, of a moving average of the generator's weights. Samples, evaluations, exports and "
        "translations take the average instead of the weights themselves.",
        meaning="no average",
        at_least=0,
        below=1,
    )
    dropout: bool = setting(
        True,
        "Drop half of the values in the three innermost layers of the generator's decoder while training, at random: "
        "the paper's noise, from which p2p-translate --samples draws.",
    )
    diffaugment: bool = setting(
        False,
        "Show the discriminator each pair with another brightness, saturation and contrast, moved, and with a square "
        "cut out, all at random (DiffAugment), so that it cannot learn the pairs by heart.",
    )
    discriminator: str = setting(
        "patch70",
        "Patches that the discriminator judges: of 70, 16, 1 or 286 pixels; compact is the report's small one, 46.",
        choices=tuple(DISCRIMINATOR_STRIDED_LAYERS),
    )
    base_filters: int = setting(
        64,
        "Channels of the first convolution of both networks; the others are multiples.",
        at_least=1,
        below=1025,  # whose generator has 14 billion weights; config.json may be a stranger's
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
        "Epochs between snapshots: the generator alone, in snapshots/, all of them kept (157 MB each at 256x256), for "
        "p2p-eval --checkpoint=all.",
        meaning="never",
        at_least=0,
        free=True,
    )
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
        for name in ("image_size", "load_size"):
            _set(self, name, read_size(name, getattr(self, name)))
        for name in ("panels", "input_panels", "samples"):
            value = getattr(self, name)
            _set(self, name, tuple(value) if isinstance(value, list) else value)
        for name in ("input_channels", "labels", "input_bits"):
            _set(self, name, read_numbers(name, getattr(self, name)))
        if isinstance(self.labels, tuple) and not any(self.labels):
            _set(self, "labels", ())
        if not self.statistics:
            alone = self.batch_size == self.accumulate  # each image was normalised by itself while training, too
            _set(self, "statistics", "per_image" if alone else "moving")
        check_values(self)
        check_together(self)


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


def _kind(classes: int, channels: int | None, bits: int | None) -> Kind:
    return Kind(classes, labels=True) if classes else Kind(channels or 3, bits or 8)
