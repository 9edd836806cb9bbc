"""What a prepared data set says about itself: `dataset.json`, and `manifest.csv` with a line for each pair."""

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.errors import UserError
from p2p_keras.sizes import to_size
from p2p_keras.system.files import leads_out, naming
from p2p_keras.system.sealed import unseal
from p2p_keras.system.tables import format_rows, parse_rows
from p2p_keras.system.urls import Url, read_json

DESCRIPTION, MANIFEST = "dataset.json", "manifest.csv"
UNFINISHED = ".prepare"  # a folder that is there as long as p2p-prepare is not through
FORMAT = 1
MOST_PARTS = 99_999  # that p2p-prepare --part divides a data set into
FRAME = 16  # bytes of a TFRecord around its content: the length, and a checksum of either


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
_FORMS = {"split": "train|val|test", "sha256": "[0-9a-f]{64}", "perceptual_hash": "([0-9a-f]{16})+"}


def read_description(path: Path | Url) -> dict:
    """Reads `dataset.json`; empty if there is none.

    Raises:
        UserError: It is not JSON, or does not say what it should.
    """
    if not path.exists():
        return {}
    try:
        described = read_json(path)
        if not isinstance(described, dict):
            raise ValueError("it is no object")
        if unseal(described) is None:
            raise ValueError("it is not as p2p-prepare wrote it, by its checksum; if you changed it, take crc32 out")
        described = unseal(described)
        for name, (is_right, what) in _SAID.items():
            if name in described and not is_right(described[name]):
                raise ValueError(f"{name} must be {what}, is {described[name]!r:.60}")
        for name in (*described.get("panels", ()), *described.get("shards", ())):
            if leads_out(name):
                raise ValueError(f"{name} leads out of its folder")
        return described
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"dataset.json must be a JSON object that says what a data set is. {path} cannot be read: {error}. Mend it."
        ) from error


def read(path: Path | Url) -> dict[str, Entry]:
    """Reads `manifest.csv`: name -> entry, in the file's order. A last line that was cut short is skipped.

    Raises:
        UserError: It cannot be read.
    """
    entries = {}
    try:
        content = path.read_bytes()
        columns, *lines = parse_rows(content[: content.rfind(b"\n") + 1]) or [[]]
        if tuple(columns) != Entry._fields:
            raise ValueError(f"its columns are {','.join(columns):.200}")
        for line in lines:
            entry = _to_entry(line)
            entries[entry.name] = entry
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    return entries


def check_whole(path: Path | Url, entries: dict[str, Entry], described: dict[str, Any]) -> None:
    """Checks that `manifest.csv` lists all that `dataset.json` describes: damage is not to cost pairs silently.

    Args:
        path: The manifest.
        entries: What was read of it.
        described: What was read of `dataset.json`.

    Raises:
        UserError: Pairs are missing, or are not where and how they must be.
    """
    for split, count in described.get("splits", {}).items():
        found = sum(entry.split == split for entry in entries.values())
        if found != count:
            raise _damaged(path, f"lists {found} pairs of {split}, and dataset.json says {count}")
    if "image_size" in described:
        size, panels = to_size(described["image_size"]), len(described.get("panels", ())) or 2
        for entry in entries.values():
            if (entry.height, entry.width) != (size.height, size.width * panels):
                found = f"{entry.width}x{entry.height} pixels, and dataset.json says {panels} panels of {size}"
                raise _damaged(path, f"gives {entry.name:.200} {found}")
    shards = described.get("shards") or {"": 0}  # loose files are in none, at 0
    ends = dict.fromkeys(shards, 0)
    for entry in sorted(entries.values(), key=lambda entry: (entry.shard, entry.offset)):
        if entry.offset != ends.get(entry.shard):
            raise _damaged(path, f"puts {entry.name:.200} at {entry.offset} of {entry.shard or 'no shard'}; it is not")
        ends[entry.shard] += entry.bytes + FRAME if entry.shard else 0
    for shard, size in shards.items():
        if ends[shard] != size:
            raise _damaged(path, f"lists {ends[shard]} bytes of {shard}, and dataset.json says {size}")


def read_journal(path: Path) -> dict[str, Entry]:
    """Reads the lines of a manifest that were written one by one by processes that may have been killed: name -> entry.

    Nothing in it is an error. A line counts if it is just what `format_lines` writes for the entry that it holds: none
    that was cut short, and none that was added to one. The last line for a name counts.
    """
    entries = {}
    with naming(path):
        content = path.read_bytes() if path.exists() else b""
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            for values in parse_rows(line):
                entry = _to_entry(values)
                if format_lines([entry]).encode() == line + b"\n":
                    entries[entry.name] = entry
    return entries


def format_lines(entries: Iterable[Entry]) -> str:
    """Lines of `manifest.csv`, without its head."""
    return format_rows(entries)


def _to_entry(values: list[str]) -> Entry:
    if len(values) != len(Entry._fields):
        raise ValueError(f"a line has {len(values)} cells instead of {len(Entry._fields)}")
    cells: list[str | int] = []
    for (name, kind), value in zip(Entry.__annotations__.items(), values, strict=True):
        form = "[0-9]{1,18}" if kind is int else _FORMS.get(name)
        if form and not re.fullmatch(form, value):
            raise ValueError(f"{name} is {value:.80}")
        cells.append(kind(value))
    entry = Entry(*cells)
    # A manifest may be a stranger's, and files are written and removed under the names in it.
    for name in (entry.split, entry.pair, entry.shard):
        if leads_out(name):
            raise ValueError(f"{name} leads out of its folder")
    return entry


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(
        f"A prepared data set has a manifest.csv written by p2p-prepare. {path} {problem}. Put it back as it was, "
        "remove it to have the images themselves looked through if they lie loose, or prepare the data set again."
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _are_panels(value: Any) -> bool:
    are_names = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return are_names and len(set(value)) == len(value) != 1


def _is_size(value: Any) -> bool:
    try:
        return bool(to_size(value))
    except ValueError:
        return False


def _is_source(value: Any) -> bool:
    if isinstance(value, str):  # as of the demo's town, or by hand
        return True
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("kind", "folders"))


# What dataset.json may say that is read again: name -> whether a value is right, and what it must be.
_SAID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: value == FORMAT, f"{FORMAT}, which this version knows"),
    "panels": (_are_panels, "a list of two or more different names"),
    "image_size": (_is_size, "one number, or height and width"),
    "channels": (lambda value: type(value) is int and 1 <= value <= 4, "1 to 4"),
    "bits": (lambda value: type(value) is int and value in (8, 16), "8 or 16"),
    "splits": (_are_counts, "numbers of pairs"),
    "shards": (_are_counts, "files and their sizes"),
    "rejected": (_is_count, "a number of pairs"),
    "source": (_is_source, "where the pairs came from"),
    "settings": (lambda value: isinstance(value, dict), "an object"),
    "parts": (lambda value: type(value) is int and 1 <= value <= MOST_PARTS, f"1 to {MOST_PARTS}"),
}
