"""Images in, images out: found, read, translated in batches, written under their own names."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from p2p_keras.data.check import file_problem
from p2p_keras.data.listing import EXTENSIONS, list_images, match_pattern
from p2p_keras.data.pipeline import resize
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model
from p2p_keras.images import codec
from p2p_keras.images.files import file_names, orientation_of, upright, write_jpeg, write_whole
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.system.progress import ProgressLine

STD_GAIN = 4  # levels of brightness for one level of standard deviation, so that it can be seen


class Job(NamedTuple):
    """What is done with each image."""

    panel: tuple[int, int] | None = None  # which of how many panels is the input; None if the image itself is
    resize: bool = False  # to the size trained on, first
    tile: bool = False
    samples: int = 0  # noise samples; 0 is one image without noise
    suffix: str = ""  # as `.png`; empty keeps the source's
    overwrite: bool = False
    batch_size: int = 16


class Outcome(NamedTuple):
    """How it went."""

    written: int
    kept: int  # that were there already
    bad: dict[str, str]  # source -> problem
    other_sizes: int  # translated images that were not of the size trained on


def find_images(pattern: str) -> list[tuple[Path, str]]:
    """Images of a file, a folder (and those beneath it) or a glob: their paths, and names for what becomes of them.

    In folders, and by "*" and "**", hidden ones are skipped, see `data.listing`; a file that is named is taken.

    Raises:
        UserError: There is none.
    """
    path = Path(pattern)
    if path.is_dir():
        names, _ = list_images(path, "", any_name=True)  # they are read by Python, which opens any
        found = [path / name for name in names]
    elif path.exists():
        found, names = [path], [path.name]
    else:
        found = sorted((p for p in match_pattern(pattern) if p.is_file()), key=str)
        base = Path(os.path.commonpath([p.parent for p in found])) if found else Path()
        names = [p.relative_to(base).as_posix() for p in found]
    if not found:
        raise UserError(
            f"--input is an image, a folder of images ({', '.join(EXTENSIONS)}) or a pattern in quotes, as "
            f"'photos/*.jpg'. Received: {pattern}, where there is none."
        )
    return list(zip(found, names, strict=True))


def translate_images(
    model: Model, images: Sequence[tuple[Path, str]], output: Path, job: Job, report: Callable[[str], None] = print
) -> Outcome:
    """Translates images into a folder, under their own names, images of one size in batches.

    Each is read as the kind that the model takes, and written as the kind that it gives. What no JPEG can hold (16
    bits, alpha, classes) is written as PNG, whatever its source was; a label map as an indexed one.

    Args:
        model: From `open_model`.
        images: From `find_images`.
        output: The folder; made if need be.
        job: What to do with each.
        report: Called with one line for each file that was skipped, and if images change from JPEG to PNG.

    Raises:
        UserError: The model has no noise to sample from, it gives what the wanted format cannot hold, or a file would
            be written over its own source.
    """
    if job.samples and not model.noise:
        raise UserError("--samples needs a model with noise: a run, or an export made with --noise. This one has none.")
    todo, kind = [], model.target_kind
    for (source, _), name in zip(images, _names([name for _, name in images], kind, job, report), strict=True):
        files = _files(output / name, job.samples, kind)
        if source.resolve() in {file.resolve() for file in files}:
            raise UserError(f"--output must not be where the images come from: {source} would be overwritten.")
        if job.overwrite or not all(file.exists() for file in files):
            todo.append((source, files))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output must be a folder that can be written. {output}: {error.strerror}.") from error
    progress, bad, other_sizes, done = ProgressLine(len(todo), "images"), {}, 0, 0
    for batch in _batches(_read_all(todo, job, model, bad, report), job.batch_size * model.image_size**2):
        stack = np.stack([image for image, _ in batch])
        for results, (_, files) in zip(_translate(model, stack, job), batch, strict=True):
            for image, file in zip(results, files, strict=True):
                is_map = kind.labels and image.shape[-1] == 1  # and not the samples' spread, which is RGB
                _write(file, image, class_colours() if is_map else None)
        other_sizes += len(batch) * (stack.shape[1:3] != (model.image_size,) * 2)
        done += len(batch)
        progress.update(done + len(bad))
    progress.clear()
    return Outcome(done, len(images) - len(todo), bad, other_sizes)


def _translate(model: Model, stack: np.ndarray, job: Job) -> list[list[np.ndarray]]:
    """For each image of a stack what is written: one, or the samples and then their standard deviation."""
    run = model.tiled if job.tile else model.translate
    if not job.samples:
        return [[image] for image in run(stack, None)]
    samples = [run(stack, np.full(len(stack), number, np.int32)) for number in range(1, job.samples + 1)]
    return [list(each) for each in zip(*samples, _spread(np.stack(samples), model.target_kind), strict=True)]


def _spread(samples: np.ndarray, kind: Kind) -> np.ndarray:
    """How far samples (N, B, H, W, depth) differ, as brightness of grey images: uint8 (B, H, W, 3).

    The standard deviation, averaged over the channels, `STD_GAIN` levels for each of its levels (of 255, for 16 bits
    too). Of label maps the share of samples that have another class than most have, from black to white.
    """
    if kind.labels:
        most = np.zeros(samples.shape[1:], np.int64)
        for sample in samples:
            np.maximum(most, (samples == sample).sum(axis=0), out=most)
        brightness = 255.0 * (1.0 - most / len(samples))
    else:
        deviation = np.std(samples.astype(np.float32), axis=0).mean(axis=-1, keepdims=True)  # (B, H, W, 1)
        brightness = STD_GAIN * deviation * np.float32(255 / kind.levels)
    return codec.round_levels(brightness).repeat(3, axis=-1)


def _names(names: list[str], kind: Kind, job: Job, report: Callable[[str], None]) -> list[str]:
    """What the translated images are called."""
    if kind.fits_jpeg:
        return file_names(names, job.suffix) if job.suffix else names
    if job.suffix not in ("", ".png"):
        raise UserError(
            f"A JPEG holds grey or RGB of 8 bits. Received --format={job.suffix[1:]} for {_in_words(kind)}, which "
            "this model gives. Take --format=png, or leave it out."
        )
    if not job.suffix and not all(name.lower().endswith(".png") for name in names):
        report(f"Written as PNG, also where the source is a JPEG: that cannot hold {_in_words(kind)}")
    return file_names(names, ".png")


def _in_words(kind: Kind) -> str:
    if kind.labels:
        return "label maps"
    return "16 bits" if kind.bits == 16 else "an alpha channel"


def _files(target: Path, samples: int, kind: Kind) -> list[Path]:
    if not samples:
        return [target]
    endings = [*(f"sample{number}" for number in range(1, samples + 1)), "variation" if kind.labels else "std"]
    return [target.with_name(f"{target.stem}_{ending}{target.suffix}") for ending in endings]


def _read_all(
    todo: Sequence[tuple[Path, list[Path]]], job: Job, model: Model, bad: dict[str, str], report: Callable
) -> Iterator[tuple[np.ndarray, list[Path]]]:
    """The images that can be read, one by one; the others are put into `bad` and reported."""
    (index, count), kind = job.panel or (0, 1), model.input_kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        for source, files in todo:
            problem = file_problem(str(source), count, rotated=job.panel is None, panel=index, kind=kind)
            try:
                image = None if problem else _read(source, kind)
            except tf.errors.InvalidArgumentError:  # Pillow read it, but TensorFlow is stricter
                problem = "it cannot be decoded (TensorFlow refuses it)"
            if problem:
                bad[str(source)] = problem
                report(f"Skipped {source}: {problem}")
                continue
            width = image.shape[1] // count
            image = image[:, index * width : (index + 1) * width]
            if job.resize:
                image = codec.from_unit_range(resize(image, model.image_size, kind).numpy(), kind)
            yield image, files


def _read(source: Path, kind: Kind) -> np.ndarray:
    """An image as training reads it, but turned upright: (H, W, kind.depth)."""
    with Image.open(source) as image:
        orientation = orientation_of(image)
    return upright(codec.decode(source.read_bytes(), kind).numpy(), orientation)


def _batches(images: Iterator[tuple[np.ndarray, list[Path]]], most_pixels: int) -> Iterator[list]:
    """Runs of images of one size, of at most so many pixels together, but at least one."""
    batch: list = []
    for image, files in images:
        height, width, _ = image.shape
        if batch and (batch[0][0].shape != image.shape or (len(batch) + 1) * height * width > most_pixels):
            yield batch
            batch = []
        batch.append((image, files))
    if batch:
        yield batch


def _write(file: Path, image: np.ndarray, palette: np.ndarray | None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".png":
        write_whole(file, codec.encode(image, palette), sync=False)
    else:
        write_jpeg(file, image)
