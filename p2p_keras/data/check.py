"""Reads every file once before training starts, so that a bad one is named now and not hours later."""

import concurrent.futures
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from p2p_keras.data.pairs import SPLITS, Pairs
from p2p_keras.errors import UserError

MAX_PIXELS = 64_000_000
_MODES = {"RGB", "L", "P", "RGBA", "LA", "1"}  # 8 bits a channel or less: what TensorFlow and Pillow decode alike
_EXIF_ORIENTATION = 0x0112


def file_problem(path: str, panel_count: int, rotated: bool = False) -> str | None:
    """Why a file cannot be trained on, in a few words; None if it can.

    The size is read from the header and refused before anything is decoded. TensorFlow ignores the EXIF orientation, so
    a rotated picture would be trained on lying on its side; `rotated` is for readers that do turn it.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return f"{width}x{height} is more than {MAX_PIXELS // 10**6} megapixels"
            if image.format not in ("JPEG", "PNG"):
                return f"it is a {image.format}, not a JPEG or PNG"
            if image.mode not in _MODES:
                return f"its pixels are {image.mode}; 8-bit RGB or grey is needed"
            if width % panel_count:
                return f"its width {width} is not divisible by {panel_count} panels"
            if not rotated and image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
                return "its EXIF orientation is not 1; rotate the pixels and remove the tag"
            image.load()
    except Image.DecompressionBombError:
        return f"it has more than {MAX_PIXELS // 10**6} megapixels"
    except Image.UnidentifiedImageError:
        return "it is empty" if os.path.getsize(path) == 0 else "it is not a picture"
    except FileNotFoundError:
        return "it is not there"
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders raise all three
        return f"it cannot be decoded ({error})"
    return None


def find_bad_files(
    paths: Iterable[str], panel_count: int, on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, str]:
    """Decodes every file once, in threads. Returns path -> problem for the bad ones, in order."""
    bad, paths = {}, list(paths)
    # Filters are the whole process's, so they are set here and not in the threads. Our own limit is below Pillow's.
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        problems = threads.map(lambda path: file_problem(path, panel_count), paths)
        for done, (path, problem) in enumerate(zip(paths, problems, strict=True), start=1):
            if problem:
                bad[path] = problem
            on_progress(done)
    return bad


def checked(
    pairs: Pairs, max_bad_files: int, memory: Path, on_progress: Callable[[int], None] = lambda done: None
) -> tuple[Pairs, dict[str, str]]:
    """Leaves out the files that cannot be read, if they are few enough.

    Args:
        pairs: As found on disk.
        max_bad_files: How many may be left out.
        memory: A file that remembers the result for these very files (names, sizes, times of change), so that a second
            start does not decode them all again.
        on_progress: Called with the number of files read.

    Returns:
        The pairs without the bad files, and relative path -> problem for those.

    Raises:
        UserError: There are more bad files than `max_bad_files`; names the first ones.
    """
    key = _state(pairs)
    bad = _recall(memory, key)
    if bad is None:
        names = [name for split in SPLITS for name in pairs.splits[split]]
        found = find_bad_files([str(pairs.root / name) for name in names], pairs.panel_count, on_progress)
        bad = {Path(path).relative_to(pairs.root).as_posix(): problem for path, problem in found.items()}
        memory.write_text(json.dumps({"files": key, "bad": bad}, indent=2) + "\n")
    if len(bad) > max_bad_files:
        first = "; ".join(f"{name}: {problem}" for name, problem in list(bad.items())[:3])
        total = sum(map(len, pairs.splits.values()))
        leave_out = f", or leave them out with --max_bad_files={len(bad)}" if len(bad) < total else ""
        raise UserError(
            f"Every file must be a readable picture of {pairs.panel_count} panels side by side. Of {total} files in "
            f"{pairs.root}, {len(bad)} cannot be used: {first}{'; ...' if len(bad) > 3 else ''}. "
            f"Mend or remove them{leave_out}."
        )
    return pairs.without(set(bad)), bad


def _state(pairs: Pairs) -> str:
    digest = hashlib.sha256(f"{MAX_PIXELS} {pairs.panel_count}\n".encode())
    for split in SPLITS:
        for name in pairs.splits[split]:
            status = os.stat(pairs.root / name)
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _recall(memory: Path, key: str) -> dict[str, str] | None:
    try:
        known = json.loads(memory.read_text())
        return known["bad"] if known["files"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
