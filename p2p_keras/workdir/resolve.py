"""Where settings meet the data and the devices: finds the pairs, checks them, fills in what was left open."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from p2p_keras.config import TrainConfig, best_metric, default_load_size, input_kinds, target_kind
from p2p_keras.data import check, town
from p2p_keras.data.pairs import Pairs, Reading, find_pairs, find_panels
from p2p_keras.errors import UserError
from p2p_keras.presets import DEMO
from p2p_keras.sizes import Size
from p2p_keras.system.cache import cache_folder
from p2p_keras.system.devices import fast_precision
from p2p_keras.system.progress import ProgressLine
from p2p_keras.system.urls import to_folder


class Data(NamedTuple):
    """The checked pairs, and how to read them."""

    pairs: Pairs
    bad: dict[str, str]  # relative path -> problem, of those left out
    reading: Reading


def resolve(
    config: TrainConfig, saved: TrainConfig | None, folder: Path, report: Callable[[str], None], needed: str = "train"
) -> tuple[TrainConfig, Data]:
    """Finds the data, and fills in what the settings leave open: from the saved run, the data set, the devices.

    Args:
        config: What is asked for.
        saved: What the run in this folder was begun with, if there is one.
        folder: Gets `data_check.json`, which remembers that the files were read.
        report: Called with a line that says where the demo data set is.
        needed: The split without which nothing can be done.

    Raises:
        UserError: The data set is not there, or not as it must be.
    """
    if saved:
        config = dataclasses.replace(
            config,
            panels=config.panels or saved.panels,
            image_size=config.image_size or saved.image_size,
            input_channels=config.input_channels or saved.input_channels,
            output_channels=config.output_channels or saved.output_channels,
            input_bits=config.input_bits or saved.input_bits,
            output_bits=config.output_bits or saved.output_bits,
            precision=saved.precision if config.precision == "auto" else config.precision,
        )
        if saved.eval_every_epochs:  # an extractor that is given later does not change what the best was judged by
            config = dataclasses.replace(config, best_metric=config.best_metric or best_metric(saved))
    if config.data_dir is None:
        config = dataclasses.replace(config, image_size=config.image_size or DEMO["image_size"])
        pairs = find_pairs(_town(_square(config.image_size), report), config.panels, needed)
    else:
        pairs = find_pairs(to_folder(config.data_dir), config.panels, needed)
    input_panels, target_panel = find_panels(config.direction, config.input_panels, config.target_panel, pairs.panels)
    *input_bits, target_bits = check.bit_depths(pairs, needed, (*input_panels, target_panel))
    classes = config.labels or (0,) * len(input_panels)
    if not config.image_size and pairs.image_size and any(side % 32 for side in pairs.image_size):
        raise UserError(
            f"The data set's images are of {pairs.image_size} pixels, as its dataset.json says, and the networks need "
            "multiples of 32. Say to what they are to be resized, as --image_size=256."
        )
    config = dataclasses.replace(
        config,
        panels=pairs.panels,
        image_size=config.image_size or pairs.image_size or 256,
        input_channels=config.input_channels or tuple(number or pairs.channels or 3 for number in classes),
        output_channels=config.output_channels or config.output_labels or pairs.channels or 3,
        input_bits=config.input_bits or tuple(input_bits),
        output_bits=config.output_bits or target_bits,
        precision=fast_precision() if config.precision == "auto" else config.precision,
        best_metric=best_metric(config) if config.eval_every_epochs else config.best_metric,
    )
    reading = Reading(
        pairs.panel_count,
        input_panels,
        target_panel,
        config.image_size,
        input_kinds(config),
        target_kind(config),
        config.load_size or (default_load_size(config.image_size) if config.jitter else config.image_size),
        config.crops == "native",
        config.mirror,
    )
    progress = None

    def show(done: int, total: int) -> None:
        nonlocal progress
        progress = progress or ProgressLine(total, "pairs")
        progress.update(done, "checking")

    pairs, bad = check.checked(pairs, reading, config.max_bad_files, folder / "data_check.json", show)
    if progress:
        progress.clear()
    return config, Data(pairs, bad, reading)


def _square(size: Size) -> int:
    if size.height != size.width:
        raise UserError(f"The demo town is drawn in squares. Received: --image_size={size}. Take a square one.")
    return size.height


def _town(image_size: int, report: Callable[[str], None]) -> Path:
    progress = ProgressLine(sum(town.COUNTS.values()), "pairs")
    root = town.ensure_town(
        cache_folder(), image_size, on_progress=lambda done, total: progress.update(done, "drawing the demo town")
    )
    progress.clear()
    report(f"The demo data set, a drawn town: {root}")
    return root
