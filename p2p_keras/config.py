"""What a run is: one frozen dataclass, validated, to JSON and back. No TF."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from p2p_keras.errors import UserError
from p2p_keras.images.kinds import Kind

DIRECTIONS = ("a2s", "s2a", "AtoB", "BtoA")
DISCRIMINATORS = ("patch70", "patch16", "pixel", "patch286", "compact")
PRECISIONS = ("float32", "bfloat16", "auto")
IMAGE_SIZES = (32, 64, 128, 256, 512)

PAIRED_METRICS = ("l1", "psnr", "ssim", "sharpness_difference")
LABEL_METRICS = ("pixel_accuracy", "mean_iou")  # with L1, of targets that are label maps
INCEPTION_METRICS = ("fid", "kid", "inception_score")
BEST_METRICS = (*PAIRED_METRICS, *LABEL_METRICS, *INCEPTION_METRICS)

# Down-sampling layers of stride 2 in each discriminator; the two convolutions of stride 1 that follow (patch16 and
# larger) shrink the map by one each. models.build_discriminator builds from the same numbers.
DISCRIMINATOR_STRIDED_LAYERS = {"pixel": 0, "patch16": 1, "patch70": 3, "patch286": 5, "compact": 3}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it writes.

    The field names are the flags of `p2p-train` and the keys of `config.json`. Defaults are the paper's (Isola et al.
    2017, section 6.2 of the supplement); departures are named in the modules that act on the field.

    Attributes:
        data_dir: Folder with `train/` and optionally `val/` and `test/`; None is the embedded demo, `town`.
        direction: `a2s` or `s2a` (by panel name), `AtoB` or `BtoA` (first two panels by position).
        panels: What the panels of a composite show, left to right; empty if the data set's pairs have no names.
        batch_size: Pairs per step, over all replicas together.
        epochs: Length in passes over the training pairs; None if `steps` gives it.
        steps: Length in steps (one discriminator and one generator update each); None if `epochs` gives it.
        image_size: Height and width of what the networks see, in pixels; None takes the data set's own, else 256.
        input_channels: Of the input image: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; None takes the data set's own, else
            3.
        output_channels: The same of the target image.
        labels: Classes, if the input image is a label map: an indexed or grey PNG whose numbers are classes from 0. It
            reaches the networks one-hot, with as many channels. 0 is a picture.
        output_labels: The same of the target image.
        input_bits: 8 or 16 of each number in the input's files; None looks at the first training pair.
        output_bits: The same of the target image.
        learning_rate: Adam's, for both networks.
        beta1: Adam's first-moment decay, for both networks.
        lambda_l1: Weight of the L1 loss in the generator's loss.
        decay_epochs: Over so many epochs at the end the learning rate falls linearly to 0; 0 keeps it constant.
        discriminator: One of `DISCRIMINATORS`.
        base_filters: Channels of the first convolution of both networks; the others are multiples.
        precision: `float32`, `bfloat16`, or `auto` (bfloat16 where the device is fast at it).
        seed: Of initial weights, data order, jitter and dropout noise.
        checkpoint_every_steps: Steps between checkpoints; one is also written at the end and on a stop.
        keep_checkpoints: Newest checkpoints kept; 0 keeps all.
        samples_every_epochs: Epochs between sample grids.
        max_bad_files: Unreadable files that are listed and left out before the run refuses to start.
        statistics: Normalisation at inference (the run's contract): `moving` averages over training, or `per_image`,
            each image's own, which is what the paper's test mode does at batch 1. Empty picks `per_image` at batch size
            1, `moving` otherwise.
        eval_every_epochs: Epochs between evaluations on `val`; 0 is never.
        inception: What FID, KID and Inception Score are computed with in those (`metrics.inception.load_extractor`);
            None leaves them out.
        best_metric: Which of `BEST_METRICS` decides what the best checkpoint is. Empty picks KID with `inception`, L1
            without. Of `output_labels` it is L1 or one of `LABEL_METRICS`, of pictures any other.
        patience: Evaluations without improvement after which the run ends; 0 is never.
    """

    data_dir: str | None = None
    direction: str = "a2s"
    panels: tuple[str, ...] = ()
    batch_size: int = 1
    epochs: int | None = 200
    steps: int | None = None
    image_size: int | None = None
    input_channels: int | None = None
    output_channels: int | None = None
    labels: int = 0
    output_labels: int = 0
    input_bits: int | None = None
    output_bits: int | None = None
    learning_rate: float = 2e-4
    beta1: float = 0.5
    lambda_l1: float = 100.0
    decay_epochs: int = 0
    discriminator: str = "patch70"
    base_filters: int = 64
    precision: str = "auto"
    seed: int = 0
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 3
    samples_every_epochs: int = 1
    max_bad_files: int = 0
    statistics: str = ""
    eval_every_epochs: int = 0
    inception: str | None = None
    best_metric: str = ""
    patience: int = 0

    def __post_init__(self) -> None:
        if not self.statistics:
            object.__setattr__(self, "statistics", "per_image" if self.batch_size == 1 else "moving")
        _check(self)


