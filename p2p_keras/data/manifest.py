"""What a prepared data set says about itself: `dataset.json`, and `manifest.csv` with a line for each pair."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from p2p_keras.errors import UserError
from p2p_keras.system.files import naming

DESCRIPTION, MANIFEST = "dataset.json", "manifest.csv"
UNFINISHED = ".prepare"  # a folder that is there as long as p2p-prepare is not through
FORMAT = 1


class Entry(NamedTuple):
    """A line of `manifest.csv`.

    Attributes:
        pair: The composite's path below its split's folder, with "/" between folders.
        split: `train`, `val` or `test`.
        width: Of the composite, pixels.
        height: Of the composite, pixels.
        bytes: Of its file.
        sha256: Of its file, hexadecimal.
        perceptual_hash: 16 hexadecimal digits for each panel, left to right.
        source_bytes: Of each file that it was made from, in their order, as "123+456"; in manifests of earlier versions
            their sum.
        shard: The TFRecord file that holds it, relative to the data set; empty if it lies loose.
        offset: Where its record begins in the shard.
    """

    pair: str
    split: str
    width: int
    height: int
    bytes: int
    sha256: str
    perceptual_hash: str
    source_bytes: str
    shard: str = ""
    offset: int = 0

    @property
    def name(self) -> str:
        """The composite's path in the data set."""
        return f"{self.split}/{self.pair}"


HEAD = ",".join(Entry._fields) + "\n"
_KINDS = tuple(Entry.__annotations__.values())


def read_description(path: Path) -> dict:
    """Reads `dataset.json`; empty if there is none.

    Raises:
        UserError: It is not JSON, or does not say what it should.
    """
    if not path.exists():
        return {}
    try:
        described = json.loads(path.read_text())
        panels = described.get("panels", [])
        if not all(isinstance(name, str) for name in panels):
            raise ValueError(f"panels must be a list of names, is {panels}")
        if described.get("format", FORMAT) != FORMAT:
            raise ValueError(f"its format is {described['format']}, this version knows {FORMAT}")
        return described
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"dataset.json must be a JSON object. {path} cannot be read: {error}") from error


def read(path: Path) -> dict[str, Entry]:
    """Reads `manifest.csv`: name -> entry, in the file's order. A last line that was cut short is skipped.

    Raises:
        UserError: It cannot be read.
    """
    entries = {}
    try:
        text = path.read_text(encoding="utf-8")
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        columns = next(lines, [])
        if tuple(columns) != Entry._fields:
            raise ValueError(f"its columns are {','.join(columns)}")
        for line in lines:
            entry = _to_entry(line)
            entries[entry.name] = entry
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"A prepared data set has a manifest.csv written by p2p-prepare. {path} cannot be read: {error}. "
            "Remove it to have the images themselves looked through, or prepare the data set again."
        ) from error
    return entries


def read_journal(path: Path) -> dict[str, Entry]:
    """Reads the lines of a manifest that were written one by one by processes that may have been killed: name -> entry.

    Nothing in it is an error. A line counts if it is just what `format_lines` writes for the entry that it holds: none
    that was cut short, and none that was added to one. The last line for a name counts.
    """
    entries = {}
    with naming(path):
        content = path.read_bytes() if path.exists() else b""
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError, csv.Error):
            text = line.decode("utf-8")
            for values in csv.reader([text]):
                entry = _to_entry(values)
                if format_lines([entry]) == text + "\n":
                    entries[entry.name] = entry
    return entries


def format_lines(entries: Iterable[Entry]) -> str:
    """Lines of `manifest.csv`, without its head."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(entries)
    return text.getvalue()


def _to_entry(values: list[str]) -> Entry:
    return Entry(*(kind(value) for kind, value in zip(_KINDS, values, strict=True)))
