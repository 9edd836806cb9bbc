"""Where settings meet the data and the devices: finds the pairs, checks them, fills in what was left open."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from p2p_keras.cache import cache_folder
from p2p_keras.config import DEMO, TrainConfig
from p2p_keras.data import check, town
from p2p_keras.data.pairs import Pairs, find_pairs, select_panels
from p2p_keras.devices import fast_precision
from p2p_keras.progress import ProgressLine


class Data(NamedTuple):
    """The checked pairs, and how to read them."""

    pairs: Pairs
    bad: dict[str, str]  # relative path -> problem, of those left out
    reading: tuple[int, int, int, int]  # panel_count, input_panel, target_panel, image_size


def settle(
    config: TrainConfig, saved: TrainConfig | None, folder: Path, report: Callable[[str], None], needed: str = "train"
) -> tuple[TrainConfig, Data]:
    """Finds the data, and fills in what the settings leave open: from the saved run, the data set, the devices.

    Args:
        config: What is asked for.
        saved: What the run in this folder was begun with, if there is one.
        folder: Gets `data_check.json`, which remembers that the files were read.
        report: Told where the demo data set is.
        needed: The split without which nothing can be done.

    Raises:
        UserError: The data set is not there, or not as it must be.
    """
    if saved:
        config = dataclasses.replace(
            config,
            panels=config.panels or saved.panels,
            image_size=config.image_size or saved.image_size,
            precision=saved.precision if config.precision == "auto" else config.precision,
        )
    if config.data_dir is None:
        config = dataclasses.replace(config, image_size=config.image_size or DEMO["image_size"])
        pairs = find_pairs(_town(config.image_size, report), config.panels, needed)
    else:
        pairs = find_pairs(Path(config.data_dir), config.panels, needed)
    config = dataclasses.replace(
        config,
        panels=pairs.panels,
        image_size=config.image_size or pairs.image_size or 256,
        precision=fast_precision() if config.precision == "auto" else config.precision,
    )
    input_panel, target_panel = select_panels(config.direction, config.panels)
    progress = ProgressLine(sum(map(len, pairs.splits.values())), "files")
    pairs, bad = check.checked(
        pairs, config.max_bad_files, folder / "data_check.json", lambda done: progress.update(done, "checking")
    )
    progress.clear()
    return config, Data(pairs, bad, (pairs.panel_count, input_panel, target_panel, config.image_size))


def _town(image_size: int, report: Callable[[str], None]) -> Path:
    progress = ProgressLine(sum(town.COUNTS.values()), "pairs")
    root = town.ensure_town(
        cache_folder(), image_size, on_progress=lambda done, total: progress.update(done, "drawing the demo town")
    )
    progress.clear()
    report(f"The demo data set, a drawn town: {root}")
    return root
