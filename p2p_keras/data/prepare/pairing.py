"""Pairs by a table: a CSV with a line for each pair, where an image and its partner have different names."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from p2p_keras.data.listing import SOURCE_EXTENSIONS, list_images
from p2p_keras.data.prepare.sources import BY_TABLE, FOLDER_EACH, Found, Source, nonempty, panel_names, require
from p2p_keras.data.stems import stem
from p2p_keras.errors import UserError
from p2p_keras.system.files import checksum


class _MissingError(Exception):
    """There is no image of a name; the message says why."""


def listed_pairs(table: Path, folders: Sequence[Path], panels: tuple[str, ...] = ()) -> Found:
    """Single images in a folder for each panel, paired as a table says.

    The table has a column for each folder: the image's path below it, with or without its extension. A first line that
    names no image is a header. An image belongs to one pair, so that it cannot come into two splits; a pair has the
    name of its first image.

    Args:
        table: A CSV in UTF-8, its columns apart by commas, semicolons or tabs.
        folders: In the order of the panels.
        panels: Their names; the folders' own without them.

    Returns:
        The pairs. What is `unmatched` are lines that make none, and images in no line.

    Raises:
        UserError: The table or a folder cannot be read, a line has another number of columns, or none makes a pair.
    """
    panels = panel_names(folders, panels)
    places = []
    for folder in folders:
        require(folder)
        places.append(_Place(folder))
    rows, remarks = _read(table, len(folders)), ()
    if rows and not any(place.knows(cell) for place, cell in zip(places, rows[0][1], strict=True)):
        line, cells = rows.pop(0)
        remarks = (f"{','.join(cells)}, line {line} of {table}, is taken for its header: it names no image",)
    sources, unmatched = {}, {}
    line_of: dict[str, int] = {}  # file -> where it was named
    for line, cells in rows:
        where = f"{table}, line {line}"
        try:
            files = tuple(place.find(cell) for place, cell in zip(places, cells, strict=True))
        except _MissingError as missing:
            unmatched[where] = str(missing)
            continue
        name = stem(os.path.relpath(files[0], folders[0])).replace(os.sep, "/")
        again = next((file for file in files if file in line_of), None)
        if len(set(files)) < len(files):
            unmatched[where] = f"it pairs {files[0]} with itself"
        elif again:
            unmatched[where] = f"{again} is in line {line_of[again]} already; an image belongs to one pair"
        elif name in sources:
            unmatched[where] = f"another pair has the name {name}"
        else:
            sources[name] = Source(name, files)
            line_of |= dict.fromkeys(files, line)
    for place in places:
        unmatched |= place.rest(set(line_of), f"it is in no line of {table}")
    # Another table makes other pairs, of which names and sizes need not tell.
    kind = f"{FOLDER_EACH}{BY_TABLE}{checksum(table)[:16]}"
    pairs = [sources[name] for name in sorted(sources)]
    found = Found(pairs, panels, unmatched, kind, tuple(map(str, folders)), remarks)
    return nonempty(found, folders[0], f"lines of {table} that name two images")


class _Place:
    """A folder, and the images in it by their paths and by those without the extension."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        images, self.others = list_images(folder, "", extensions=SOURCE_EXTENSIONS)
        self.images: dict[str, list[str]] = {}
        for path in images:
            for name in {path, stem(path)}:
                self.images.setdefault(name, []).append(path)

    def knows(self, cell: str) -> bool:
        """Whether a cell names an image, be it one that is not there."""
        return cell.lower().endswith(SOURCE_EXTENSIONS) or self._inside(cell) in self.images

    def find(self, cell: str) -> str:
        """The file that a cell names; raises `_MissingError`."""
        name = self._inside(cell)
        if name.split("/")[0] == "..":
            raise _MissingError(f"{cell} lies outside of {self.folder}")
        paths = [name] if name in self.images.get(name, ()) else self.images.get(name, [])
        if len(paths) > 1:
            raise _MissingError(f"several files in {self.folder} have the name {cell}; add the extension")
        if not paths:
            raise _MissingError(f"there is no image {cell} in {self.folder}" + self._why(name))
        return str(self.folder / paths[0])

    def rest(self, used: set[str], why: str) -> dict[str, str]:
        """The files in it that are not used -> why."""
        images = sorted(set().union(*self.images.values()))
        reasons = {**dict.fromkeys(images, why), **self.others}
        return {str(self.folder / name): why for name, why in reasons.items() if str(self.folder / name) not in used}

    def _inside(self, cell: str) -> str:
        path = os.path.relpath(cell, os.path.abspath(self.folder)) if os.path.isabs(cell) else os.path.normpath(cell)
        return path.replace(os.sep, "/")

    def _why(self, name: str) -> str:
        return f": {self.others[name]}" if name in self.others else ""


def _read(table: Path, columns: int) -> list[tuple[int, list[str]]]:
    """The lines that are not empty: number, and as many cells as there are to be columns."""
    try:
        text = table.read_text(encoding="utf-8-sig")  # table programs begin a file with a byte order mark
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--pairs is a CSV file with a line for each pair. {table} cannot be read: {error}") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    for line, cells in rows:
        if len(cells) != columns or not all(cells):
            raise UserError(
                f"A line of --pairs names {columns} images, one of each folder, as left.jpg,right.jpg. Line {line} of "
                f"{table} is: {delimiter.join(cells):.500}"
            )
    return rows
