"""A run's checkpoints x a split -> `eval/<split>/`: metrics, curves, a sheet of images."""

import collections
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig, task_name
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.unreadable import unreadable_in_words
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.drawing import draw_sheet, image_writer, palette_for
from p2p_keras.evaluation.lanes import Lane, own_rows
from p2p_keras.evaluation.records import add_record, comparable, make_record, read_records
from p2p_keras.evaluation.split import Split, fingerprint, take_split
from p2p_keras.images import charts
from p2p_keras.images.files import write_png
from p2p_keras.metrics.inception import Extractor
from p2p_keras.models import make_inference
from p2p_keras.system.files import remove_leftovers
from p2p_keras.system.hosts import ALONE, Hosts
from p2p_keras.system.progress import ProgressLine
from p2p_keras.system.urls import Url, to_folder
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config, steps_per_epoch
from p2p_keras.workdir.generator import build_generator, restore_each, weights_checksum
from p2p_keras.workdir.resolve import Data, resolve

_DAY_SECS = 86_400  # no file is being written for so long


class Evaluation(NamedTuple):
    """A run, which of its checkpoints are scored, and on what."""

    workdir: Path
    config: TrainConfig
    steps_per_epoch: int
    which: str  # of its checkpoints: `latest`, `best`, `all`, or a step
    pairs: Split
    reference: Split | None  # whose targets FID and KID compare with; None: the pairs' own
    results: Path  # gets a folder for each split
    hosts: Hosts

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.results / self.pairs.name

    @property
    def curves(self) -> Path:
        """The chart; those with another reference have one of their own."""
        return self.folder / (f"curves-against-{self.reference.name}.png" if self.reference else "curves.png")


def open_evaluation(
    workdir: Path,
    data_dir: Path | Url | None = None,
    panels: tuple[str, ...] = (),
    split: str = "test",
    which: str = "latest",
    limit: int | None = None,
    reference: str | None = None,
    report: Callable[[str], None] = print,
    hosts: Hosts = ALONE,
    scratch: Path | None = None,
) -> Evaluation:
    """Finds all that an evaluation needs of a run, so that what is amiss is said before anything is computed.

    Args:
        workdir: The run's folder.
        data_dir: Another data set than the run's own.
        panels: Its panels, left to right; by default what its `dataset.json` says, else as in the run.
        split: `test`, `val` or `train`.
        which: `latest`, `best`, `all`, or a step.
        limit: Only so many images, spread evenly over the split.
        reference: FID and KID compare with all targets of this split; None compares with the pairs' own.
        report: Called with one line for each file that was left out.
        hosts: Which share the images out. Each needs the run's folder, and the data.
        scratch: Where another host than the chief writes what nobody reads.

    Raises:
        UserError: The folder holds no run, or the data or the checkpoint are not there, or its targets are label maps,
            which have no reference; or the hosts were given different things.
    """
    config, record = read_config(workdir / "config.json")
    if "imported" in record and data_dir is None:
        raise UserError(
            f"The generator in {workdir} was imported, without any pairs. Say where some are: --data_dir=DATA"
        )
    checkpoints.choose(workdir / "checkpoints", which)
    results = scratch or workdir / "eval"
    (results / split).mkdir(parents=True, exist_ok=True)
    if hosts.is_chief:
        with contextlib.suppress(OSError):  # another user may have left it
            remove_leftovers(workdir, _DAY_SECS, beneath=True)
    memory = results if data_dir is not None else scratch or workdir  # so that the run's own memory of its data stays
    config, data = find_data(config, data_dir, panels, split, memory, report)
    # An imported generator is of step 0, and so of epoch 0, however long an epoch is.
    steps = 1 if "imported" in record else steps_per_epoch(config, record, workdir / "config.json")
    pairs = take_split(data.pairs, data.reading, split, limit)
    others = _take_reference(data, reference) if reference else None
    if others and (others.name, len(others.files)) == (split, len(pairs.files)):
        others = None  # they are the pairs' own
    facts = {"the run": dataclasses.replace(config, data_dir=None), "--checkpoint": which, "--split": split}
    facts["the images"] = [fingerprint(images) for images in (pairs, others) if images]
    hosts.check_alike(facts)
    return Evaluation(workdir, config, steps, which, pairs, others, results, hosts)


