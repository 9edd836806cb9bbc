"""Where the pairs lie: the layouts of a data set -> an ordered list of pairs, their files, and which panel is which."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from p2p_keras.data import manifest
from p2p_keras.data.listing import EXTENSIONS, list_images
from p2p_keras.data.stems import match_stems
from p2p_keras.errors import UserError
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size, to_size
from p2p_keras.system.urls import Url, to_folder

SPLITS = ("train", "val", "test")

# Where a folder for each panel may lie: p2p_keras' and pix2pix's A/train, then train/A, pix2pixHD's train_A, CycleGAN's
# trainA.
_FOLDERS = ("{panel}/{split}", "{split}/{panel}", "{split}_{panel}", "{split}{panel}")


class Reading(NamedTuple):
    """How the input and the target image are taken out of a pair's files. The input may be several images."""

    panel_count: int = 2
    input_panels: tuple[int, ...] = (0,)  # counted from 0 at the left
    target_panel: int = 1
    image_size: Size = Size(256, 256)  # of what the networks see
    input_kinds: tuple[Kind, ...] = (RGB,)
    target_kind: Kind = RGB
    load_size: Size = Size(286, 286)  # that a training image is resized to before the random crop
    native: bool = False  # crops of images in their own resolution, which are not resized
    mirror: bool = True  # every second training pair, at random

    @property
    def panels(self) -> tuple[int, ...]:
        """All that are read: those of the input, then the target."""
        return (*self.input_panels, self.target_panel)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of the same."""
        return (*self.input_kinds, self.target_kind)


class Files(NamedTuple):
    """Where the bytes of some pairs are, a row for each pair, in order."""

    paths: list[tuple[str, ...]]  # one file that holds all panels, or one file for each panel, left to right
    offsets: list[int] | None = None  # of the pair's record in its file, if that is a shard
    sizes: list[int] | None = None  # of the pair in bytes, if the manifest says so

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> "Files":
        """Some of the pairs, by their numbers."""
        return Files(*([column[i] for i in rows] if column is not None else None for column in self))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A data set of pairs: images of the same thing, side by side in one file or in a folder for each panel.

    Attributes:
        root: The folder or URL given as `--data_dir`.
        panels: Names of the panels, left to right; empty if nobody named them (then there are two).
        image_size: What `dataset.json` says, or None.
        channels: What `dataset.json` says of every panel, or None.
        bits: The same.
        splits: For `train`, `val`, `test`: the pairs' names, in order. A name is the path of the pair's file relative
            to `root`, with "/" between folders; with a folder for each panel it is `split/` and the first panel's path.
        rows: Name -> files relative to `root`, where they are not just the name.
        ignored: File -> why it is left out.
        entries: What the manifest of a prepared data set says of each pair, by name; empty if there is none.
        shards: Shard -> its size in bytes; empty if the files lie loose.
    """

    root: Path | Url
    panels: tuple[str, ...]
    image_size: Size | None
    splits: dict[str, tuple[str, ...]]
    channels: int | None = None
    bits: int | None = None
    rows: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    entries: dict[str, manifest.Entry] = dataclasses.field(default_factory=dict)
    shards: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def panel_count(self) -> int:
        """Panels of every pair."""
        return len(self.panels) or 2

    def files(self, split: str) -> Files:
        """Where a split's pairs are, in order."""
        names = self.splits[split]
        if self.shards:
            entries = [self.entries[name] for name in names]
            paths = {shard: (str(self.root / shard),) for shard in self.shards}  # one object for all of a shard's pairs
            return Files(
                [paths[entry.shard] for entry in entries],
                [entry.offset for entry in entries],
                [entry.bytes for entry in entries],
            )
        root = f"{self.root}/"
        paths = [tuple(root + file for file in self.rows.get(name, (name,))) for name in names]
        return Files(paths, None, [self.entries[name].bytes for name in names] if self.entries else None)

    def without(self, bad: set[str]) -> "Pairs":
        """The same pairs less those whose names are in `bad`."""
        kept = {split: tuple(name for name in names if name not in bad) for split, names in self.splits.items()}
        return dataclasses.replace(self, splits=kept)


