"""Reads every file once before training starts, so that a bad one is named now and not hours later."""

import concurrent.futures
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from p2p_keras.data.pairs import SPLITS, Pairs, Reading
from p2p_keras.data.picture import ImageError, open_image
from p2p_keras.errors import UserError
from p2p_keras.images.files import class_numbers, stored_bits
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.system.files import read_json, write_whole
from p2p_keras.system.limits import MAX_PIXELS
from p2p_keras.system.urls import file_size

_AT_ONCE = 16  # shards that are asked for their size, which by URL takes a while


def bit_depths(pairs: Pairs, split: str, panels: tuple[int, ...]) -> tuple[int, ...]:
    """8 or 16, of each of these panels: as the data set says, else as the header of a split's first pair."""
    if pairs.bits:
        return (pairs.bits,) * len(panels)
    first = pairs.files(split).paths[0]
    try:
        return tuple(bit_depth(first[panel] if len(first) > 1 else first[0]) for panel in panels)
    except OSError:  # a link to nowhere, for one: the check of all pairs names it
        return (8,) * len(panels)


def file_problem(
    path: str, panel_count: int = 1, rotated: bool = False, panel: int = 0, kind: Kind = RGB
) -> str | None:
    """Why a file cannot be used, in a few words; None if it can. A label map must have the `kind`'s classes in `panel`.

    The other arguments are those of `open_image`.
    """
    try:
        with open_image(path, panel_count, rotated) as image:
            _check_classes(image, None, Reading(panel_count, (panel,), input_kinds=(kind,)))
    except ImageError as problem:
        return str(problem)
    return None


def pair_problem(files: tuple[str, ...], reading: Reading) -> str | None:
    """Why a pair of loose files cannot be trained on; None if it can."""
    sizes = set()
    for panel, path in enumerate(files):
        try:
            with open_image(path, reading.panel_count if len(files) == 1 else 1) as image:
                _check_classes(image, panel if len(files) > 1 else None, reading)
                _check_by_tensorflow(path, reading)
                sizes |= {image.size} if panel in reading.panels else set()
        except ImageError as problem:
            return str(problem) if len(files) == 1 else f"{path}: {problem}"
    if reading.native and len(sizes) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        return f"its images are of {shown} pixels; native crops need images of one size in a pair"
    return None


def _check_by_tensorflow(path: str, reading: Reading) -> None:
    """Refuses a damaged file of which Pillow makes something, but not TensorFlow, as one JPEG in a thousand is."""
    import tensorflow as tf  # here, for p2p-prepare does without

    from p2p_keras.images import codec

    content = Path(path).read_bytes()
    try:
        for kind in {kind for kind in reading.kinds if not kind.labels}:
            codec.decode(content, kind)
    except tf.errors.InvalidArgumentError as error:
        raise ImageError("it cannot be decoded (TensorFlow refuses it)") from error


def find_bad_pairs(
    rows: Iterable[tuple[str, ...]], reading: Reading, on_progress: Callable[[int], None] = lambda done: None
) -> dict[int, str]:
    """Decodes every file once, in threads. Returns number of the pair -> problem for the bad ones, in order."""
    bad = {}
    # Filters are the whole process's, so they are set here and not in the threads. Our own limit is below Pillow's.
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module="PIL")  # odd tags: what counts is whether it is decoded
        problems = threads.map(lambda files: pair_problem(files, reading), rows)
        for number, problem in enumerate(problems):
            if problem:
                bad[number] = problem
            on_progress(number + 1)
    return bad


