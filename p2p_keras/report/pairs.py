"""Pairs of a run's data set as its generator translates them, and how each scores."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.unreadable import unreadable_in_words
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.lanes import Lane
from p2p_keras.evaluation.run import find_data, memory_of
from p2p_keras.evaluation.split import Split, batches, fingerprint, take_split
from p2p_keras.images import codec
from p2p_keras.models import make_inference
from p2p_keras.system.urls import Url, to_folder
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, restore_each

SPLITS = ("val", "test", "train")  # in the order in which one is taken that has pairs
_BATCH_SIZE = 8  # images at a time; no result depends on it


class Pair(NamedTuple):
    """One of them, visible: uint8 (H, W, 3) each, in the size that the networks work in."""

    name: str
    inputs: list[np.ndarray]  # one for each input panel
    target: np.ndarray
    generated: np.ndarray
    scores: dict[str, float]  # metric -> its value; infinite where generated and target are equal


class Translated(NamedTuple):
    """Pairs of one split, translated by one checkpoint."""

    step: int
    split: str
    count: int  # pairs that the split has
    fingerprint: str  # equal for two runs that were given the same pairs to make the same of
    input_titles: tuple[str, ...]
    exact: tuple[bool, ...]  # for each input, then the target: whether it is a label map
    pairs: list[Pair]


def translate_pairs(
    workdir: Path,
    which: str = "latest",
    split: str | None = None,
    most: int = 100,
    data_dir: Path | Url | None = None,
    report: Callable[[str], None] = print,
) -> Translated:
    """Translates pairs of a run's data set, spread evenly over a split, and scores each by the paired metrics.

    Args:
        workdir: The run's folder.
        which: The checkpoint: `latest`, `best`, or a step.
        split: `val`, `test` or `train`; by default the first of them that has pairs.
        most: So many pairs at most.
        data_dir: Where the data lie, if not where the run says.
        report: Called with one line for each file or checkpoint that was left out.

    Raises:
        UserError: The data or the checkpoint are not there, or something in them cannot be used.
    """
    config, record = read_config(workdir / "config.json")
    if "imported" in record and data_dir is None:
        raise UserError("The generator was imported, without any pairs. Say where some are: --data_dir=DATA")
    checkpoints.choose(workdir / "checkpoints", which)  # before the data are read
    split = split or _first_split(record, data_dir)
    with memory_of(workdir, data_dir) as memory:
        config, data = find_data(config, data_dir, (), split, memory, report)
    chosen = take_split(data.pairs, data.reading, split, most)
    generator = build_generator(config)
    generate = make_inference(generator)
    step = next(iter(restore_each(generator, workdir / "checkpoints", which, report)))
    generated = []
    with unreadable_in_words([chosen.files], data.reading):
        scores = scoring.score_images(
            [Lane(generate, None)], chosen, _BATCH_SIZE, lambda first, images: generated.extend(images)
        )
        pairs = _collect(chosen, generated, scores.per_image)
    titles = config.input_panels or ("input",)
    exact = tuple(kind.labels for kind in data.reading.kinds)
    count = len(data.pairs.splits[split])
    return Translated(step, split, count, fingerprint(chosen), tuple(titles), exact, pairs)


def _first_split(record: dict, data_dir: Path | Url | None) -> str:
    if data_dir is None:
        counts = record.get("data", {}).get("counts")
        known = counts if isinstance(counts, dict) else {}
        return next((split for split in SPLITS if known.get(split)), "train")
    root, problems = to_folder(data_dir), []
    for split in SPLITS:
        try:
            find_pairs(root, needed=split)
            return split
        except UserError as error:
            problems.append(error)
    raise problems[-1]


def _collect(chosen: Split, generated: list[np.ndarray], per_image: dict[str, np.ndarray]) -> list[Pair]:
    reading, pairs = chosen.reading, []
    for _, input_image, target_image in batches(chosen, range(len(chosen.files)), _BATCH_SIZE):
        columns = [*codec.split_channels(input_image, reading.input_kinds), target_image]
        for row in codec.visible_rows([column.numpy() for column in columns], reading.kinds):
            number = len(pairs)
            *inputs, target = row
            shown = codec.visible(generated[number], reading.target_kind)
            scores = {name: float(values[number]) for name, values in per_image.items()}
            pairs.append(Pair(chosen.names[number], inputs, target, shown, scores))
    return pairs
