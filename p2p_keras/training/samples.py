"""The same few pairs after every epoch: input | target | generated, a row each, as in the report's figures."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from p2p_keras.data.pairs import Pairs, Reading
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.data.stems import stem
from p2p_keras.errors import UserError
from p2p_keras.images import codec
from p2p_keras.images.sheets import grid

ROWS = 6


def make_sampler(
    generate: Callable[[tf.Tensor], tf.Tensor],
    pairs: Pairs,
    reading: Reading,
    report: Callable[[str], None],
    names: Sequence[str] = (),
) -> Callable[[], np.ndarray]:
    """Returns a function that draws the grid with the generator as it is then: uint8 (H, W, 3), see `codec.visible`.

    The pairs are those named, else a few spread evenly, of `val`; without it of `test`, without that of `train`, which
    is said.

    Args:
        generate: From `models.make_inference`.
        pairs: The data set.
        reading: How they are read.
        report: Called with a line if the pairs are not of `val`.
        names: Of pairs, as in the split's folder, with or without extension.

    Raises:
        UserError: There is no pair of that name.
    """
    split = next(split for split in ("val", "test", "train") if pairs.splits[split])
    if split != "val":
        report(f"There is no val/, so the sample images are of {split}/")
    files = pairs.files(split)
    if names:
        files = files.take(_rows(names, pairs.splits[split], split))
    elif len(files) > ROWS:
        files = files.take([i * len(files) // ROWS for i in range(ROWS)])
    input_image, target_image = next(iter(inference_dataset(files, reading, batch_size=len(files))))

    def draw() -> np.ndarray:
        generated = [generate(input_image[i : i + ROWS]) for i in range(0, len(files), ROWS)]  # in the memory of a few
        columns = [*codec.split_channels(input_image, reading.input_kinds), target_image, tf.concat(generated, 0)]
        inputs = [pairs.panels[panel] for panel in reading.input_panels] if len(reading.input_panels) > 1 else ["input"]
        rows = codec.visible_rows(columns, (*reading.kinds, reading.target_kind))
        return grid(rows, [*inputs, "target", "generated"])

    return draw


def _rows(names: Sequence[str], pairs: Sequence[str], split: str) -> list[int]:
    """The numbers of the pairs that are named, in the names' order."""
    inside = [pair.removeprefix(f"{split}/") for pair in pairs]
    found = [[i for i, pair in enumerate(inside) if name in (pair, stem(pair), pairs[i])] for name in names]
    unknown = [name for name, rows in zip(names, found, strict=True) if not rows]
    if unknown:
        raise UserError(
            f"--samples names pairs of {split}/, as {', '.join(inside[:3])}. There is none named {', '.join(unknown)}"
        )
    return [row for rows in found for row in rows]
