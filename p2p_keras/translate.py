"""Pictures in, pictures out: found, read, translated in batches, written under their own names."""

import glob
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from p2p_keras import images
from p2p_keras.data.check import file_problem
from p2p_keras.data.pairs import EXTENSIONS
from p2p_keras.data.pipeline import resize
from p2p_keras.errors import UserError
from p2p_keras.loading import Model
from p2p_keras.pictures import file_names, write_jpeg, write_png
from p2p_keras.progress import ProgressLine

STD_GAIN = 4  # levels of brightness for one level of standard deviation, so that it can be seen


class Job(NamedTuple):
    """What is done with each picture."""

    panel: tuple[int, int] | None = None  # which of how many panels is the input; None if the picture itself is
    resize: bool = False  # to the size trained on, first
    tile: bool = False
    samples: int = 0  # noise samples; 0 is one picture without noise
    suffix: str = ""  # as `.png`; empty keeps the source's
    overwrite: bool = False
    batch_size: int = 16


class Outcome(NamedTuple):
    """How it went."""

    written: int
    kept: int  # that were there already
    bad: dict[str, str]  # source -> problem
    other_sizes: int  # translated pictures that were not of the size trained on


def find_pictures(pattern: str) -> list[tuple[Path, str]]:
    """Pictures of a file, a folder (and those beneath it) or a glob: their paths, and names for what becomes of them.

    Raises:
        UserError: There is none.
    """
    path = Path(pattern)
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.name.lower().endswith(EXTENSIONS) and p.is_file()]
        names = [p.relative_to(path).as_posix() for p in found]
    elif path.exists():
        found, names = [path], [path.name]
    else:
        found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]
        base = Path(os.path.commonpath([p.parent for p in found])) if found else Path()
        names = [p.relative_to(base).as_posix() for p in found]
    if not found:
        raise UserError(
            f"--input is a picture, a folder of pictures ({', '.join(EXTENSIONS)}) or a pattern in quotes, as "
            f"'photos/*.jpg'. Received: {pattern}, where there is none."
        )
    return list(zip(found, names, strict=True))


def translate_pictures(
    model: Model, pictures: Sequence[tuple[Path, str]], output: Path, job: Job, report: Callable[[str], None] = print
) -> Outcome:
    """Translates pictures into a folder, under their own names, pictures of one size in batches.

    Args:
        model: From `open_model`.
        pictures: From `find_pictures`.
        output: The folder; made if need be.
        job: What to do with each.
        report: Told of every file that is passed over.

    Raises:
        UserError: The model has no noise to sample from, or a file would be written over its own source.
    """
    if job.samples and not model.noise:
        raise UserError("--samples needs a model with noise: a run, or an export made with --noise. This one has none.")
    names = [name for _, name in pictures]
    names = file_names(names, job.suffix) if job.suffix else names
    todo = []
    for (source, _), name in zip(pictures, names, strict=True):
        files = _files(output / name, job.samples)
        if source.resolve() in {file.resolve() for file in files}:
            raise UserError(f"--output must not be where the pictures come from: {source} would be overwritten.")
        if job.overwrite or not all(file.exists() for file in files):
            todo.append((source, files))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output must be a folder that can be written. {output}: {error.strerror}.") from error
    progress, bad, other_sizes, done = ProgressLine(len(todo), "pictures"), {}, 0, 0
    for batch in _batches(_read_all(todo, job, model.image_size, bad, report), job.batch_size * model.image_size**2):
        stack = np.stack([picture for picture, _ in batch])
        for results, (_, files) in zip(_translate(model, stack, job), batch, strict=True):
            for picture, file in zip(results, files, strict=True):
                _write(file, picture)
        other_sizes += len(batch) * (stack.shape[1:3] != (model.image_size,) * 2)
        done += len(batch)
        progress.update(done + len(bad))
    progress.clear()
    return Outcome(done, len(pictures) - len(todo), bad, other_sizes)


def _translate(model: Model, stack: np.ndarray, job: Job) -> list[list[np.ndarray]]:
    """For each picture of a stack what is written: one, or the samples and then their standard deviation."""
    run = model.tiled if job.tile else model.translate
    if not job.samples:
        return [[picture] for picture in run(stack, None)]
    samples = [run(stack, np.full(len(stack), number, np.int32)) for number in range(1, job.samples + 1)]
    deviation = np.std(np.stack(samples).astype(np.float32), axis=0).mean(axis=-1, keepdims=True)  # (B, H, W, 1)
    spread = images.clip_to_uint8(STD_GAIN * deviation).repeat(3, axis=-1)
    return [list(each) for each in zip(*samples, spread, strict=True)]


def _files(target: Path, samples: int) -> list[Path]:
    if not samples:
        return [target]
    endings = [*(f"sample{number}" for number in range(1, samples + 1)), "std"]
    return [target.with_name(f"{target.stem}_{ending}{target.suffix}") for ending in endings]


def _read_all(
    todo: Sequence[tuple[Path, list[Path]]], job: Job, image_size: int, bad: dict[str, str], report: Callable
) -> Iterator[tuple[np.ndarray, list[Path]]]:
    """The pictures that can be read, one by one; the others are put into `bad` and reported."""
    index, count = job.panel or (0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        for source, files in todo:
            problem = file_problem(str(source), count, rotated=job.panel is None)
            if problem:
                bad[str(source)] = problem
                report(f"Passed over {source}: {problem}")
                continue
            with Image.open(source) as image:
                picture = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            width = picture.shape[1] // count
            picture = picture[:, index * width : (index + 1) * width]
            if job.resize:
                picture = images.to_uint8(resize(picture, image_size).numpy())
            yield picture, files


def _batches(pictures: Iterator[tuple[np.ndarray, list[Path]]], most_pixels: int) -> Iterator[list]:
    """Runs of pictures of one size, of at most so many pixels together, but at least one."""
    batch: list = []
    for picture, files in pictures:
        height, width, _ = picture.shape
        if batch and (batch[0][0].shape != picture.shape or (len(batch) + 1) * height * width > most_pixels):
            yield batch
            batch = []
        batch.append((picture, files))
    if batch:
        yield batch


def _write(file: Path, picture: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".png":
        write_png(file, picture)
    else:
        write_jpeg(file, picture)