def evaluate(
    evaluation: Evaluation,
    extractor: Extractor | None,
    reason: str = "",
    batch_size: int = 16,
    save_images: bool = False,
    report: Callable[[str], None] = print,
    elsewhere: Mapping[str, Extractor | None] = MappingProxyType({}),
) -> list[dict]:
    """Scores checkpoints of a run on a split, by the run's inference contract, and writes `eval/<split>/`.

    Args:
        evaluation: From `open_evaluation`.
        extractor: For FID, KID and Inception Score; None leaves them out, and so do targets that are label maps.
        reason: Why there is no extractor.
        batch_size: Images at a time on a device.
        save_images: Writes every generated image to `images/step_<step>/`, under its source's name, as PNG of the
            target's kind; a label map as an indexed PNG with the palette of the targets' own, or `class_colours`. On
            several hosts, those of the chief alone.
        report: Called with one line for each checkpoint that was skipped.
        elsewhere: More devices of this host that compute, each with the extractor that was loaded there.

    Returns:
        The new records of `metrics.json`, by step; none on other hosts than the chief, which write nothing.

    Raises:
        UserError: No chosen checkpoint is whole, or one does not fit, or an image cannot be read or scored.
        tf.errors.OpError: One of `hosts.ENDED`; another host has gone.
    """
    read = [split.files for split in (evaluation.pairs, evaluation.reference) if split]
    with unreadable_in_words(read, evaluation.pairs.reading):
        return _evaluate(evaluation, extractor, reason, batch_size, save_images, report, elsewhere)


def _evaluate(
    evaluation: Evaluation,
    extractor: Extractor | None,
    reason: str,
    batch_size: int,
    save_images: bool,
    report: Callable[[str], None],
    elsewhere: Mapping[str, Extractor | None],
) -> list[dict]:
    folder, pairs, hosts = evaluation.folder, evaluation.pairs, evaluation.hosts
    generator = build_generator(evaluation.config)
    extractor, reason = scoring.fitting(pairs.reading.target_kind, extractor, reason)
    hosts.check_alike({"--batch_size": batch_size, "the Inception network": extractor and extractor.sha256})
    lanes, twins = [Lane(make_inference(generator), extractor)], []
    for device, its_own in elsewhere.items():
        with tf.device(device):
            twins.append(build_generator(evaluation.config))
        lanes.append(Lane(make_inference(twins[-1]), extractor and its_own, device))
    palette = palette_for(pairs) if save_images else None
    passes = 1 if evaluation.which != "all" else len(checkpoints.choose(evaluation.workdir / "checkpoints", "all"))
    others, cache = pairs, folder / "reference.npz"
    if evaluation.reference:
        others = evaluation.reference
        cache = evaluation.results / f"reference-{others.name}.npz"  # for whatever split is scored
    count = len(own_rows(hosts, len(pairs.files), batch_size))
    targets = len(own_rows(hosts, len(others.files), batch_size)) if extractor else 0
    progress = ProgressLine(targets + passes * count, "images")
    reference = None
    if extractor:
        reference = scoring.describe_reference(
            lanes, others, batch_size, cache, lambda done: progress.update(done, "targets"), hosts
        )

    def skipped(line: str) -> None:
        progress.clear()
        report(line)

    records = []
    for step in restore_each(generator, evaluation.workdir / "checkpoints", evaluation.which, skipped):
        for twin in twins:
            for own, restored in zip(twin.weights, generator.weights, strict=True):
                own.assign(restored)
        weights = weights_checksum(generator)
        hosts.check_alike({"the checkpoint": (step, weights)})
        images_folder = folder / "images" / f"step_{step:08d}"
        write = image_writer(images_folder, pairs.names, palette) if save_images else None
        on_batch = _after_batch(progress, targets + len(records) * count, f"step {step}", write)
        scores = scoring.score_images(lanes, pairs, batch_size, on_batch, hosts)
        if not hosts.is_chief:
            continue
        summary = scoring.summarise(scores, reference, extractor, reason)
        epoch = step / evaluation.steps_per_epoch
        records.append(
            make_record(evaluation.config, step, epoch, weights, pairs, summary, extractor, evaluation.reference)
        )
        add_record(folder, records[-1], pairs.names, scores.per_image, skipped)
        titles = [*(evaluation.config.input_panels or ["input"]), "target", f"generated at step {step}"]
        write_png(folder / "sheet.png", draw_sheet(lanes[0].generate, pairs, scores.per_image["l1"], titles))
    hosts.check_alike({"the checkpoint": None})  # the others wait here until the chief has written
    progress.clear()
    return records


