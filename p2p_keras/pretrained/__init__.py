"""Generators that come with the package, each a SavedModel in a folder of its name. benchmarks/town.py made them; their
scores lie beside them. No TensorFlow.
"""

import os
from pathlib import Path

NAMES = ("town",)


def locate(model: str | os.PathLike) -> Path:
    """The folder of a generator that comes with the package, by its name; any other path as it is.

    A folder of one's own that has such a name is given as `./town` or `town/`, or as a `Path`, which is never a name.
    """
    return Path(__file__).parent / model if model in NAMES else Path(model)
