"""Pairs of a data set whose panels seem shifted against each other, or mirrored: of any two that show the same."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from p2p_keras.data import shifted
from p2p_keras.data.manifest import Entry
from p2p_keras.data.prepare.shards import files_of


class Misaligned(NamedTuple):
    """A panel of a pair, and where what it shows lies, seen from another."""

    pair: str
    panel: str
    against: str
    right: int  # pixels; negative: left
    down: int
    mirrored: bool


def find_misaligned(entries: Sequence[Entry], root: Path, panels: Sequence[str]) -> tuple[list[Misaligned], list[str]]:
    """Looks at a sample of pairs.

    Args:
        entries: Of the data set; their composites lie loose, or in the shards that they name.
        root: Its folder.
        panels: Their names, left to right.

    Returns:
        Those that seem misaligned; and a line about each two panels of which there are any.
    """
    files, names = files_of(root, entries), [entry.name for entry in entries]
    rows, lines = [], []
    for first, second in itertools.combinations(range(len(panels)), 2):
        looked_at, found = shifted.find_misaligned(files, names, len(panels), (first, second))
        sides = (panels[first], panels[second])
        rows += [Misaligned(one.pair, sides[1], sides[0], *one[1:]) for one in found]
        lines += [shifted.in_one_line(looked_at, found, sides)] if found else []
    return rows, lines
