"""Images of an evaluation: a sheet of the best and the worst, and each generated one by itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.evaluation.split import Split
from p2p_keras.images import codec
from p2p_keras.images.files import file_names, palette_of, write_whole
from p2p_keras.images.sheets import class_colours, grid

SHEET_ROWS = 3  # of the best, of the median, of the worst


def palette_for(pairs: Split) -> np.ndarray | None:
    """In which colours label maps are written: those of the first target's file, if it lies loose and has any."""
    if not pairs.reading.target_kind.labels:
        return None
    row, own = pairs.files.paths[0], None
    if pairs.files.offsets is None:
        own = palette_of(row[pairs.reading.target_panel if len(row) > 1 else 0])
    return class_colours() if own is None else own


def image_writer(folder: Path, names: Sequence[str], palette: np.ndarray | None) -> Callable[[int, np.ndarray], None]:
    """Writes batches of images as PNG under their sources' names."""
    files = file_names(names, ".png")

    def write(first: int, generated: np.ndarray) -> None:
        for file, image in zip(files[first : first + len(generated)], generated, strict=True):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / file, codec.encode(image, palette), sync=False)

    return write


def draw_sheet(
    generate: Callable[[tf.Tensor], tf.Tensor], pairs: Split, l1: np.ndarray, titles: list[str]
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
