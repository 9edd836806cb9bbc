"""Where the pairs lie: a folder of side-by-side composites -> an ordered list of files, and which panel is which."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from p2p_keras.errors import UserError

SPLITS = ("train", "val", "test")
EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A data set of composites: pictures of the same thing in equal panels, side by side in one file.

    Attributes:
        root: The folder given as `--data_dir`.
        panels: Names of the panels, left to right; empty if nobody named them (then there are two).
        image_size: What `dataset.json` says, or None.
        splits: For `train`, `val`, `test`: the files, as paths relative to `root` with "/" between folders, sorted.
        ignored: Files whose extension is not one of a picture that can be read here.
    """

    root: Path
    panels: tuple[str, ...]
    image_size: int | None
    splits: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]

    @property
    def panel_count(self) -> int:
        """Panels in every composite."""
        return len(self.panels) or 2

    def paths(self, split: str) -> list[str]:
        """Full paths of a split's files, in order."""
        return [str(self.root / name) for name in self.splits[split]]

    def without(self, bad: set[str]) -> "Pairs":
        """The same pairs less the relative paths in `bad`."""
        kept = {split: tuple(name for name in names if name not in bad) for split, names in self.splits.items()}
        return dataclasses.replace(self, splits=kept)


def find_pairs(data_dir: Path, panels: tuple[str, ...] = (), needed: str = "train") -> Pairs:
    """Lists the pairs of a data set.

    Args:
        data_dir: Holds `train/`, optionally `val/` and `test/` (folders beneath them are searched too), and optionally
            `dataset.json` with `panels` and `image_size`.
        panels: Names of the panels, left to right; overrides `dataset.json`.
        needed: The split without which nothing can be done.

    Raises:
        UserError: No such folder, no folder of the needed split, no pictures in it, or an unreadable `dataset.json`.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"--data_dir must be a folder with {needed}/ in it. There is no folder {data_dir}")
    if not (data_dir / needed).is_dir():
        found = ", ".join(sorted(path.name for path in data_dir.iterdir())[:5]) or "nothing"
        raise UserError(f"--data_dir must hold a folder {needed}/ of side-by-side pictures. {data_dir} holds {found}")
    description = _read_description(data_dir / "dataset.json")
    splits, ignored = {}, []
    for split in SPLITS:
        pictures, others = _list_files(data_dir, split)
        splits[split] = tuple(pictures)
        ignored += others
    if not splits[needed]:
        raise UserError(
            f"Pairs are files ending in {', '.join(EXTENSIONS)}. {data_dir / needed} holds no such file"
            + (f", but {len(ignored)} others, {ignored[0]} for one" if ignored else "")
        )
    return Pairs(
        root=data_dir,
        panels=panels or tuple(description.get("panels", ())),
        image_size=description.get("image_size"),
        splits=splits,
        ignored=tuple(ignored),
    )


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


def fingerprint(pairs: Pairs) -> str:
    """A checksum over the training files' names, sizes and order: what a run's result depends on, wherever they lie."""
    digest = hashlib.sha256()
    for name in pairs.splits["train"]:
        digest.update(f"{name.removeprefix('train/')}\0{os.stat(pairs.root / name).st_size}\n".encode())
    return digest.hexdigest()[:16]


def _read_description(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        description = json.loads(path.read_text())
        panels = description.get("panels", [])
        if not all(isinstance(name, str) for name in panels):
            raise ValueError(f"panels must be a list of names, is {panels}")
        return description
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"dataset.json must be a JSON object. {path} cannot be read: {error}") from error


def _list_files(root: Path, split: str) -> tuple[list[str], list[str]]:
    pictures, others = [], []
    for folder, _, names in os.walk(root / split, followlinks=True):
        for name in names:
            if name.startswith("."):
                continue
            relative = (Path(folder) / name).relative_to(root).as_posix()
            (pictures if name.lower().endswith(EXTENSIONS) else others).append(relative)
    return sorted(pictures), sorted(others)
