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
from p2p_keras.data.picture import ImageError
from p2p_keras.data.stems import match_stems
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model
from p2p_keras.images import codec
from p2p_keras.images.files import file_names, orientation_of, upright, write_jpeg, write_whole
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.sizes import Size
from p2p_keras.system.progress import ProgressLine

STD_GAIN = 4  # levels of brightness for one level of standard deviation, so that it can be seen


class Job(NamedTuple):
    """What is done with each image."""

    panels: tuple[tuple[int, ...], int] | None = None  # which of how many panels are the inputs; None if whole images
    tile: bool = False  # in the images' own resolution, instead of the scale trained at
    samples: int = 0  # noise samples; 0 is one image without noise
    suffix: str = ""  # as `.png`; empty keeps the source's
    overwrite: bool = False
    batch_size: int = 16


class Outcome(NamedTuple):
    """How it went."""

    written: int
    kept: int  # that were there already
    bad: dict[str, str]  # source -> problem
    other_sizes: int  # translated images that were not of the size trained on, and have been resized


class Source(NamedTuple):
    """What one image is made from."""

    files: tuple[Path, ...]  # one for each input, or one that holds all of them side by side
    name: str  # of what becomes of it


def find_sources(patterns: Sequence[str], report: Callable[[str], None] = print, flag: str = "--input") -> list[Source]:
    """Images of a file, a folder (and those beneath it) or a glob; of several, those of the same name go together.

    Args:
        patterns: One for each input, or one.
        report: Called with one line for each image without partner.
        flag: By which they were given, for what is said if there is none.

    Raises:
        UserError: There is none.
    """
    listings = [_find_images(pattern, flag) for pattern in patterns]
    if len(listings) == 1:
        return [Source((path,), name) for path, name in listings[0]]
    paths = [{name: path for path, name in listing} for listing in listings]
    matched, left = match_stems(paths)
    for (number, name), why in left.items():
        report(f"Skipped {paths[number][name]}: {why}")
    if not matched:
        raise UserError(
            f"The images of several {flag} folders go together by their names. {' and '.join(patterns)} have none "
            "in common."
        )
    rows = matched.values()
    return [Source(tuple(found[name] for found, name in zip(paths, row, strict=True)), row[0]) for row in rows]


def _find_images(pattern: str, flag: str) -> list[tuple[Path, str]]:
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
            f"{flag} is an image, a folder of images ({', '.join(EXTENSIONS)}) or a pattern in quotes, as "
            f"'photos/*.jpg'. There is none in {pattern}."
        )
    return list(zip(found, names, strict=True))


def translate_images(
    model: Model, images: Sequence[Source], output: Path, job: Job, report: Callable[[str], None] = print
) -> Outcome:
    """Translates images into a folder, under their own names, images of one size in batches.

    Each is read as the kind that the model takes, and written as the kind that it gives, in its own size. What no JPEG
    can hold (16 bits, alpha, classes) is written as PNG, whatever its source was; a label map as an indexed one.

    Args:
        model: From `open_model`.
        images: From `find_sources`.
        output: The folder; made if need be.
        job: What to do with each.
        report: Called with one line for each file that was skipped, and if images change from JPEG to PNG.

    Raises:
        UserError: The model has no noise to sample from, it gives what the wanted format cannot hold, or a file would
            be written over its own source.
    """
    if job.samples and not model.noise:
        raise UserError(
            "--samples needs a model with noise: a run with --dropout, or its export with --noise. This one has none."
        )
    contract = model.contract
    todo, kind = [], contract.target_kind
    for source, name in zip(images, _names([source.name for source in images], kind, job, report), strict=True):
        files = _files(output / name, job.samples, kind)
        written_over = {path.resolve() for path in source.files} & {file.resolve() for file in files}
        if written_over:
            raise UserError(
                f"--output must not be where the images come from: {written_over.pop()} would be overwritten."
            )
        if job.overwrite or not all(file.exists() for file in files):
            todo.append((source, files))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output must be a folder that can be written. {output}: {error.strerror}.") from error
    progress, bad, other_sizes, done = ProgressLine(len(todo), "images"), {}, 0, 0
    size = contract.image_size
    for batch in _batches(_read_all(todo, job, model, bad, report), job.batch_size * size.height * size.width):
        stack = [np.stack(images) for images in zip(*(inputs for inputs, _ in batch), strict=True)]
        for results, (_, files) in zip(_translate(model, stack, job), batch, strict=True):
            for image, file in zip(results, files, strict=True):
                is_map = kind.labels and image.shape[-1] == 1  # and not the samples' spread, which is RGB
                _write(file, image, class_colours() if is_map else None)
        resized = not (job.tile or contract.native) and stack[0].shape[1:3] != size
        other_sizes += len(batch) * resized
        done += len(batch)
        progress.update(done + len(bad))
    progress.clear()
    return Outcome(done, len(images) - len(todo), bad, other_sizes)