# These change how often a run writes or how long it goes on, never what it has computed so far.
_FREE_ON_RESUME = {
    "data_dir",  # the pairs themselves are compared, by fingerprint
    "epochs",
    "steps",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "samples_every_epochs",
    "max_bad_files",
    "eval_every_epochs",
    "inception",
    "best_metric",
    "patience",
}


# What runs were before these settings existed.
_FIRST_FORMAT = {"input_channels": 3, "output_channels": 3, "input_bits": 8, "output_bits": 8}


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


def check_resume(saved: TrainConfig, asked: TrainConfig, done_steps: int, steps_per_epoch: int) -> None:
    """Refuses to continue a run with settings under which its first `done_steps` steps would have gone differently.

    Length may change freely while the learning rate of the steps already done stays the same.

    Raises:
        UserError: Names every setting that differs.
    """
    names = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in _FREE_ON_RESUME]
    changed = [name for name in names if getattr(saved, name) != getattr(asked, name)]
    if total_steps(saved, steps_per_epoch) != total_steps(asked, steps_per_epoch):
        decay_starts = (
            total_steps(config, steps_per_epoch) - decay_steps(config, steps_per_epoch) for config in (saved, asked)
        )
        if (saved.decay_epochs or asked.decay_epochs) and done_steps > min(decay_starts):
            changed.append("epochs" if asked.steps is None else "steps")
    if changed:
        differences = ", ".join(f"--{name} was {_show(saved, name)}, is {_show(asked, name)}" for name in changed)
        raise UserError(
            f"A run continues only with the settings it began with. Changed: {differences}. "
            "Give the old values, or another --workdir for a new run."
        )


def to_json(config: TrainConfig, **more: Any) -> str:
    """The text of `config.json`: the settings under the flags' names, and what else the run records about itself."""
    return json.dumps({"format": 1, "config": dataclasses.asdict(config), **more}, indent=2) + "\n"


