"""The same few pairs after every epoch: input | target | generated, a row each, as in the report's figures."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from p2p_keras.data.pairs import Pairs, Reading
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.images import codec
from p2p_keras.images.sheets import grid

ROWS = 6


def make_sampler(
    generate: Callable[[tf.Tensor], tf.Tensor],
    pairs: Pairs,
    reading: Reading,
    report: Callable[[str], None],
) -> Callable[[], np.ndarray]:
    """Returns a function that draws the grid with the generator as it is then: uint8 (H, W, 3), see `codec.visible`.

    The pairs are spread evenly over `val`; without it over `test`, without that over `train`, which is said.

    Args:
        generate: From `models.make_inference`.
        pairs: The data set.
        reading: How they are read.
        report: Called with a line if the pairs are not of `val`.
    """
    split = next(split for split in ("val", "test", "train") if pairs.splits[split])
    if split != "val":
        report(f"There is no val/, so the sample images are of {split}/")
    files = pairs.files(split)
    if len(files) > ROWS:
        files = files.take([i * len(files) // ROWS for i in range(ROWS)])
    input_image, target_image = next(iter(inference_dataset(files, reading, batch_size=ROWS)))

    def draw() -> np.ndarray:
        columns = [*codec.split_channels(input_image, reading.input_kinds), target_image, generate(input_image)]
        inputs = [pairs.panels[panel] for panel in reading.input_panels] if len(reading.input_panels) > 1 else ["input"]
        rows = codec.visible_rows(columns, (*reading.kinds, reading.target_kind))
        return grid(rows, [*inputs, "target", "generated"])

    return draw
