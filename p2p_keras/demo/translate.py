"""What the page does with a model: files and paintings in, a picture to look at and one to keep out. No gradio."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from p2p_keras.data.picture import ImageError, open_image
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.sizes import Size
from p2p_keras.translate import read_image

CANVAS_SIDE = 512  # pixels, of the longer side of what is painted on, if the model's images are smaller
_OPAQUE = 128  # alpha from which a pixel counts as painted
_COLOURS, _APART, _LOOKED_AT = 10, 48, 5_000  # how many a brush is offered, levels between them, of how many
_DENSEST = 4  # pixels of a screen for each that a page counts, a side
_PACK = np.array([1 << 16, 1 << 8, 1], np.int32)  # a colour as one number


class Result(NamedTuple):
    """A translated picture."""

    before: np.ndarray  # the first input, to be looked at: uint8 (H, W, 3), small ones enlarged by a whole factor
    after: np.ndarray  # the generated picture, likewise
    file: bytes  # the same as a PNG, in its own size and kind; a label map indexed
    size: Size  # of that


def paintable(kind: Kind) -> bool:
    """Whether such an input can be painted: colours, or classes by their colours."""
    return kind == RGB or kind.labels


def canvas_size(size: Size) -> Size:
    """What is painted on, for a model of that size: the same enlarged by a whole factor."""
    zoom = _zoom(size)
    return Size(size.height * zoom, size.width * zoom)


def translate(
    model: Model, inputs: Sequence[Path | np.ndarray | None], seed: int | None = None, tile: bool | None = None
) -> Result:
    """Translates what was put on the page.

    Args:
        model: From `open_model`.
        inputs: One for each that the model takes: a file, a painting, uint8 (H, W, 4), or None where there is nothing.
            A painting becomes as large as the files beside it, or else of the size that the model was trained on.
        seed: Draws dropout noise; None is without.
        tile: Whether to work in overlapping tiles, in the picture's own resolution. None: as the model was trained.

    Raises:
        UserError: An input is missing, or cannot be used; says why in a sentence for the page.
    """
    names, kinds = model.contract.input_names, model.contract.input_kinds
    images: list[np.ndarray | None] = [None] * len(kinds)
    for number, (given, kind) in enumerate(zip(inputs, kinds, strict=True)):
        if given is None:
            what = f"for {names[number]}" if len(kinds) > 1 else "first"
            raise UserError(f"Put a picture here {what}.")
        if isinstance(given, Path):
            images[number] = _read(given, kind, names[number])
        elif max(given.shape[:2]) > _DENSEST * max(canvas_size(model.contract.image_size)):  # not from our page
            raise UserError(
                f"A painting is of {canvas_size(model.contract.image_size)}. This is {Size(*given.shape[:2])}."
            )
    sizes = {Size(*image.shape[:2]) for image in images if image is not None}
    if len(sizes) > 1:
        raise UserError(f"The inputs must be of one size. These are {' and '.join(map(str, sorted(sizes)))}.")
    size = next(iter(sizes), model.contract.image_size)
    stack = [
        (from_painting(given, kind, size) if image is None else image)[np.newaxis]
        for given, image, kind in zip(inputs, images, kinds, strict=True)
    ]
    run = model.function(model.contract.native if tile is None else tile, stack)
    (generated,) = run(stack, None if seed is None else np.array([seed], np.int32))
    target = model.contract.target_kind
    file = codec.encode(generated, class_colours() if target.labels else None)
    return Result(to_look_at(stack[0][0], kinds[0]), to_look_at(generated, target), file, size)


def read_painting(file: Path) -> np.ndarray:
    """What a canvas sent, uint8 (H, W, 4).

    Raises:
        UserError: It is no picture, or too large a one; says so in a sentence for the page.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of `_read`
            return np.asarray(open_image(str(file)).convert("RGBA"))
    except ImageError as problem:
        raise UserError(f"This painting cannot be used: {problem}.") from problem


