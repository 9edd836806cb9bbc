"""Scoring while training: what each evaluation finds, which one was best, and whether to go on."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.records import add_record, comparable, make_record, read_records
from p2p_keras.images import charts
from p2p_keras.metrics.inception import load_extractor
from p2p_keras.system.progress import ProgressLine
from p2p_keras.workdir.resolve import Data

BATCH_SIZE = 16  # pictures at a time; no result depends on it


def make_validation(
    config: TrainConfig,
    generate: Callable[[tf.Tensor], tf.Tensor],
    data: Data,
    workdir: Path,
    steps_per_epoch: int,
    report: Callable[[str], None],
) -> Callable[[int], dict]:
    """Returns a function of the step that scores the generator as it is then, by the code of `p2p-eval`.

    It writes `eval/<split>/` and returns what goes into `history.jsonl`: split, number of pictures, metrics.
    Without `val` it takes `test`, which is said.

    Args:
        config: The run's settings.
        generate: From `models.make_inference`.
        data: The data set.
        workdir: The run's folder.
        steps_per_epoch: Steps in an epoch.
        report: Told what a person should know.

    Raises:
        UserError: There is neither `val` nor `test`, or the Inception network cannot be had.
    """
    split = next((split for split in ("val", "test") if data.pairs.splits[split]), None)
    if split is None:
        raise UserError(
            f"--eval_every_epochs scores the pairs of val/. {data.pairs.root} has neither val/ nor test/. "
            "Move some of train/ to val/, or leave the evaluations out."
        )
    if split == "test":
        report("There is no val/, so the evaluations are of test/, and the best checkpoint is chosen by looking at it")
    pairs = scoring.take_split(data.pairs, data.reading, split)
    extractor = load_extractor(config.inception, report) if config.inception else None
    extractor, reason = scoring.fitting(data.reading.target_kind, extractor, "the run has no --inception")
    folder = workdir / "eval" / split
    folder.mkdir(parents=True, exist_ok=True)
    reference = None
    if extractor:
        progress = ProgressLine(len(pairs.files), "pictures")
        reference = scoring.describe_reference(
            pairs, BATCH_SIZE, extractor, folder / "reference.npz", lambda done: progress.update(done, "targets")
        )
        progress.clear()

    def validate(step: int) -> dict:
        progress = ProgressLine(len(pairs.files), "pictures")
        scores = scoring.score_pictures(
            generate,
            pairs,
            BATCH_SIZE,
            extractor,
            lambda first, generated: progress.update(first + len(generated), f"scoring {split}"),
        )
        progress.clear()
        summary = scoring.summarise(scores, reference, extractor, reason)
        record = make_record(config, step, step / steps_per_epoch, pairs, summary, extractor)
        add_record(folder, record)
        known = comparable(read_records(folder), record)
        charts.metric_curves({config.direction: known}, folder / "curves.png")
        return {"split": split, "count": record["count"], **summary.metrics}

    return validate


def best_record(history: list[dict], metric: str) -> dict | None:
    """The epoch of `history.jsonl` that scored best, the first of equals; None if none was scored by this metric.

    Args:
        history: Records, by step.
        metric: As in `--best_metric`; finds `kid@768` under `kid`.
    """
    scored = [record for record in history if value_of(record, metric) is not None]
    sign = 1 if metric in scoring.LOWER_IS_BETTER else -1
    return min(scored, key=lambda record: sign * value_of(record, metric), default=None)


def value_of(record: dict, metric: str) -> float | None:
    """What an epoch scored by a metric; None if it was not scored by it."""
    found = [value for name, value in record.get("evaluation", {}).items() if name.partition("@")[0] == metric]
    return found[0] if found else None


def is_exhausted(history: list[dict], metric: str, patience: int) -> bool:
    """Whether the last `patience` evaluations were all no better than one before them. Never with patience 0."""
    best = best_record(history, metric)
    later = [record for record in history if best and record["step"] > best["step"]]
    return 0 < patience <= sum(value_of(record, metric) is not None for record in later)
