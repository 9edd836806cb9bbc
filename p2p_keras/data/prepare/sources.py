"""Where the images come from: the layouts that people have -> one list of pairs that are to be made."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from p2p_keras.data.listing import SOURCE_EXTENSIONS, list_images
from p2p_keras.data.manifest import DESCRIPTION, read_description
from p2p_keras.data.pairs import SPLITS, Pairs, find_pairs
from p2p_keras.data.stems import match_stems, stem
from p2p_keras.errors import UserError

# GTCrossView's are streetview and overhead; people rename them.
_STREET, _AERIAL = ("street", "ground", "surface"), ("overhead", "aerial", "satellite")

FOLDER_EACH = "a folder for each panel"  # a kind of source
BY_TABLE = ", by the table of sha256 "  # and what its kind goes on with, where a table pairs the images


class Source(NamedTuple):
    """What one pair is made from.

    Attributes:
        name: Its path without extension, by which it is known: in lists, and in the prepared data set.
        files: The panels' files, left to right as they are to be; or one composite.
        split: The one it belongs to where it comes from; empty if it has none.
        cut: None for single images; else how many panels the composite has.
        chosen: Of a composite, which of its panels are wanted, in their order.
    """

    name: str
    files: tuple[str, ...]
    split: str = ""
    cut: int | None = None
    chosen: tuple[int, ...] = ()


class Found(NamedTuple):
    """All pairs of a source, by name."""

    sources: list[Source]
    panels: tuple[str, ...]
    unmatched: dict[str, str]  # file -> why it is in no pair
    kind: str  # of source
    folders: tuple[str, ...]  # where it is; if there is one for each panel, in their order
    remarks: tuple[str, ...] = ()

    @property
    def origin(self) -> dict[str, str]:
        """What `dataset.json` has as `source`."""
        return {"kind": self.kind, "folders": ", ".join(self.folders)}


def two_folders(folders: Sequence[Path], panels: tuple[str, ...] = ()) -> Found:
    """Single images in a folder for each panel; a pair has equal paths below them but for the extension.

    Args:
        folders: In the order of the panels.
        panels: Their names; the folders' own without them.

    Raises:
        UserError: A folder is missing, or there is not one pair.
    """
    panels = panel_names(folders, panels)
    listings, unmatched = [], {}
    for folder in folders:
        require(folder)
        images, others = list_images(folder, "", extensions=SOURCE_EXTENSIONS)
        listings.append(images)
        unmatched |= {str(folder / name): why for name, why in others.items()}
    matched, left = match_stems(listings)
    unmatched |= {str(folders[number] / path): why for (number, path), why in left.items()}
    sources = [
        Source(name, tuple(str(folder / path) for folder, path in zip(folders, paths, strict=True)))
        for name, paths in matched.items()
    ]
    found = Found(sources, panels, unmatched, FOLDER_EACH, tuple(map(str, folders)))
    endings = ", ".join(SOURCE_EXTENSIONS)
    return nonempty(found, folders[0], f"images ({endings}) of equal names, or --pairs=FILE.csv for other names")


def dayton(folder: Path, panels: tuple[str, ...] = ()) -> Found:
    """GTCrossView: street and overhead images of equal names, somewhere below one folder.

    An image is of the street or from above by the name of a folder on its way (`streetview`, `overhead`), and pairs up
    with the one whose path is equal but for that folder.

    Args:
        folder: What was unpacked.
        panels: `street,aerial` (the report's order, and the default) or `aerial,street`.

    Raises:
        UserError: The folder is missing, holds no pair, or the panels are others.
    """
    panels = panels or ("street", "aerial")
    if sorted(panels) != ["aerial", "street"]:
        raise UserError(f"--dayton has the panels street,aerial or aerial,street. Received: {','.join(panels)}")
    require(folder)
    images, unmatched = list_images(folder, "", extensions=SOURCE_EXTENSIONS)
    listings: dict[str, dict[str, str]] = {"street": {}, "aerial": {}}
    for path in images:
        *places, name = path.split("/")
        views = {_view(place) for place in places} - {None}
        if len(views) == 1:
            key = "/".join([*(place for place in places if _view(place) is None), name])
            listings[views.pop()].setdefault(key, path)
        else:
            unmatched[path] = "no folder on its way says whether it is a street or an overhead image"
    matched, left = match_stems([listings[panel] for panel in panels])
    unmatched |= {listings[panels[number]][path]: why for (number, path), why in left.items()}
    sources = [
        Source(name, tuple(str(folder / listings[panel][path]) for panel, path in zip(panels, paths, strict=True)))
        for name, paths in matched.items()
    ]
    found = Found(sources, panels, unmatched, "GTCrossView", (str(folder),))
    return nonempty(found, folder, "streetview/ and overhead/ with images of equal names")


def composites(folder: Path, source_panels: tuple[str, ...] = (), panels: tuple[str, ...] = ()) -> Found:
    """Images that are side by side already, with train/, val/, test/ above them or without.

    Args:
        folder: Where they are.
        source_panels: What they show, left to right; else what `dataset.json` says, else `panels`.
        panels: Which of them are wanted, in which order; all, as they are, without.

    Raises:
        UserError: The folder is missing or empty, or a panel is wanted that is not there.
    """
    require(folder)
    source_panels = source_panels or tuple(read_description(folder / DESCRIPTION).get("panels", ())) or panels
    if len(source_panels) < 2:
        raise UserError(
            "--composites needs to know what the panels show, left to right: --source_panels=street,aerial. "
            f"{folder} has no dataset.json that says so."
        )
    chosen = _choose(source_panels, panels or source_panels)
    sources, unmatched = [], {}
    for split in [split for split in SPLITS if (folder / split).is_dir()] or [""]:
        images, others = list_images(folder / split, "", extensions=SOURCE_EXTENSIONS)
        matched, left = match_stems([images])
        unmatched |= {str(folder / split / path): why for path, why in others.items()}
        unmatched |= {str(folder / split / path): why for (_, path), why in left.items()}
        sources += [
            Source(name, (str(folder / split / path),), split, len(source_panels), chosen)
            for name, (path,) in matched.items()
        ]
    kind = "composites of " + ",".join(source_panels)
    return nonempty(Found(sources, panels or source_panels, unmatched, kind, (str(folder),)), folder)


def panel_folders(folder: Path, panels: tuple[str, ...] = ()) -> Found:
    """A folder for each panel with train/, val/, test/ beneath (or the other way round), as `find_pairs` knows them.

    Args:
        folder: Holds A/train, B/train and so on.
        panels: The folders' names, in the order that is wanted; A,B without.

    Raises:
        UserError: There is no such layout.
    """
    panels = panels or ("A", "B")
    pairs = find_pairs(folder, panels, extensions=SOURCE_EXTENSIONS)
    if not pairs.rows:
        raise UserError(
            f"--folders needs a folder for each panel, as {folder / panels[0] / 'train'}. There are none. Side-by-side "
            "images are read with --composites."
        )
    unmatched = {str(folder / name): why for name, why in pairs.ignored.items()}
    return Found(_sources_of(pairs), panels, unmatched, "a folder for each panel and split", (str(folder),))


def panel_names(folders: Sequence[Path], panels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What the panels of a folder each are called: as is said, else as the folders.

    Raises:
        UserError: There are more or fewer names than folders, or one that is empty or another's.
    """
    panels = panels or tuple(Path(os.path.abspath(folder)).name for folder in folders)  # "." has no name of its own
    if len(panels) != len(folders):
        raise UserError(
            f"--panels names the images of --first and --second, so {len(folders)} of them. "
            f"Received: {','.join(panels)}"
        )
    if not all(panels):
        raise UserError("A panel needs a name. Say what the folders show, as in --panels=street,aerial.")
    if len(set(panels)) < len(panels):
        raise UserError(f"Both folders are called {panels[0]}. Say what they show, as in --panels=street,aerial.")
    return panels


def made_from(kind: str, folders: Sequence[str]) -> str:
    """What pairs are made from, in which order: the half of their identity that the panels' names do not tell.

    Folders are named by the ends of their paths, as long as it takes to tell them apart: the same images may be moved
    elsewhere, and two folders of one name are not mistaken for each other.

    Args:
        kind: That of `Found`.
        folders: Those of `Found`.
    """
    if kind != FOLDER_EACH and not kind.startswith(FOLDER_EACH + BY_TABLE):
        return kind  # with what composites show; everything else goes by the panels' names
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        ends = [str(Path(*parts[-length:])) for parts in paths]
        if len(set(ends)) == len(ends):
            break
    return f"the folders {', '.join(ends)}{kind.removeprefix(FOLDER_EACH)}"


def _sources_of(pairs: Pairs) -> list[Source]:
    return [
        Source(stem(name.removeprefix(f"{split}/")), files, split)
        for split in SPLITS
        for name, files in zip(pairs.splits[split], pairs.files(split).paths, strict=True)
    ]


def _view(place: str) -> str | None:
    """`street` or `aerial`, if the name of a folder says so."""
    place = place.lower()
    for view, words in (("street", _STREET), ("aerial", _AERIAL)):
        if any(word in place for word in words):
            return view
    return None


def _choose(source_panels: tuple[str, ...], panels: tuple[str, ...]) -> tuple[int, ...]:
    for panel in panels:
        if panel not in source_panels:
            raise UserError(
                f"--panels picks from what the composites show, {','.join(source_panels)}. It has no {panel}."
            )
    return tuple(source_panels.index(panel) for panel in panels)


def require(folder: Path) -> None:
    """Raises a UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"The images must lie in a folder. There is no folder {folder}")


def nonempty(found: Found, folder: Path, wanted: str = "") -> Found:
    """Raises a UserError if not one pair was found; it says what was `wanted`, and what was seen instead."""
    if found.sources:
        return found
    wanted = wanted or f"files ending in {', '.join(SOURCE_EXTENSIONS)}"
    seen = next(iter(found.unmatched.items()), None)
    raise UserError(
        f"There is not one pair in {folder}. Needed are {wanted}."
        + (f" Of {len(found.unmatched)} other files the first is {seen[0]}: {seen[1]}" if seen else "")
    )