def draw_curves(evaluations: Sequence[Evaluation], newest: Sequence[dict]) -> list[Path]:
    """Draws the chart of each, `eval/<split>/curves.png`, with the curves of all of them.

    Args:
        evaluations: One or several.
        newest: A record of each: its curve takes those of the same images, reference and extractor.

    Returns:
        The files.
    """
    curves, tasks = {}, collections.Counter(task_name(evaluation.config) for evaluation in evaluations)
    for evaluation, record in zip(evaluations, newest, strict=True):
        task = task_name(evaluation.config)
        names = [f"{task} ({evaluation.workdir.name})", f"{task} ({evaluation.workdir})"]
        names = [task, *names] if tasks[task] == 1 else names  # several of one task are told apart
        name = next((name for name in names if name not in curves), names[-1])
        curves[name] = comparable(read_records(evaluation.folder), record)
    paths = [evaluation.curves for evaluation in evaluations]
    for path in paths:
        charts.metric_curves(curves, path)
    return paths


def find_data(
    config: TrainConfig,
    data_dir: Path | Url | None,
    panels: tuple[str, ...],
    split: str,
    memory: Path,
    report: Callable[[str], None],
) -> tuple[TrainConfig, Data]:
    """Finds and checks the pairs that a run is to be scored on.

    Args:
        config: The run's settings.
        data_dir: Another data set than the run's own.
        panels: Its panels, left to right; by default what its `dataset.json` says, else as in the run.
        split: The split without which nothing can be done.
        memory: The folder that remembers that the files were read.
        report: Called with one line for each file that was left out.

    Returns:
        The settings with what the data decide filled in, and the pairs.

    Raises:
        UserError: The data are not there, or not as they must be.
    """
    if data_dir is not None:
        named = panels or find_pairs(data_dir, needed=split).panels or config.panels
        config = dataclasses.replace(config, data_dir=str(data_dir), panels=named)
    if config.data_dir is not None and not to_folder(config.data_dir).is_dir():
        raise UserError(f"The run's data were in {config.data_dir}, which is not there. Say where: --data_dir=DATA")
    config, data = resolve(config, config, memory, report, needed=split)
    for name, problem in data.bad.items():
        if name.startswith(f"{split}/"):
            report(f"Left out {name}: {problem}")
    if not data.pairs.splits[split]:
        raise UserError(f"Not one file of {data.pairs.root / split} can be read. Mend them, or take another --split.")
    return config, data


@contextlib.contextmanager
def memory_of(workdir: Path, data_dir: Path | Url | None) -> Iterator[Path]:
    """The folder that remembers which files were read, as `find_data` takes it: the run's own, of its own data, or
    another one, that is gone afterwards, of other data and where the run's cannot be written.
    """
    if data_dir is None and os.access(workdir, os.W_OK):
        yield workdir
    else:
        with tempfile.TemporaryDirectory(prefix="p2p-") as scratch:
            yield Path(scratch)


def _take_reference(data: Data, split: str) -> Split:
    if data.reading.target_kind.labels:
        raise UserError("--reference is for images; the run's targets are label maps. Leave it out.")
    if not data.pairs.splits[split]:
        raise UserError(
            f"--reference={split} compares with the targets of {split}/, and {data.pairs.root} has none that can be "
            "read. Leave it out, or name another split."
        )
    return take_split(data.pairs, data.reading, split)


def _after_batch(
    progress: ProgressLine, done: int, text: str, write: Callable[[int, np.ndarray], None] | None
) -> Callable[[int, np.ndarray], None]:
    def on_batch(first: int, generated: np.ndarray) -> None:
        if write:
            write(first, generated)
        progress.update(done + first + len(generated), text)

    return on_batch
