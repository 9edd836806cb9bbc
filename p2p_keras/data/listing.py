"""Which files of a folder are its images: one rule for hidden names, links and extensions, wherever a folder is read.

Hidden is, below the folder that was given, what has a name that begins with ".", and all that lies in it. A link to
another folder is followed like a folder, unless it leads back to one that it lies in. Names that begin with "-" or "_"
are ordinary: many of Dayton's do.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png")  # of what is trained on and translated
SOURCE_EXTENSIONS = (*EXTENSIONS, ".webp", ".bmp", ".tif", ".tiff")  # of what p2p-prepare makes pairs from


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and all beneath it, hidden ones aside: each with its path, its files, and links that are not followed.

    It may itself be hidden, for it was named. The order is the file system's.
    """
    for place, folders, names in os.walk(root, followlinks=True):
        visible = [name for name in folders if not name.startswith(".")]
        circular = [name for name in visible if _leads_back(os.path.join(place, name), str(root))]
        folders[:] = [name for name in visible if name not in circular]  # tells os.walk where to go
        yield place, [name for name in names if not name.startswith(".")], circular


def list_images(
    root: Path, folder: str, any_name: bool = False, extensions: tuple[str, ...] = EXTENSIONS
) -> tuple[list[str], dict[str, str]]:
    """Images in a folder and beneath it, hidden ones aside.

    Args:
        root: Where their paths begin.
        folder: Below `root`; empty for `root` itself.
        any_name: Take names that are not UTF-8 too. Neither a manifest nor TensorFlow's own readers can hold them.
        extensions: How the names of images end, in lower case.

    Returns:
        Their paths relative to `root`, with "/" between folders, sorted; and of other files path -> why they are none.
    """
    images, others = [], {}
    for place, names, circular in walk(root / folder):
        prefix = Path(place).relative_to(root).as_posix()
        if not any_name and prefix != _readable(prefix):
            names, circular = [], []
            others[_readable(prefix)] = "its name is not UTF-8; rename it"
        prefix = "" if prefix == "." else f"{prefix}/"
        for name in names:
            if not any_name and name != _readable(name):
                others[_readable(prefix + name)] = "its name is not UTF-8; rename it"
            elif name.lower().endswith(extensions):
                images.append(prefix + name)
            else:
                others[prefix + name] = _why_not(name, extensions)
        others |= {prefix + name: "it is a link to a folder that it lies in" for name in circular}
    return sorted(images), dict(sorted(others.items()))


def match_pattern(pattern: str) -> set[Path]:
    """What `glob.glob(pattern, recursive=True)` finds, where "**" is every folder that `walk` finds.

    So it does not go round in circles, of which a few have more paths than can ever be listed.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        return {Path(path) for path in glob.glob(pattern)}
    before, after = parts[: parts.index("**")], parts[parts.index("**") + 1 :] or ["*"]
    found: set[Path] = set()
    for root in glob.glob("/".join([*before, ""])) if before else ["."]:
        for place, _, _ in walk(Path(root)):
            found |= match_pattern("/".join([glob.escape(place), *after]))
    return found


def _why_not(name: str, extensions: tuple[str, ...]) -> str:
    if name.lower().endswith(SOURCE_EXTENSIONS):
        return "it is not a .jpg or .png; p2p-prepare makes one of it"
    *others, last = (extension for extension in extensions if extension not in (".jpeg", ".tiff"))
    return f"it is not a {', '.join(others)} or {last}"


def _readable(path: str) -> str:
    """A path in which bytes that are not UTF-8 are replaced by a question mark."""
    return os.fsencode(path).decode("utf-8", "replace")


def _leads_back(path: str, root: str) -> bool:
    """Whether a folder below `root` is a link to one that it lies in, or to one around `root`."""
    if not os.path.islink(path):
        return False
    target, place = os.path.realpath(path), path
    while place != root:
        place = os.path.dirname(place)
        if os.path.commonpath([target, os.path.realpath(place)]) == target:
            return True
    return False