def from_painting(painting: np.ndarray, kind: Kind, size: Size) -> np.ndarray:
    """Makes of a painting what a file of that kind and size would hold.

    Args:
        painting: uint8 (H, W, 4), as the canvas has it. What is not painted is white, of a label map class 0.
        kind: RGB, or classes in the colours of `class_colours`.
        size: To which it is brought.

    Returns:
        uint8 (size.height, size.width, kind.depth).
    """
    if kind.labels:
        classes = _to_classes(painting, kind.channels)
        rows = (np.arange(size.height) * 2 + 1) * classes.shape[0] // (2 * size.height)  # the middle of each new pixel
        columns = (np.arange(size.width) * 2 + 1) * classes.shape[1] // (2 * size.width)
        return classes[rows[:, None], columns, None]
    image = Image.fromarray(painting)
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(flat.resize((size.width, size.height), Image.Resampling.BOX))


def to_canvas(levels: np.ndarray, kind: Kind, size: Size) -> np.ndarray:
    """A picture as something to paint on: uint8 RGB of `canvas_size(size)`, in whole pixels."""
    canvas = canvas_size(size)
    return np.asarray(
        Image.fromarray(codec.visible(levels, kind)).resize((canvas.width, canvas.height), Image.Resampling.NEAREST)
    )


def empty_canvas(kind: Kind, size: Size) -> np.ndarray:
    """What is painted on at first: white, of a label map class 0."""
    canvas = canvas_size(size)
    colour = class_colours()[0] if kind.labels else np.full(3, 255, np.uint8)
    return np.tile(colour, (*canvas, 1))


def to_look_at(levels: np.ndarray, kind: Kind) -> np.ndarray:
    """An image of any kind as uint8 RGB, a small one enlarged by a whole factor to about `CANVAS_SIDE`."""
    zoom = _zoom(Size(*levels.shape[:2]))
    return codec.visible(levels, kind).repeat(zoom, axis=0).repeat(zoom, axis=1)


def frequent_colours(images: Sequence[np.ndarray]) -> np.ndarray:
    """The most frequent colours of uint8 (H, W, 3) images that are well apart, at most `_COLOURS`: uint8 (N, 3)."""
    if not images:
        return np.zeros((0, 3), np.uint8)
    numbers = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.int32) @ _PACK
    values, counts = np.unique(numbers, return_counts=True)
    found: list[np.ndarray] = []
    for value in values[np.argsort(-counts, kind="stable")][:_LOOKED_AT]:
        colour = value // _PACK % 256
        if all(np.abs(colour - other).max() >= _APART for other in found):
            found.append(colour)
        if len(found) == _COLOURS:
            break
    return np.array(found, np.uint8)


def as_hex(colours: np.ndarray) -> list[str]:
    """uint8 (N, 3) as `#rrggbb`."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours]


def _to_classes(painting: np.ndarray, count: int) -> np.ndarray:
    """The class of each pixel, uint8 (H, W), of a painting (H, W, 4) in the colours of the first `count` classes.

    Browsers smooth the edge of a brush. The nearest colour to such a mixture may be that of a third class, so what has
    none of the colours takes the class of a pixel beside it, from the outside inwards.
    """
    colours = class_colours()[:count].astype(np.int32)
    numbers = colours @ _PACK  # all different
    order = np.argsort(numbers)
    found = painting[..., :3].astype(np.int32) @ _PACK
    place = np.minimum(np.searchsorted(numbers[order], found), count - 1)
    painted = painting[..., 3] >= _OPAQUE
    known = (numbers[order][place] == found) | ~painted
    classes = np.where(painted, order[place], 0)
    if not known.any():  # not one of the colours: another program's picture
        distance = np.square(painting[..., None, :3].astype(np.int32) - colours).sum(axis=-1)
        return distance.argmin(axis=-1).astype(np.uint8)
    while not known.all():
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            taken = ~known & _moved(known, axis, step)
            classes = np.where(taken, _moved(classes, axis, step), classes)
            known = known | taken
    return classes.astype(np.uint8)


def _moved(array: np.ndarray, axis: int, step: int) -> np.ndarray:
    """(H, W) moved by a pixel; zeros come in."""
    moved = np.roll(array, step, axis)
    moved[(0 if step > 0 else -1, slice(None)) if axis == 0 else (slice(None), 0 if step > 0 else -1)] = 0
    return moved


def _zoom(size: Size) -> int:
    return max(1, CANVAS_SIDE // max(size))


def _read(path: Path, kind: Kind, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd tags and of sizes below our own limit
            return read_image(path, kind)
    except ImageError as problem:
        what = "This picture" if name == "image" else f"The picture for {name}"
        raise UserError(f"{what} cannot be used: {problem}.") from problem
