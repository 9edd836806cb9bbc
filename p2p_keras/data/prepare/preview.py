"""A dozen pairs under the names of their panels, so that a wrong order is seen before a night of training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from p2p_keras.data.manifest import Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.images.files import eight_bits
from p2p_keras.images.sheets import grid
from p2p_keras.system.files import naming

PAIRS = 12
_LONGEST = 256  # pixels of a panel's longer side in the sheet


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
    first = chosen[0]
    scale = min(1, _LONGEST / max(first.height, first.width // len(panels)))
    size = (max(1, round(first.width // len(panels) * scale)), max(1, round(first.height * scale)))
    shown = [_panels(root / entry.name, len(panels), size) for entry in chosen]
    across = min(max(1, 6 // len(panels)), len(shown))
    blank = [np.full_like(panel, 255) for panel in shown[0]]
    rows = [
        [panel for pair in (shown[first : first + across] + [blank] * across)[:across] for panel in pair]
        for first in range(0, len(shown), across)
    ]
    return grid(rows, [*panels] * across)


def _panels(path: Path, count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Each uint8 (H, W, 3) of `size`, width and height; one of another shape with white around it."""
    with naming(path), Image.open(path) as image:
        image = eight_bits(image).convert("RGB")
    width = image.width // count
    panels = [image.crop((i * width, 0, (i + 1) * width, image.height)) for i in range(count)]
    return [np.asarray(ImageOps.pad(panel, size, Image.Resampling.BICUBIC, "white")) for panel in panels]
