"""The pairs that are scored, and how they are known again."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from p2p_keras.data.pairs import Files, Pairs, Reading, byte_sizes
from p2p_keras.data.pipeline import inference_dataset


class Split(NamedTuple):
    """The pairs that are scored."""

    name: str
    names: tuple[str, ...]  # of the files, below the split's folder
    files: Files
    reading: Reading


def take_split(pairs: Pairs, reading: Reading, split: str, limit: int | None = None) -> Split:
    """The pairs of a split, or `limit` of them spread evenly."""
    names, files = pairs.splits[split], pairs.files(split)
    if limit is not None and limit < len(names):
        spread = [i * len(names) // limit for i in range(limit)]
        names, files = [names[i] for i in spread], files.take(spread)
    return Split(split, tuple(name.removeprefix(f"{split}/") for name in names), files, reading)


def batches(split: Split, rows: range, batch_size: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
    """Of some of the pairs, each with the number of its first pair in the split."""
    for number, images in enumerate(inference_dataset(split.files.take(rows), split.reading, batch_size)):
        yield rows.start + number * batch_size, *images


def fingerprint(split: Split) -> str:
    """A checksum over the pairs' names and sizes, and how they are read, wherever they lie."""
    digest = hashlib.sha256(f"{_describe_reading(split.reading)}\n".encode())
    for name, size in zip(split.names, byte_sizes(split.files), strict=True):
        digest.update(f"{name}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def _describe_reading(reading: Reading) -> str:
    """How it is read, as far as what is scored depends on it; in the words of earlier versions where those had any."""
    panels, kinds = reading.input_panels, reading.input_kinds
    described = (
        f"Reading(panel_count={reading.panel_count}, input_panel={panels[0] if len(panels) == 1 else panels}, "
        f"target_panel={reading.target_panel}, image_size={reading.image_size.plain}, "
        f"input_kind={kinds[0] if len(kinds) == 1 else kinds}, target_kind={reading.target_kind})"
    )
    return f"{described} native" if reading.native else described
