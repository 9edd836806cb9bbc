"""The pictures that the page offers to begin with. No gradio."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from p2p_keras.config import TrainConfig, input_kinds, target_kind
from p2p_keras.data import town
from p2p_keras.data.pairs import Pairs, Reading, find_pairs, find_panels
from p2p_keras.data.picture import ImageError
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.errors import UserError
from p2p_keras.images import codec
from p2p_keras.system.urls import is_url
from p2p_keras.translate import find_sources, read_inputs

COUNT = 6
_TOWN = ("aerial", "street")  # the panels of its scenes
Example = list[np.ndarray]  # levels of each input, (H, W, kind.depth), of one size


def from_folders(patterns: Sequence[str], config: TrainConfig, report: Callable[[str], None]) -> list[Example]:
    """The first pictures of a folder, or of one for each input, whose pictures go together by name.

    Args:
        patterns: As for `translate.find_sources`.
        config: The model's.
        report: Called with one line for each file that cannot be used.

    Raises:
        UserError: There is none, or not a folder for each input.
    """
    kinds, examples = input_kinds(config), []
    if len(patterns) != len(kinds):
        raise UserError(
            f"--examples is a folder for each input, with commas between. This model takes {len(kinds)}. "
            f"Received: {','.join(patterns)}"
        )
    for source in find_sources(patterns, report, "--examples"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
                warnings.filterwarnings("ignore", module="PIL")  # odd tags
                examples.append(read_inputs(source.files, kinds))
        except ImageError as problem:
            report(f"Skipped {' and '.join(map(str, source.files))}: {problem}")
        if len(examples) == COUNT:
            break
    return examples


def from_run(config: TrainConfig) -> list[Example]:
    """The first validation inputs of the data that a model was trained on, at the size trained on, if they are there.

    Returns:
        Scenes drawn anew for a model of the demo's town; nothing if the data have gone or cannot be read, or are not
        on this machine.
    """
    try:
        if config.data_dir is None:  # the demo's; or nobody knows, of what p2p-import made
            return _scenes(config) if config.panels == _TOWN else []
        if is_url(config.data_dir):
            return []
        pairs = find_pairs(Path(config.data_dir), config.panels)
        return _first_inputs(pairs, config)
    except (UserError, OSError, ValueError, tf.errors.OpError):
        return []  # the page does without


def _scenes(config: TrainConfig) -> list[Example]:
    size = config.image_size
    (panel,), _ = find_panels(config.direction, config.input_panels, config.target_panel, _TOWN)
    return [[town.draw_scene(0, "val", index, size.height)[panel]] for index in range(COUNT)]


def _first_inputs(pairs: Pairs, config: TrainConfig) -> list[Example]:
    split = next(split for split in ("val", "test", "train") if pairs.splits[split])
    kinds = input_kinds(config)
    inputs, target = find_panels(config.direction, config.input_panels, config.target_panel, pairs.panels)
    reading = Reading(pairs.panel_count, inputs, target, config.image_size, kinds, target_kind(config))
    reading = reading._replace(native=config.crops == "native")
    files = pairs.files(split)
    stack, _ = next(iter(inference_dataset(files.take(range(min(COUNT, len(files)))), reading, COUNT)))
    columns = [
        codec.from_unit_range(image.numpy(), kind)
        for image, kind in zip(codec.split_channels(stack, kinds), kinds, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]