def _translate(model: Model, stack: Sequence[np.ndarray], job: Job) -> list[list[np.ndarray]]:
    """For each image of the stacks, one for each input, what is written: one image, or the samples and their spread."""
    run = model.function(job.tile, stack)
    if not job.samples:
        return [[image] for image in run(stack, None)]
    seeds = [np.full(len(stack[0]), number, np.int32) for number in range(1, job.samples + 1)]
    samples = [run(stack, seed) for seed in seeds]
    return [list(each) for each in zip(*samples, _spread(np.stack(samples), model.contract.target_kind), strict=True)]


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
    todo: Sequence[tuple[Source, list[Path]]], job: Job, model: Model, bad: dict[str, str], report: Callable
) -> Iterator[tuple[list[np.ndarray], list[Path]]]:
    """The inputs of images that can be read, one by one; the others are put into `bad` and reported."""
    kinds = model.contract.input_kinds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        warnings.filterwarnings("ignore", module="PIL")  # odd tags: what counts is whether it is decoded
        for source, files in todo:
            try:
                yield _read_inputs(source, job, kinds), files
            except ImageError as problem:
                name = " and ".join(map(str, source.files))
                bad[name] = str(problem)
                report(f"Skipped {name}: {problem}")


def read_inputs(files: Sequence[Path], kinds: Sequence[Kind]) -> list[np.ndarray]:
    """Reads a file for each input, see `read_image`.

    Raises:
        ImageError: One of them cannot be read, or they differ in size.
    """
    images = [read_image(path, kind) for path, kind in zip(files, kinds, strict=True)]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        shown = " and ".join(str(Size(*size)) for size in sorted(sizes))
        raise ImageError(f"its inputs differ in size, {shown}")
    return images


def _read_inputs(source: Source, job: Job, kinds: Sequence[Kind]) -> list[np.ndarray]:
    """The levels of each input. Raises ImageError."""
    if job.panels is None:
        return read_inputs(source.files, kinds)
    (panels, count), images = job.panels, []
    for panel, kind in zip(panels, kinds, strict=True):
        composite = read_image(source.files[0], kind, count, panel)
        width = composite.shape[1] // count
        images.append(composite[:, panel * width : (panel + 1) * width])
    return images


def read_image(source: Path, kind: Kind, panel_count: int = 0, panel: int = 0) -> np.ndarray:
    """Reads an image as training does, but turned upright: (H, W, kind.depth).

    Args:
        source: The file.
        kind: What it shows.
        panel_count: Of a composite; those stay as they are. 0 is no composite.
        panel: That must have the kind's classes, if it is a label map.

    Raises:
        ImageError: It cannot be read, or is not of that kind.
    """
    problem = file_problem(str(source), panel_count or 1, rotated=not panel_count, panel=panel, kind=kind)
    if problem:
        raise ImageError(problem)
    with Image.open(source) as image:
        orientation = orientation_of(image)
    try:
        return upright(codec.decode(source.read_bytes(), kind).numpy(), orientation)
    except tf.errors.InvalidArgumentError as error:  # Pillow read it, but TensorFlow is stricter
        raise ImageError("it cannot be decoded (TensorFlow refuses it)") from error


def _batches(images: Iterator[tuple[list[np.ndarray], list[Path]]], most_pixels: int) -> Iterator[list]:
    """Runs of images of one size, of at most so many pixels together, but at least one."""
    batch: list = []
    for inputs, files in images:
        height, width, _ = inputs[0].shape
        if batch and (batch[0][0][0].shape != inputs[0].shape or (len(batch) + 1) * height * width > most_pixels):
            yield batch
            batch = []
        batch.append((inputs, files))
    if batch:
        yield batch


def _write(file: Path, image: np.ndarray, palette: np.ndarray | None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".png":
        write_whole(file, codec.encode(image, palette), sync=False)
    else:
        write_jpeg(file, image)
