"""Scoring while training, by the code of `p2p-eval`."""

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from p2p_keras.config import TrainConfig, best_metric, task_name
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.lanes import Lane
from p2p_keras.evaluation.records import add_record, comparable, make_record, read_records
from p2p_keras.evaluation.split import take_split
from p2p_keras.images import charts
from p2p_keras.metrics.inception import Extractor, load_extractor
from p2p_keras.metrics.table import BY_NAME, Metric, split_label
from p2p_keras.system.progress import ProgressLine
from p2p_keras.workdir.generator import weights_checksum
from p2p_keras.workdir.resolve import Data

BATCH_SIZE = 16  # images at a time; no result depends on it


def make_validation(
    config: TrainConfig,
    generator: keras.Model,
    generate: Callable[[tf.Tensor], tf.Tensor],
    data: Data,
    workdir: Path,
    steps_per_epoch: int,
    report: Callable[[str], None],
) -> Callable[[int], dict]:
    """Returns a function of the step that scores the generator as it is then, by the code of `p2p-eval`.

    It writes `eval/<split>/` and returns what goes into `history.jsonl`: what was scored through what, and the metrics.
    Without `val` it takes `test`, which is said.

    Args:
        config: The run's settings.
        generator: The run's.
        generate: The same from `models.make_inference`.
        data: The data set.
        workdir: The run's folder.
        steps_per_epoch: Steps in an epoch.
        report: Called with lines that a person should read.

    Raises:
        UserError: There is neither `val` nor `test`, the Inception network cannot be had, or the metric that decides
            which checkpoint is the best cannot be computed of so few images.
    """
    split = next((split for split in ("val", "test") if data.pairs.splits[split]), None)
    if split is None:
        raise UserError(
            f"--eval_every_epochs scores the pairs of val/. {data.pairs.root} has neither val/ nor test/. "
            "Move some of train/ to val/, or leave the evaluations out."
        )
    if split == "test":
        report("There is no val/, so the evaluations are of test/, and the best checkpoint is chosen by looking at it")
    pairs = take_split(data.pairs, data.reading, split)
    extractor = load_extractor(config.inception, report) if config.inception else None
    extractor, reason = scoring.fitting(data.reading.target_kind, extractor, "the run has no --inception")
    decider = BY_NAME[best_metric(config)]
    _check_computable(decider, len(pairs.files), split, extractor)
    lanes = [Lane(generate, extractor)]
    folder = workdir / "eval" / split
    folder.mkdir(parents=True, exist_ok=True)
    reference = None
    if extractor:
        progress = ProgressLine(len(pairs.files), "images")
        reference = scoring.describe_reference(
            lanes, pairs, BATCH_SIZE, folder / "reference.npz", lambda done: progress.update(done, "targets")
        )
        progress.clear()

    def validate(step: int) -> dict:
        progress = ProgressLine(len(pairs.files), "images")
        scores = scoring.score_images(
            lanes,
            pairs,
            BATCH_SIZE,
            lambda first, generated: progress.update(first + len(generated), f"scoring {split}"),
        )
        progress.clear()
        summary = scoring.summarise(scores, reference, extractor, reason)
        epoch, weights = step / steps_per_epoch, weights_checksum(generator)
        record = make_record(config, step, epoch, weights, pairs, summary, extractor)
        try:
            add_record(folder, record, report=report)
            known = comparable(read_records(folder), record)
            charts.metric_curves({task_name(config): known}, folder / "curves.png")
        except OSError as error:  # as where the folder is another user's; a full disk stops the checkpoint
            report(f"The evaluation at step {step} is in history.jsonl alone: {folder} ({error.strerror or error})")
        for name, why in summary.absent.items():
            if split_label(name)[0] == decider.name:
                report(f"The evaluation at step {step} decides nothing: {decider.title} is not known, for {why}")
        return _as_evaluation(record)

    return validate


def find_evaluation(workdir: Path, step: int) -> list[dict]:
    """All that is known in `eval/` of how a step scored, as records of `history.jsonl`.

    While training, FID and KID compare with the targets of the very pairs that are scored.
    """
    known = [record for split in ("val", "test") for record in read_records(workdir / "eval" / split)]
    found = [record for record in known if record["step"] == step and "reference" not in record["pictures"]]
    return [{"step": step, "epoch": record["epoch"], "evaluation": _as_evaluation(record)} for record in found]


def _as_evaluation(record: dict) -> dict:
    extractor = record["extractor"] and record["extractor"]["sha256"]
    images = record["pictures"]
    known = {"split": images["split"], "count": record["count"], "fingerprint": images["fingerprint"]}
    return {**known, "extractor": extractor, **record["metrics"]}


def _check_computable(metric: Metric, count: int, split: str, extractor: Extractor | None) -> None:
    if count < metric.count:
        raise UserError(
            f"--best_metric={metric.name} needs at least {metric.count} images. {split}/ has {count}. "
            "Add some, or take --best_metric=l1."
        )
    if metric.name == "inception_score" and extractor.classes is None:
        raise UserError(
            "--best_metric=inception_score needs a network with logits. That of --inception has none. Name another "
            "network, or take --best_metric=kid."
        )
