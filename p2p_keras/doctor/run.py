"""A run's folder -> what is wrong with it: all checks, each with a finding, or with why it could not be made."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.data import pipeline, shifted
from p2p_keras.data.pairs import fingerprint
from p2p_keras.data.unreadable import unreadable_in_words
from p2p_keras.doctor import fid, pictures, speed
from p2p_keras.doctor.history import TOO_YOUNG, WINDOW_STEPS, check_history
from p2p_keras.doctor.outcomes import CHECKS, Finding, Outcome, Skipped
from p2p_keras.doctor.remedies import with_remedy
from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import read_records
from p2p_keras.evaluation.run import find_data, memory_of
from p2p_keras.evaluation.split import Split, batches, take_split
from p2p_keras.models import make_inference
from p2p_keras.system.files import write_whole
from p2p_keras.system.urls import Url
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, restore_each
from p2p_keras.workdir.history import read_history
from p2p_keras.workdir.resolve import Data

PAIRS = 32  # of each split, spread evenly, whose pictures are looked at
BATCH_SIZE = 16  # at a time; no result depends on it
REPORT = "doctor.json"
_LEAST_MISALIGNED = 0.05  # of the pairs looked at; below, they are named, when a run begins, but are not what ails it

# As `check_pictures` gives them.
_OF_PICTURES = (
    "over-fitting",
    "outputs alike",
    "unrelated pairs",
    "misleading crops",
    "checkerboard",
    "statistics shift",
)


class Diagnosis(NamedTuple):
    """What was found in a run, and what could not be looked at; all other checks found nothing."""

    step: int  # of the checkpoint whose pictures were looked at; without one, of the newest record
    findings: list[Finding]
    skipped: list[Skipped]

    @property
    def clear(self) -> list[str]:
        """The checks that were made and found nothing."""
        told = {outcome.name for outcome in (*self.findings, *self.skipped)}
        return [name for name in CHECKS if name not in told]


def examine(workdir: Path, data_dir: Path | Url | None = None, report: Callable[[str], None] = print) -> Diagnosis:
    """Makes all checks of a run. Writes nothing but `data_check.json`, which remembers that the files were read.

    Args:
        workdir: The run's folder.
        data_dir: Where the run's data lie now, if they were moved.
        report: Called with one line for each checkpoint that was skipped.

    Raises:
        UserError: The folder holds no run of p2p-train.
    """
    config, record = read_config(workdir / "config.json")
    if "imported" in record:
        raise UserError(f"p2p-doctor looks at what p2p-train trained. The generator in {workdir} was imported.")
    history = read_history(workdir)
    step = history[-1]["step"] if history else 0
    outcomes = dict(zip(CHECKS[:5], check_history(history), strict=True))
    outcomes["few pictures for FID"] = _either(outcomes["few pictures for FID"], _check_records(workdir))
    try:
        with memory_of(workdir, data_dir) as memory:
            config, data = find_data(config, data_dir, (), "train", memory, report)
        if fingerprint(data.pairs) != record.get("data", {}).get("fingerprint"):
            raise UserError(
                f"The training pairs in {data.pairs.root} are other ones than the run's. Say where: --data_dir=DATA"
            )
    except (UserError, OSError) as error:  # the system's: they may not be read, for one
        outcomes |= {name: Skipped(name, str(error)) for name in CHECKS[5:]}
        return _diagnosis(step, outcomes, config)
    outcomes["misaligned pairs"] = check_pairs(data)
    splits = [take_split(data.pairs, data.reading, split, PAIRS) for split in ("train", "val", "test")]
    with unreadable_in_words([split.files for split in splits] + [data.pairs.files("train")], data.reading):
        outcomes["starved input"] = speed.check_speed(speed.measure_pipeline(config, data), history)
        if data.reading.target_kind.labels:
            found = [Skipped(name, "the targets are label maps") for name in _OF_PICTURES]
        else:
            try:
                generator = build_generator(config)
                step = next(iter(restore_each(generator, workdir / "checkpoints", "latest", report)))
                if step < WINDOW_STEPS:
                    found = [Skipped(name, TOO_YOUNG) for name in _OF_PICTURES]
                else:
                    found = check_pictures(config, generator, splits, outcomes["over-fitting"])
            except UserError as error:
                found = [Skipped(name, str(error)) for name in _OF_PICTURES]
    found[0] = _either(found[0], outcomes["over-fitting"])
    outcomes |= zip(_OF_PICTURES, found, strict=True)
    return _diagnosis(step, outcomes, config)


def write_report(workdir: Path, diagnosis: Diagnosis) -> Path:
    """Writes `doctor.json` into the run's folder: step, findings and skipped, as they are here.

    Raises:
        OSError: It cannot be written.
    """
    content = {
        "step": diagnosis.step,
        "findings": [finding._asdict() for finding in diagnosis.findings],
        "skipped": [skipped._asdict() for skipped in diagnosis.skipped],
    }
    write_whole(workdir / REPORT, json.dumps(content, indent=2) + "\n")
    return workdir / REPORT


def _either(one: Outcome, other: Outcome) -> Outcome:
    """Of two ways to make one check: a finding before none, and none before one that could not be gone."""
    return min(one, other, key=lambda outcome: 1 if outcome is None else 0 if isinstance(outcome, Finding) else 2)


def _diagnosis(step: int, outcomes: dict[str, Outcome], config: TrainConfig) -> Diagnosis:
    told = [with_remedy(outcomes[name], config) for name in CHECKS]
    findings = [outcome for outcome in told if isinstance(outcome, Finding)]
    return Diagnosis(step, findings, [outcome for outcome in told if isinstance(outcome, Skipped)])


def _check_records(workdir: Path) -> Outcome:
    """The newest evaluation with an FID in `eval/`; of several of one checkpoint that of the most pictures."""
    known = [record for split in ("val", "test", "train") for record in read_records(workdir / "eval" / split)]
    records = [record for record in known if any(name.partition("@")[0] == "fid" for name in record["metrics"])]
    if not records:
        return fid.check_count({}, 0)
    newest = max(records, key=lambda record: (record["step"], _picture_count(record)))
    return fid.check_count(newest["metrics"], _picture_count(newest))


def _picture_count(record: dict) -> int:
    """Generated or reference pictures of an evaluation, whichever are fewer."""
    return min(record["count"], record["pictures"].get("reference", record)["count"])


def check_pairs(data: Data) -> Outcome:
    """The first input panel in which pairs are misaligned with their target."""
    name, pairs, reading = "misaligned pairs", data.pairs, data.reading
    for panel in reading.input_panels:
        panels = (panel, reading.target_panel)
        looked_at, found = shifted.find_misaligned(
            pairs.files("train"), pairs.splits["train"], pairs.panel_count, panels
        )
        if found and len(found) >= _LEAST_MISALIGNED * looked_at:
            return Finding(
                name,
                shifted.in_one_line(looked_at, found, ("input", "target")),
                "What belongs together does not lie at the same place, which L1 punishes as blur.",
            )
    return None


def check_pictures(
    config: TrainConfig, generator: keras.Model, splits: Sequence[Split], by_history: Outcome = None
) -> list[Outcome]:
    """Looks at what the generator makes of training pairs, and of those of the next split that has any.

    Args:
        config: The run's settings.
        generator: Its generator.
        splits: `train`, then those that may be held back.
        by_history: Whether the run is over-fitting, by its history.

    Returns:
        Over-fitting (by either), outputs alike, unrelated pairs, misleading crops, checkerboard, statistics shift. The
        generator's moving averages are other ones then.
    """
    generate = make_inference(generator)
    train = _look_at(generate, splits[0])
    held = next((split for split in splits[1:] if split.files), None)
    other = _look_at(generate, held) if held else train
    if held:
        by_heart = pictures.check_over_fitting(_l1(train), _l1(other), held.name, _sees_crops(config))
    else:
        by_heart = Skipped("over-fitting", "there is neither val/ nor test/")
    over_fitting = _either(by_heart, by_history)
    alike = pictures.check_alike(other.generated, other.target)
    if isinstance(alike, Finding):
        related = Skipped("unrelated pairs", "outputs are alike")
    else:
        related = pictures.check_related(train.generated, train.target)
    if not _sees_crops(config):
        crops = Skipped("misleading crops", "the run crops nothing")
    elif config.crops == "native":
        crops = Skipped("misleading crops", "the run is used in crops as well (--crops=native)")
    elif isinstance(over_fitting, Finding):
        crops = Skipped("misleading crops", "the run is over-fitting: it knows the crops by heart, too")
    elif isinstance(by_heart, Skipped):
        crops = Skipped("misleading crops", "the run may know the crops by heart, and that cannot be told")
    else:
        crops = pictures.check_crops(_l1(train), _l1(_look_at_crops(generate, splits[0], config.seed)))
    grid = pictures.check_checkerboard(other.generated, other.target)
    # Last, since it changes the moving averages.
    size = min(config.batch_size // config.accumulate, len(train.inputs))
    as_trained = [
        generator([tf.constant(train.inputs[first : first + size]), None], training=True).numpy()
        for first in range(0, len(train.inputs) // size * size, size)
    ]
    as_trained = np.concatenate(as_trained)
    statistics = pictures.check_statistics(train.generated[: len(as_trained)], as_trained)
    return [over_fitting, alike, related, crops, grid, statistics]


def _sees_crops(config: TrainConfig) -> bool:
    """Whether training sees parts of the pairs, other ones each time, rather than the pairs."""
    return config.crops == "native" or (config.jitter and config.load_size != config.image_size)


class _Pictures(NamedTuple):
    """float32 (N, H, W, C) each."""

    inputs: np.ndarray
    target: np.ndarray
    generated: np.ndarray


def _look_at(generate: Callable[[tf.Tensor], tf.Tensor], split: Split) -> _Pictures:
    return _look(generate, (pair for _, *pair in batches(split, range(len(split.files)), BATCH_SIZE)))


def _look_at_crops(generate: Callable[[tf.Tensor], tf.Tensor], split: Split, seed: int) -> _Pictures:
    """Of the same pairs, jittered as in training; the last ones may be missing."""
    size = min(BATCH_SIZE, len(split.files))
    jittered = pipeline.training_dataset(split.files, split.reading, size, seed, 0, len(split.files) // size)
    return _look(generate, (pair for *pair, _ in jittered))


def _look(generate: Callable[[tf.Tensor], tf.Tensor], pairs: Iterable[Sequence[tf.Tensor]]) -> _Pictures:
    """What becomes of batches of input and target images."""
    found = [(image.numpy(), target.numpy(), generate(image).numpy()) for image, target in pairs]
    return _Pictures(*map(np.concatenate, zip(*found, strict=True)))


def _l1(looked_at: _Pictures) -> np.ndarray:
    """Of each pair, (N,)."""
    return np.abs(looked_at.generated - looked_at.target).mean(axis=(1, 2, 3))