def checked(
    pairs: Pairs,
    reading: Reading,
    max_bad_files: int,
    memory: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Pairs, dict[str, str]]:
    """Leaves out the pairs that cannot be read, if they are few enough.

    What `p2p-prepare` has checked and written, and what still has the size that it wrote down, is not decoded again.

    Args:
        pairs: As found on disk.
        reading: How they are read.
        max_bad_files: How many may be left out.
        memory: A file that remembers the result for these very files (names, sizes, times of change), so that a second
            start does not decode them all again.
        on_progress: Called with the number of pairs read, and how many are to be.

    Returns:
        The pairs without the bad ones, and name -> problem for those.

    Raises:
        UserError: There are more bad ones than `max_bad_files`, and names the first; or a shard has changed.
    """
    rows = _unchecked(pairs, reading)
    bad = {}
    if rows:
        key = _state(rows, reading)
        known = _recall(memory, key)
        if known is None:
            names = list(rows)
        elif len(known) > max_bad_files:  # what keeps a file from being read may have gone without changing it
            names = [name for name in rows if name in known]
        else:
            names, bad = [], known
        if names:
            found = find_bad_pairs([rows[name] for name in names], reading, lambda done: on_progress(done, len(names)))
            bad = {names[number]: problem for number, problem in found.items()}
            write_whole(memory, json.dumps({"files": key, "bad": bad}, indent=2) + "\n", sync=False)
    if len(bad) > max_bad_files:
        first = "; ".join(f"{name}: {problem}" for name, problem in list(bad.items())[:3])
        total = sum(map(len, pairs.splits.values()))
        leave_out = f", or leave them out with p2p-train --max_bad_files={len(bad)}" if len(bad) < total else ""
        form = "" if pairs.rows else f" of {pairs.panel_count} panels side by side"
        raise UserError(
            f"Every file must be a readable image{form}. "
            f"Of {total} pairs in {pairs.root}, {len(bad)} cannot be used: {first}{'; ...' if len(bad) > 3 else ''}. "
            f"Mend or remove them{leave_out}."
        )
    return pairs.without(set(bad)), bad


def _unchecked(pairs: Pairs, reading: Reading) -> dict[str, tuple[str, ...]]:
    """Name -> files of the pairs that nobody has vouched for."""
    shards = {pairs.root / shard: size for shard, size in pairs.shards.items()}
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as threads:
        sizes = list(threads.map(file_size, shards))
    for (path, size), found in zip(shards.items(), sizes, strict=True):
        if found != size:
            raise UserError(
                f"A shard must be as p2p-prepare wrote it. {path} has {max(0, found)} bytes, dataset.json says {size}. "
                "Copy it again, or prepare the data set again."
            )
    if pairs.shards:
        return {}
    rows, labels = {}, any(kind.labels for kind in reading.kinds)
    for split in SPLITS:
        for name, files in zip(pairs.splits[split], pairs.files(split).paths, strict=True):
            entry = pairs.entries.get(name)
            if entry is None or labels or entry.width % reading.panel_count or file_size(files[0]) != entry.bytes:
                rows[name] = files
    return rows


def bit_depth(path: str) -> int:
    """8 or 16: with which an image file is read, as its header says. Fewer than 8 are read as 8."""
    return max(8, _stored_bits(path))


def _stored_bits(path: str) -> int:
    with open(path, "rb") as file:
        return stored_bits(file.read(25))


def _check_classes(image: Image.Image, panel: int | None, reading: Reading) -> None:
    """Refuses a label map with other classes than there are channels. `panel` is None for a composite."""
    for number, kind in zip(reading.panels, reading.kinds, strict=True):
        if not kind.labels or panel not in (None, number):
            continue
        try:
            classes = class_numbers(image, _stored_bits(image.filename))
        except ValueError as error:
            raise ImageError(str(error)) from error
        width = image.width // reading.panel_count
        if panel is None:
            classes = classes[:, number * width : (number + 1) * width]
        if classes.size and classes.max() >= kind.channels:
            raise ImageError(
                f"it has class {classes.max()}; with {kind.channels} classes the highest is {kind.channels - 1}"
            )


def _state(rows: dict[str, tuple[str, ...]], reading: Reading) -> str:
    kinds = (reading.panel_count, *(kind for kind in reading.kinds if kind.labels))
    rules = f"{MAX_PIXELS} {kinds} checksums"  # of PNGs, which earlier versions did not look at
    if len(kinds) > 1:
        rules += " numbers as in the file"  # earlier versions took grey levels of less than 8 bits for other classes
        rules += f" of {[panel for panel, kind in zip(reading.panels, reading.kinds, strict=True) if kind.labels]}"
    rules += f" native {reading.panels}" if reading.native else ""
    digest = hashlib.sha256(f"{rules}\n".encode())
    for name, files in rows.items():
        for path in files:
            try:
                status = os.stat(path)
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f"{name}\0gone\n".encode())
    return digest.hexdigest()[:16]


def _recall(memory: Path, key: str) -> dict[str, str] | None:
    try:
        known = read_json(memory)
        return {str(name): str(problem) for name, problem in known["bad"].items()} if known["files"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # as of a file that somebody edited
        return None
