"""Generators that come with the package, each a SavedModel in a folder of its name. benchmarks/town.py made them; their
scores lie beside them. No TensorFlow.
"""

from pathlib import Path

NAMES = ("town",)


def locate(model: str | Path) -> Path:
    """The folder of a generator that comes with the package, by its name; any other path as it is.

    A folder of one's own that has such a name is given as `./town`.
    """
    return Path(__file__).parent / model if str(model) in NAMES else Path(model)
