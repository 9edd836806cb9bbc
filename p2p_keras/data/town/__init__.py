"""The built-in demo data set: a small town, each scene from above (`aerial`) and from the street (`street`).

The pixels of a scene are the same on every machine and with every numpy (1.26 and 2.x): the numbers come from
`numpy.random.RandomState`, whose stream NEP 19 froze, and the drawing keeps to exact arithmetic, by the rule in
`scene`. What shows in one view can be told from the other: a roof tells its house, a shadow the height, the tint of
the light the sky.
"""

import json
import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from p2p_keras.data.town import compose, render
from p2p_keras.errors import UserError

VERSION = 1  # part of the folder's name; to be raised whenever the drawing changes
COUNTS = {"train": 600, "val": 60, "test": 60}
DAY = 24.0 * 60.0 * 60.0


def _check_size(image_size: int) -> None:
    if image_size < 16 or image_size % 2:
        raise UserError(f"`town` needs an even image size of 16 or more, got {image_size}: choose e.g. 64, 128 or 256.")


def draw_scene(seed: int, split: str, index: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
        seed: Any int; different seeds give different towns.
        split: Name of the split; the scenes of two splits differ.
        index: Number of the scene in its split, from 0.
        image_size: S, even, at least 16. It does not change what the scene is.

    Returns:
        The aerial and the street view, both uint8 (S, S, 3).

    Raises:
        UserError: An odd or too small `image_size`.
    """
    _check_size(image_size)
    scene = compose.compose(np.random.RandomState([seed % 2**32, index, *split.encode()]).random_sample)
    return render.render(scene, image_size, street=False), render.render(scene, image_size, street=True)


def _draw_file(job: tuple[Path, int, str, int, int]) -> None:
    folder, seed, split, index, image_size = job
    composite = np.concatenate(draw_scene(seed, split, index, image_size), axis=1)
    Image.fromarray(composite).save(folder / split / f"{index:05d}.png")


def _draw_files(jobs: list, workers: int) -> Iterable[None]:
    """Draws every job, by spawned processes if `workers` > 1 (a fork of TensorFlow may hang); yields after each."""
    done = 0
    if workers > 1:
        spawn, ignore = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is not for them
        # The pool breaks if __main__ cannot be imported again, as a script from stdin: then this process goes on alone.
        with suppress(BrokenProcessPool), ProcessPoolExecutor(workers, spawn, signal.signal, ignore) as pool:
            for _ in pool.map(_draw_file, jobs, chunksize=4):
                done += 1
                yield
    yield from map(_draw_file, jobs[done:])


def _sweep(cache_dir: Path) -> None:
    """Removes what killed processes left half drawn, but nothing young: another process may be drawing it now."""
    for scratch in cache_dir.glob(".town-v*-*"):
        with suppress(OSError):  # e.g. another process removes it at the same time; what stays waits for next time
            newest = max(path.lstat().st_mtime for path in (scratch, *scratch.rglob("*")))
            if time.time() - newest > DAY:
                shutil.rmtree(scratch)


def ensure_town(
    cache_dir: Path,
    image_size: int = 128,
    seed: int = 0,
    counts: Mapping[str, int] = COUNTS,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws the data set into the cache, unless it is there.

    Args:
        cache_dir: Where data sets are kept; made if it is missing.
        image_size: Side of one panel, even, at least 16.
        seed: Any int; different seeds give different towns.
        counts: Number of pairs of each split.
        workers: Processes that draw; by default one for each core, at most 8; with 1 this process draws.
        on_progress: Called with the numbers of pairs drawn and to be drawn, after each.

    Returns:
        The folder `town-v1-SIZE-seedSEED` of `cache_dir` (other counts than COUNTS are added to its name). It holds
        `SPLIT/00000.png`..., RGB composites of (aerial | street), and `dataset.json`.

    Raises:
        UserError: An odd or too small `image_size`, or a folder that cannot be written.
    """
    _check_size(image_size)
    name = f"town-v{VERSION}-{image_size}-seed{seed}"
    if dict(counts) != COUNTS:
        name += "".join(f"-{split}{count}" for split, count in sorted(counts.items()))
    target = Path(cache_dir) / name
    if (target / "dataset.json").is_file():
        return target
    description = {"format": 1, "name": "town", "panels": ["aerial", "street"], "image_size": image_size}
    description |= {"splits": dict(counts), "source": f"drawn by p2p_keras.data.town, version {VERSION}, seed {seed}"}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:  # gone however this ends
            folder = Path(scratch) / name
            for split in counts:
                (folder / split).mkdir(parents=True)
            jobs = [(folder, seed, split, index, image_size) for split in counts for index in range(counts[split])]
            for done, _ in enumerate(_draw_files(jobs, workers or min(multiprocessing.cpu_count(), 8)), start=1):
                if on_progress:
                    on_progress(done, len(jobs))
            (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
            folder.rename(target)
    except OSError as error:
        if not (target / "dataset.json").is_file():  # else another process was quicker, and its files are the same
            got = f"a writable folder with room is needed, got {target.parent} ({error.strerror or error})"
            raise UserError(f"To draw `town`, {got}: set XDG_CACHE_HOME to a folder with room.") from error
    return target
