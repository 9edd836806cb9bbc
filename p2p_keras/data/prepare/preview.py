"""A dozen pairs under the names of their panels, so that a wrong order is seen before a night of training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from p2p_keras.data.manifest import Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.images.files import eight_bits
from p2p_keras.images.sheets import grid

PAIRS = 12
_WIDEST = 256  # pixels of a panel in the sheet


def draw_preview(entries: Sequence[Entry], root: Path, panels: Sequence[str]) -> np.ndarray:
    """Lays out pairs spread evenly over the training split (the first that has any pair): uint8 (H, W, 3).

    Args:
        entries: Of the data set, whose composites still lie loose.
        root: Its folder.
        panels: Their names, left to right.
    """
    shown_split = next(split for split in SPLITS if any(entry.split == split for entry in entries))
    there = [entry for entry in entries if entry.split == shown_split]
    chosen = [there[i * len(there) // PAIRS] for i in range(PAIRS)] if len(there) > PAIRS else there
    shown = [_panels(root / entry.name, len(panels)) for entry in chosen]
    across = min(max(1, 6 // len(panels)), len(shown))
    blank = [np.full_like(panel, 255) for panel in shown[0]]
    rows = [
        [panel for pair in (shown[first : first + across] + [blank] * across)[:across] for panel in pair]
        for first in range(0, len(shown), across)
    ]
    return grid(rows, [*panels] * across)


def _panels(path: Path, count: int) -> list[np.ndarray]:
    with Image.open(path) as image:
        image = eight_bits(image).convert("RGB")
    if image.height > _WIDEST:
        image = image.resize((_WIDEST * count, _WIDEST), Image.Resampling.BICUBIC)
    return np.split(np.asarray(image), count, axis=1)
