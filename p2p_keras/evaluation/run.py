"""A run's checkpoints x a split -> `eval/<split>/`: metrics, curves, a sheet of images."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig, task_name
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.records import add_record, comparable, make_record, read_records
from p2p_keras.images import charts, codec
from p2p_keras.images.files import file_names, palette_of, write_png, write_whole
from p2p_keras.images.sheets import class_colours, grid
from p2p_keras.metrics.inception import Extractor
from p2p_keras.models import make_inference
from p2p_keras.system.files import remove_leftovers
from p2p_keras.system.progress import ProgressLine
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, weights_checksum
from p2p_keras.workdir.resolve import Data, resolve

SHEET_ROWS = 3  # of the best, of the median, of the worst
_DAY_SECS = 86_400  # no file is being written for so long


class Evaluation(NamedTuple):
    """A run, which of its checkpoints are scored, and on what."""

    workdir: Path
    config: TrainConfig
    steps_per_epoch: int
    which: str  # of its checkpoints: `latest`, `best`, `all`, or a step
    pairs: scoring.Split
    reference: scoring.Split | None = None  # whose targets FID and KID compare with; None: the pairs' own

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.workdir / "eval" / self.pairs.name

    @property
    def curves(self) -> Path:
        """The chart; those with another reference have one of their own."""
        return self.folder / (f"curves-against-{self.reference.name}.png" if self.reference else "curves.png")


def open_evaluation(
    workdir: Path,
    data_dir: Path | None = None,
    panels: tuple[str, ...] = (),
    split: str = "test",
    which: str = "latest",
    limit: int | None = None,
    reference: str | None = None,
    report: Callable[[str], None] = print,
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

    Raises:
        UserError: The folder holds no run, or the data or the checkpoint are not there, or its targets are label maps,
            which have no reference.
    """
    config, record = read_config(workdir / "config.json")
    if "imported" in record and data_dir is None:
        raise UserError(
            f"The generator in {workdir} was imported, without any pairs. Say where some are: --data_dir=DATA"
        )
    checkpoints.choose(workdir / "checkpoints", which)
    (workdir / "eval" / split).mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # another user may have left it
        remove_leftovers(workdir, _DAY_SECS, beneath=True)
    config, data = _find_data(config, workdir, data_dir, panels, split, report)
    # An imported generator is of step 0, and so of epoch 0, however long an epoch is.
    steps_per_epoch = 1 if "imported" in record else record["data"]["counts"]["train"] // config.batch_size
    pairs = scoring.take_split(data.pairs, data.reading, split, limit)
    others = _take_reference(data, reference) if reference else None
    if others and (others.name, len(others.files)) == (split, len(pairs.files)):
        others = None  # they are the pairs' own
    return Evaluation(workdir, config, steps_per_epoch, which, pairs, others)


def evaluate(
    evaluation: Evaluation,
    extractor: Extractor | None,
    reason: str = "",
    batch_size: int = 16,
    save_images: bool = False,
    report: Callable[[str], None] = print,
) -> list[dict]:
    """Scores checkpoints of a run on a split, by the run's inference contract, and writes `eval/<split>/`.

    Args:
        evaluation: From `open_evaluation`.
        extractor: For FID, KID and Inception Score; None leaves them out, and so do targets that are label maps.
        reason: Why there is no extractor.
        batch_size: Images at a time.
        save_images: Writes every generated image to `images/step_<step>/`, under its source's name, as PNG of the
            target's kind; a label map as an indexed PNG with the palette of the targets' own, or `class_colours`.
        report: Called with one line for each checkpoint that was skipped.

    Returns:
        The new records of `metrics.json`, by step.

    Raises:
        UserError: No chosen checkpoint is whole, or one does not fit, or an image cannot be scored.
    """
    folder, pairs, count = evaluation.folder, evaluation.pairs, len(evaluation.pairs.files)
    generator = build_generator(evaluation.config)
    generate = make_inference(generator)
    extractor, reason = scoring.fitting(pairs.reading.target_kind, extractor, reason)
    palette = _palette(pairs) if save_images else None
    passes = 1 if evaluation.which != "all" else len(checkpoints.choose(evaluation.workdir / "checkpoints", "all"))
    others, cache = pairs, folder / "reference.npz"
    if evaluation.reference:
        others = evaluation.reference
        cache = evaluation.workdir / "eval" / f"reference-{others.name}.npz"  # for whatever split is scored
    targets = len(others.files) if extractor else 0
    progress = ProgressLine(targets + passes * count, "images")
    reference = None
    if extractor:
        reference = scoring.describe_reference(
            others, batch_size, extractor, cache, lambda done: progress.update(done, "targets")
        )

    def skipped(line: str) -> None:
        progress.clear()
        report(line)

    records = []
    for step in checkpoints.restore_each(generator, evaluation.workdir / "checkpoints", evaluation.which, skipped):
        images_folder = folder / "images" / f"step_{step:08d}"
        write = _image_writer(images_folder, pairs.names, palette) if save_images else None
        on_batch = _after_batch(progress, targets + len(records) * count, f"step {step}", write)
        scores = scoring.score_images(generate, pairs, batch_size, extractor, on_batch)
        summary = scoring.summarise(scores, reference, extractor, reason)
        epoch, weights = step / evaluation.steps_per_epoch, weights_checksum(generator)
        records.append(
            make_record(evaluation.config, step, epoch, weights, pairs, summary, extractor, evaluation.reference)
        )
        add_record(folder, records[-1], pairs.names, scores.per_image)
        titles = [*(evaluation.config.input_panels or ["input"]), "target", f"generated at step {step}"]
        write_png(folder / "sheet.png", _sheet(generate, pairs, scores.per_image["l1"], titles))
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
    curves = {}
    for evaluation, record in zip(evaluations, newest, strict=True):
        task = task_name(evaluation.config)
        names = (task, f"{task} ({evaluation.workdir.name})", f"{task} ({evaluation.workdir})")
        name = next((name for name in names if name not in curves), names[-1])
        curves[name] = comparable(read_records(evaluation.folder), record)
    paths = [evaluation.curves for evaluation in evaluations]
    for path in paths:
        charts.metric_curves(curves, path)
    return paths