def read_config(path: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Reads `config.json`: the config and the rest of the record.

    Raises:
        UserError: Not there, not JSON, or not of a form this version knows.
    """
    try:
        record = json.loads(path.read_text())
        settings = record.pop("config")
        settings["panels"] = tuple(settings["panels"])
        return TrainConfig(**{**_FIRST_FORMAT, **settings}), record
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"A run folder holds a config.json written by p2p-train. {path} cannot be read as one: {error}. "
            "Give the --workdir of a run, or a new folder."
        ) from error


def _kind(classes: int, channels: int | None, bits: int | None) -> Kind:
    return Kind(classes, labels=True) if classes else Kind(channels or 3, bits or 8)


def _show(config: TrainConfig, name: str) -> str:
    value = getattr(config, name)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def one_of(name: str, value: Any, allowed: tuple) -> Any:
    """The value, if it is one of those allowed.

    Raises:
        UserError: It is not.
    """
    if value not in allowed:
        raise UserError(f"--{name} must be one of {', '.join(map(str, allowed))}. Received: {value}")
    return value


def _check(config: TrainConfig) -> None:
    one_of("direction", config.direction, DIRECTIONS)
    one_of("discriminator", config.discriminator, DISCRIMINATORS)
    one_of("precision", config.precision, PRECISIONS)
    if config.image_size is not None:
        one_of("image_size", config.image_size, IMAGE_SIZES)
    one_of("statistics", config.statistics, ("moving", "per_image"))
    one_of("best_metric", best_metric(config), BEST_METRICS)
    _check_metric(config)
    for classes, channels in (("labels", "input_channels"), ("output_labels", "output_channels")):
        count, given = getattr(config, classes), getattr(config, channels)
        if count not in (0, *range(2, 257)):
            raise UserError(f"--{classes} is the number of classes, 2 to 256. Received: {count}")
        if count and given not in (None, count):
            raise UserError(
                f"A label map has a channel for each class, so leave --{channels} out with --{classes}. "
                f"Received: {given} and {count}"
            )
        if not count and given not in (None, 1, 2, 3, 4):
            raise UserError(
                f"--{channels} are what a JPEG or PNG file holds, 1 to 4. Received: {given}. "
                f"More come from a label map: --{classes}=K."
            )
    for name in ("patience", "inception"):
        if getattr(config, name) and not config.eval_every_epochs:
            raise UserError(
                f"--{name} is about evaluations while training, and there are none. Add --eval_every_epochs=1."
            )
    if config.epochs is not None and config.eval_every_epochs > config.epochs:
        raise UserError(
            f"--eval_every_epochs must not exceed the --epochs, {config.epochs}. Received: {config.eval_every_epochs}"
        )
    if (config.epochs is None) == (config.steps is None):
        raise UserError(f"A run needs --epochs or --steps. Received: epochs={config.epochs}, steps={config.steps}")
    for name in ("batch_size", "epochs", "steps", "base_filters", "checkpoint_every_steps", "samples_every_epochs"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1. Received: {value}")
    for name in ("keep_checkpoints", "max_bad_files", "decay_epochs", "lambda_l1", "eval_every_epochs", "patience"):
        if not getattr(config, name) >= 0:
            raise UserError(f"--{name} must not be negative. Received: {getattr(config, name)}")
    if not 0 < config.learning_rate < 1:
        raise UserError(f"--learning_rate must lie between 0 and 1. Received: {config.learning_rate}")
    if not 0 <= config.beta1 < 1:
        raise UserError(f"--beta1 must lie in [0, 1). Received: {config.beta1}")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"--seed must lie in [0, 2**31). Received: {config.seed}")
    if config.epochs is not None and config.decay_epochs > config.epochs:
        raise UserError(
            f"--decay_epochs are the last of the --epochs, so at most {config.epochs}. Received: {config.decay_epochs}"
        )
    if len(set(config.panels)) != len(config.panels) or len(config.panels) == 1 or "" in config.panels:
        raise UserError(
            "--panels names two or more different panels, left to right, as in --panels=street,aerial. "
            f"Received: {','.join(config.panels)}"
        )
    if config.image_size is not None and patch_size(config.discriminator, config.image_size) < 1:
        raise UserError(
            f"--discriminator={config.discriminator} needs pictures larger than --image_size={config.image_size}: "
            "its last map would have no pixel. Take a larger --image_size, or --discriminator=patch70 or patch16."
        )


def _check_metric(config: TrainConfig) -> None:
    """Refuses what cannot be computed: of a target that is a label map, or of one that is none, or without network."""
    asked, labels = config.best_metric, bool(config.output_labels)
    if labels and config.inception:
        raise UserError("--inception is a network for pictures; of --output_labels it can tell nothing. Leave it out.")
    if asked in INCEPTION_METRICS and not config.inception and not labels:
        raise UserError(f"--best_metric={asked} needs the Inception network. Give --inception=default, or a file.")
    if asked and asked != "l1" and labels != (asked in LABEL_METRICS):
        fitting = ("l1", *LABEL_METRICS) if labels else (*PAIRED_METRICS, *INCEPTION_METRICS)
        targets = "label maps" if labels else "pictures"
        raise UserError(f"--best_metric of {targets} is one of {', '.join(fitting)}. Received: {asked}")


def patch_size(discriminator: str, image_size: int) -> int:
    """Height and width of the discriminator's map of logits: 30 for `patch70` at 256."""
    size = image_size // 2 ** DISCRIMINATOR_STRIDED_LAYERS[discriminator]
    return size - 2 if discriminator.startswith("patch") else size
