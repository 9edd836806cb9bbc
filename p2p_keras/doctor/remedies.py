"""What helps against what was found, by the settings of the run: nothing that it has already. No TensorFlow."""

from collections.abc import Callable

from p2p_keras.config import TrainConfig, best_metric
from p2p_keras.doctor.outcomes import Finding, Outcome
from p2p_keras.presets import CROSSVIEW

_PAPER_RATE = 2e-4
_FEWEST_FILTERS = 8  # fewer draw nothing


def with_remedy(outcome: Outcome, config: TrainConfig) -> Outcome:
    """The same outcome, of a finding with its remedy for a run of these settings."""
    return outcome._replace(remedy=_REMEDIES[outcome.name](config)) if isinstance(outcome, Finding) else outcome


def _won(config: TrainConfig) -> str:
    ways = ["more pairs"]
    ways += [] if config.diffaugment else ["--diffaugment"]
    ways += [] if config.discriminator in ("patch16", "pixel") else ["--discriminator=patch16"]
    ways += [f"an --lambda_l1 below {config.lambda_l1:g}, as 100"] if config.lambda_l1 > 100 else []
    return f"A new --workdir with {_either(ways)}."


def _gave_up(config: TrainConfig) -> str:
    small = config.discriminator in ("patch16", "pixel", "compact")
    ways = ["larger patches (--discriminator=patch70)"] if small else []
    ways += ["--nodiffaugment (where pairs are many)"] if config.diffaugment else []
    ways += [f"another --learning_rate than {config.learning_rate:g}{_paper_rate(config)}"]
    return f"A new --workdir with {_either(ways)}."


def _rate(config: TrainConfig) -> str:
    return f"A new --workdir with a --learning_rate below {config.learning_rate:g}{_paper_rate(config)}."


def _over_fitting(config: TrainConfig) -> str:
    if config.eval_every_epochs:
        best = "Take the best checkpoint, --checkpoint=best, if there is one by now"
        best += "" if config.patience else "; --patience ends in time"
    else:
        best = "With --eval_every_epochs the best checkpoint is kept, and --patience ends in time"
    ways = ["more pairs"]
    ways += [] if config.diffaugment else ["--diffaugment"]
    ways += [] if config.jitter else ["--jitter (where both are of one view)"]
    ways += [f"--base_filters below {config.base_filters}"] if config.base_filters > _FEWEST_FILTERS else []
    return f"{best}. A new --workdir with {_either(ways)}."


def _few_pictures(config: TrainConfig) -> str:
    kid = "KID, which is unbiased"
    if not (config.eval_every_epochs and best_metric(config) == "kid"):
        kid += " (--best_metric=kid)"
    return f"Score as many as there are features (p2p-eval without --limit, or --split=train), or go by {kid}."


def _unrelated(config: TrainConfig) -> str:
    ways = [f"a --learning_rate below {config.learning_rate:g}{_paper_rate(config)}"]
    ways += ["--lambda_l1=100"] if config.lambda_l1 < 100 else []
    if config.crops == "resized" and _departs_from_crossview(config, "jitter", "dropout", "discriminator"):
        without = ", without --load_size" if config.load_size else ""
        ways += [f"--preset=crossview (where inputs and targets are different views{without})"]
    return (
        "Look at the pairs (p2p-prepare's preview.png) and at --direction; if they are right, a new --workdir with "
        f"{_either(ways)}."
    )


def _crops(config: TrainConfig) -> str:
    views = " (--preset=crossview, where inputs and targets are different views)"
    views = views if _departs_from_crossview(config, "dropout", "discriminator") else ""
    without = ", without --load_size" if config.load_size else ""
    return f"A new --workdir with --nojitter{without}{views}."


def _checkerboard(config: TrainConfig) -> str:
    ways = [] if config.upsampling == "resize" else ["--upsampling=resize"]
    ways += [] if config.ema_decay else ["--ema_decay=0.999"]
    if not ways:
        return "Take an earlier checkpoint: the settings against it (resize, a moving average of the weights) are on."
    return f"A new --workdir with {' and '.join(ways)}."


def _statistics(config: TrainConfig) -> str:
    ways = []
    if config.batch_size == config.accumulate and config.statistics != "per_image":
        ways += ["--statistics=per_image (these batches are of one pair)"]
    ways += [f"a --learning_rate below {config.learning_rate:g}"]
    ways += [] if config.decay_epochs else ["a learning rate that falls to 0 (--decay_epochs)"]
    return f"Begin a new --workdir from this one (--init_from) with {_either(ways)}."


def _misaligned(config: TrainConfig) -> str:
    return "Mend the files, or make the pairs anew with p2p-prepare, which names such pairs, too; then a new --workdir."


def _starved(config: TrainConfig) -> str:
    ways = ["files of --image_size (p2p-prepare --image_size)"] if config.crops == "resized" else []
    labels = any(config.labels or ()) or config.output_labels
    channels = {*(config.input_channels or ()), config.output_channels}
    bits = {*(config.input_bits or ()), config.output_bits}
    if not labels and channels <= {None, 1, 3} and 16 not in bits:  # what a JPEG holds
        ways += ["JPEG rather than PNG"]
    ways += ["--shards where files come over a network"]
    return f"Prepare the data anew where it is not so yet: {', '.join(ways)}."


_REMEDIES: dict[str, Callable[[TrainConfig], str]] = {
    "discriminator won": _won,
    "discriminator gave up": _gave_up,
    "learning rate too high": _rate,
    "over-fitting": _over_fitting,
    "few pictures for FID": _few_pictures,
    "outputs alike": _unrelated,
    "unrelated pairs": _unrelated,
    "misleading crops": _crops,
    "checkerboard": _checkerboard,
    "statistics shift": _statistics,
    "misaligned pairs": _misaligned,
    "starved input": _starved,
}


def _departs_from_crossview(config: TrainConfig, *names: str) -> bool:
    return any(getattr(config, name) != CROSSVIEW[name] for name in names)


def _either(ways: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join([", ".join(ways[:-1]), ways[-1]] if len(ways) > 1 else ways)


def _paper_rate(config: TrainConfig) -> str:
    return " (the paper's is 2e-4)" if config.learning_rate > _PAPER_RATE else ""