def find_pairs(
    data_dir: Path | Url, panels: tuple[str, ...] = (), needed: str = "train", extensions: tuple[str, ...] = EXTENSIONS
) -> Pairs:
    """Lists the pairs of a data set.

    Args:
        data_dir: One of
            what `p2p-prepare` wrote, known by its `manifest.csv`;
            `train/` and optionally `val/` and `test/` of side-by-side images (folders beneath them are searched too);
            a folder for each panel, `A/train` and `B/train` (also `train/A`, `train_A`, `trainA`), whose files make a
            pair if their paths are equal but for the extension. The panels' names, if given, stand in place of A and B.
            `dataset.json` may say `panels` and `image_size`. A URL is of what `p2p-prepare` wrote in shards.
        panels: Names of the panels, left to right; overrides `dataset.json`.
        needed: The split without which nothing can be done.
        extensions: Of the files in a folder for each panel.

    Raises:
        UserError: No such folder, no folder of the needed split, no images in it, or an unreadable `dataset.json`.
    """
    data_dir = to_folder(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"--data_dir must be a folder with {needed}/ in it. There is no folder {data_dir}")
    if (data_dir / manifest.UNFINISHED).is_dir():
        raise UserError(
            f"p2p-prepare has not finished {data_dir}. Its command, given again, continues; of what is made in parts, "
            "those that are missing, then --merge."
        )
    described = manifest.read_description(data_dir / manifest.DESCRIPTION)
    panels = panels or tuple(described.get("panels", ()))
    common = {
        "root": data_dir,
        "panels": panels,
        "image_size": to_size(described["image_size"]) if "image_size" in described else None,
        "channels": described.get("channels"),
        "bits": described.get("bits"),
    }
    listed = (data_dir / manifest.MANIFEST).is_file()
    if isinstance(data_dir, Url) and not (listed and described.get("shards")):
        raise UserError(
            f"By URL a data set is read that p2p-prepare made in shards. {data_dir} holds none. Make one with "
            "p2p-prepare --shards, and copy its folder there."
        )
    if listed:
        entries = manifest.read(data_dir / manifest.MANIFEST)
        manifest.check_whole(data_dir / manifest.MANIFEST, entries, described)
        names = {split: [name for name in entries if name.startswith(f"{split}/")] for split in SPLITS}
        shards = described.get("shards", {})
        there = [] if shards else [name for split in SPLITS for name in list_images(data_dir, split)[0]]
        ignored = {name: "it is not in manifest.csv" for name in there if name not in entries}
        found = Pairs(**common, splits=_sorted(names), ignored=ignored, entries=entries, shards=shards)
    elif folders := _panel_folders(data_dir, panels or ("A", "B"), needed):
        found = Pairs(**common, **_match_folders(data_dir, folders, extensions))
    else:
        if not (data_dir / needed).is_dir():
            there = ", ".join(sorted(path.name for path in data_dir.iterdir())[:5]) or "nothing"
            raise UserError(
                f"--data_dir must hold a folder {needed}/ of side-by-side images, or A/{needed}/ and B/{needed}/ of "
                f"single ones (--panels names other folders than A and B). {data_dir} holds {there}"
            )
        names, ignored = {}, {}
        for split in SPLITS:
            names[split], others = list_images(data_dir, split)
            ignored |= others
        found = Pairs(**common, splits=_sorted(names), ignored=ignored)
    if not found.splits[needed]:
        name, why = next(iter(found.ignored.items()), ("", ""))
        others = f", but {len(found.ignored)} others, {name} for one: {why}" if found.ignored else ""
        raise UserError(
            f"Pairs are files ending in {', '.join(EXTENSIONS)}. {data_dir} holds no such file of {needed}{others}"
        )
    return found