def _find_data(
    config: TrainConfig,
    workdir: Path,
    data_dir: Path | None,
    panels: tuple[str, ...],
    split: str,
    report: Callable[[str], None],
) -> tuple[TrainConfig, Data]:
    folder = workdir
    if data_dir is not None:
        named = panels or find_pairs(data_dir, needed=split).panels or config.panels
        config = dataclasses.replace(config, data_dir=str(data_dir), panels=named)
        folder = workdir / "eval"  # so that the run's own memory of its data stays
    if config.data_dir is not None and not Path(config.data_dir).is_dir():
        raise UserError(f"The run's data were in {config.data_dir}, which is not there. Say where: --data_dir=DATA")
    config, data = resolve(config, config, folder, report, needed=split)
    for name, problem in data.bad.items():
        if name.startswith(f"{split}/"):
            report(f"Left out {name}: {problem}")
    if not data.pairs.splits[split]:
        raise UserError(f"Not one file of {data.pairs.root / split} can be read. Mend them, or take another --split.")
    return config, data


def _take_reference(data: Data, split: str) -> scoring.Split:
    if data.reading.target_kind.labels:
        raise UserError("--reference is for images; the run's targets are label maps. Leave it out.")
    if not data.pairs.splits[split]:
        raise UserError(
            f"--reference={split} compares with the targets of {split}/, and {data.pairs.root} has none that can be "
            "read. Leave it out, or name another split."
        )
    return scoring.take_split(data.pairs, data.reading, split)


def _after_batch(
    progress: ProgressLine, done: int, text: str, write: Callable[[int, np.ndarray], None] | None
) -> Callable[[int, np.ndarray], None]:
    def on_batch(first: int, generated: np.ndarray) -> None:
        if write:
            write(first, generated)
        progress.update(done + first + len(generated), text)

    return on_batch


def _palette(pairs: scoring.Split) -> np.ndarray | None:
    """In which colours label maps are written: those of the first target's file, if it lies loose and has any."""
    if not pairs.reading.target_kind.labels:
        return None
    row, own = pairs.files.paths[0], None
    if pairs.files.offsets is None:
        own = palette_of(row[pairs.reading.target_panel if len(row) > 1 else 0])
    return class_colours() if own is None else own


def _image_writer(folder: Path, names: Sequence[str], palette: np.ndarray | None) -> Callable[[int, np.ndarray], None]:
    """Writes batches of images as PNG under their sources' names."""
    files = file_names(names, ".png")

    def write(first: int, generated: np.ndarray) -> None:
        for file, image in zip(files[first : first + len(generated)], generated, strict=True):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / file, codec.encode(image, palette), sync=False)

    return write


def _sheet(
    generate: Callable[[tf.Tensor], tf.Tensor], pairs: scoring.Split, l1: np.ndarray, titles: list[str]
) -> np.ndarray:
    """Input, target and generated image of the best, median and worst pairs by L1."""
    order = np.argsort(l1, kind="stable")
    most, middle = min(SHEET_ROWS, len(order)), (len(order) - SHEET_ROWS) // 2
    ranks = {"best": range(most), "median": range(max(0, middle), max(0, middle) + most)}
    ranks["worst"] = range(len(order) - most, len(order))
    shown = {int(order[rank]): name for name, among in ranks.items() for rank in among}  # each pair once
    chosen = inference_dataset(pairs.files.take(list(shown)), pairs.reading, batch_size=len(shown))
    input_image, target_image = next(iter(chosen))
    columns = [*codec.split_channels(input_image, pairs.reading.input_kinds), target_image, generate(input_image)]
    rows = codec.visible_rows(columns, (*pairs.reading.kinds, pairs.reading.target_kind))
    captions = [f"{rank}: {pairs.names[i]}, L1 {l1[i]:.4f}" for i, rank in shown.items()]
    return grid(rows, titles, captions)