def select_panels(direction: str, panels: tuple[str, ...]) -> tuple[int, int]:
    """Which panel is the input and which the target, counted from 0 at the left.

    `a2s` and `s2a` look for the names `aerial` and `street`, so both orders of the Dayton composites come out right;
    `AtoB` and `BtoA` take the first two panels as they stand.

    Raises:
        UserError: The direction needs a name that no panel has.
    """
    if direction == "AtoB":
        return 0, 1
    if direction == "BtoA":
        return 1, 0
    wanted = ("aerial", "street") if direction == "a2s" else ("street", "aerial")
    for name in wanted:
        if name not in panels:
            listed = f"The panels are {', '.join(panels)}" if panels else "The panels have no names"
            raise UserError(
                f"--direction={direction} needs a panel named {name}. {listed}. Name them left to right, as in "
                "--panels=street,aerial, or take the first two by position with --direction=AtoB or BtoA."
            )
    return panels.index(wanted[0]), panels.index(wanted[1])


def find_panels(
    direction: str, input_panels: tuple[str, ...], target_panel: str, panels: tuple[str, ...]
) -> tuple[tuple[int, ...], int]:
    """Which panels are the input and which is the target, counted from 0: by names if there are any, else by direction.

    Raises:
        UserError: A panel of that name is not there.
    """
    if not input_panels:
        first, second = select_panels(direction, panels)
        return (first,), second
    for flag, name in (*(("input_panels", name) for name in input_panels), ("target_panel", target_panel)):
        if name not in panels:
            listed = f"The panels are {', '.join(panels)}" if panels else "The panels have no names"
            raise UserError(
                f"--{flag} takes names of panels. There is no panel {name}. {listed}. Name them left to right, as in "
                "--panels=street,aerial,street_seg."
            )
    return tuple(map(panels.index, input_panels)), panels.index(target_panel)


def fingerprint(pairs: Pairs) -> str:
    """A checksum over the training pairs' names, sizes and order: what a run's result depends on, wherever they lie.

    Loose files and shards of the same pairs have the same.
    """
    digest = hashlib.sha256()
    for name, size in zip(pairs.splits["train"], byte_sizes(pairs.files("train")), strict=True):
        digest.update(f"{name.removeprefix('train/')}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def byte_sizes(files: Files) -> list[int]:
    """Bytes of each pair: as the manifest says, else what the file system says of its files together."""
    return files.sizes or [sum(os.stat(path).st_size for path in row) for row in files.paths]


def _sorted(names: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {split: tuple(sorted(names[split])) for split in SPLITS}


def _panel_folders(root: Path, panels: tuple[str, ...], needed: str) -> dict[str, list[str]] | None:
    """For each split that is there, the panels' folders, left to right; None if there are none of the needed split."""
    for pattern in _FOLDERS:
        folders = {split: [pattern.format(panel=panel, split=split) for panel in panels] for split in SPLITS}
        there = {split: names for split, names in folders.items() if all((root / name).is_dir() for name in names)}
        if needed in there:
            return there
    return None


def _match_folders(root: Path, folders: dict[str, list[str]], extensions: tuple[str, ...]) -> dict:
    """The fields of `Pairs` that follow from a folder for each panel."""
    splits, rows, ignored = dict.fromkeys(SPLITS, ()), {}, {}
    for split, places in folders.items():
        listings = []
        for place in places:
            images, others = list_images(root / place, "", extensions=extensions)
            listings.append(images)
            ignored |= {f"{place}/{name}": why for name, why in others.items()}
        matched, left = match_stems(listings)
        ignored |= {f"{places[number]}/{path}": why for (number, path), why in left.items()}
        named = {f"{split}/{paths[0]}": paths for paths in matched.values()}
        splits[split] = tuple(sorted(named))
        for name, paths in named.items():
            rows[name] = tuple(f"{place}/{path}" for place, path in zip(places, paths, strict=True))
    return {"splits": splits, "rows": rows, "ignored": ignored}
