"""The one place where the numbers of image files become [-1, 1] tensors and come back."""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from p2p_keras.images.files import class_numbers, encode_png, stored_bits
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours

_SQUARE = 8  # pixels, of the checkerboard behind what is transparent


def to_unit_range(levels: tf.Tensor, kind: Kind = RGB) -> tf.Tensor:
    """Maps what `decode` gave, or that after resizing, to float32 (..., kind.channels) in [-1, 1].

    [0, 255] or [0, 65535] is mapped linearly, the middle to 0; a class (..., 1) becomes 1 in its channel, -1 elsewhere.
    """
    if kind.labels:
        return tf.one_hot(tf.cast(levels[..., 0], tf.int32), kind.channels, on_value=1.0, off_value=-1.0)
    return tf.cast(levels, tf.float32) / (kind.levels / 2) - 1.0


def from_unit_range(image: np.ndarray, kind: Kind = RGB) -> np.ndarray:
    """Maps [-1, 1] back to what a file of that kind holds, rounding to the nearest level; values outside are clipped.

    Args:
        image: (..., kind.channels).
        kind: 8-bit RGB by default.

    Returns:
        uint8 or, with 16 bits, uint16 (..., kind.channels); of a label map uint8 (..., 1), the class with the highest
        value.
    """
    if kind.labels:
        return np.argmax(image, axis=-1)[..., None].astype(np.uint8)
    return round_levels((np.asarray(image, np.float32) + 1.0) * (kind.levels / 2), kind)


def round_levels(levels: np.ndarray, kind: Kind = RGB) -> np.ndarray:
    """Rounds levels to the nearest that a file of that kind holds; values outside are clipped. Any shape."""
    return np.clip(np.rint(levels), 0, kind.levels).astype(kind.dtype)


def quantise(image: tf.Tensor, kind: Kind = RGB) -> tf.Tensor:
    """`from_unit_range` inside a graph: the same levels."""
    if kind.labels:
        # By way of an operation that changes nothing: else TensorFlow takes the argmax before the generator's tanh, and
        # of classes that tanh has rounded to the same number another one may be the first.
        scores = tf.ensure_shape(image, image.shape)
        return tf.cast(tf.argmax(scores, axis=-1), tf.uint8)[..., tf.newaxis]
    levels = tf.clip_by_value(tf.round((image + 1.0) * (kind.levels / 2)), 0.0, float(kind.levels))
    return tf.cast(levels, kind.dtype)


def to_rgb(levels: np.ndarray, kind: Kind = RGB) -> np.ndarray:
    """Brings (..., kind.channels) of a file to 8-bit RGB, uint8 (..., 3); not for label maps.

    Grey becomes three equal channels, alpha is dropped, of 16 bits the upper 8 are taken: as `decode` does.
    """
    if kind.bits == 16:
        levels = (levels >> 8).astype(np.uint8)
    return levels[..., :3] if kind.channels > 2 else np.repeat(levels[..., :1], 3, axis=-1)


def visible(levels: np.ndarray, kind: Kind = RGB) -> np.ndarray:
    """Makes an image of any kind visible: uint8 RGB (..., H, W, 3).

    As `to_rgb`, but alpha is shown over a checkerboard of white and light grey, so that what is transparent does not
    look white; and classes have the colours of `class_colours`.

    Args:
        levels: What `from_unit_range` gives, (..., H, W, kind.depth).
        kind: What it shows.
    """
    if kind.labels:
        return class_colours()[levels[..., 0]]
    colours = to_rgb(levels, kind)
    if kind.channels in (1, 3):
        return colours
    y, x = np.indices(levels.shape[-3:-1]) // _SQUARE
    board = np.where((x + y) % 2, 204.0, 255.0)[..., np.newaxis]
    return round_levels(board + (colours - board) * (levels[..., -1:] / kind.levels))


def split_channels(image: tf.Tensor, kinds: Sequence[Kind]) -> list[tf.Tensor]:
    """Takes several images apart whose channels are one after the other, (..., sum of the kinds' channels)."""
    return tf.split(image, [kind.channels for kind in kinds], axis=-1)


def visible_rows(columns: Sequence[np.ndarray], kinds: Sequence[Kind]) -> list[list[np.ndarray]]:
    """Rows for `sheets.grid`: the first image of each column, then the second of each, and so on.

    Args:
        columns: float32 (N, H, W, kind.channels) in [-1, 1] each.
        kinds: What each column shows.
    """
    shown = [visible(from_unit_range(column, kind), kind) for column, kind in zip(columns, kinds, strict=True)]
    return [list(row) for row in zip(*shown, strict=True)]


def encode(levels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """PNG file of what `from_unit_range` gave, without loss: uint8 or uint16 (H, W, 1 to 4), an alpha channel last.

    With a palette, uint8 (256, 3), (H, W, 1) are its entries: an indexed PNG.
    """
    if levels.dtype == np.uint16:  # which Pillow can write of grey only
        return tf.io.encode_png(levels).numpy()
    return encode_png(levels, palette)


def decode(encoded: tf.Tensor, kind: Kind = RGB) -> tf.Tensor:
    """Decodes JPEG or PNG bytes (scalar string) to (H, W, kind.channels), uint8 or uint16; classes to uint8 (H, W, 1).

    8-bit RGB is bit-exact with Pillow's `convert("RGB")`: grey images get three equal channels, palettes their
    colours, an alpha channel is dropped. With one channel colours become their luminance; missing alpha is opaque. Of a
    file with more bits than asked for the upper ones are taken, 8 bits become 16 by repetition.

    TensorFlow's default JPEG transform is up to 3 levels off; INTEGER_ACCURATE is the one Pillow uses.

    Raises:
        ValueError: It is no label map, see `class_numbers`; inside a graph a tf.errors.InvalidArgumentError.
    """
    if kind.labels:
        # Through Pillow, for TensorFlow decodes a palette to its colours and forgets which entry they were.
        return tf.ensure_shape(tf.numpy_function(_decode_classes, [encoded], tf.uint8), (None, None, 1))
    dtype = tf.as_dtype(kind.dtype)

    def from_png() -> tf.Tensor:
        if kind.channels != 2:
            return tf.io.decode_png(encoded, channels=kind.channels, dtype=dtype)
        # TensorFlow writes grey with alpha, but does not read it.
        alpha = tf.io.decode_png(encoded, channels=4, dtype=dtype)[..., 3:]
        return tf.concat([tf.io.decode_png(encoded, channels=1, dtype=dtype), alpha], axis=-1)

    def from_jpeg() -> tf.Tensor:
        colours = 3 if kind.channels > 2 else 1
        image = tf.io.decode_jpeg(encoded, channels=colours, dct_method="INTEGER_ACCURATE")
        image = tf.cast(image, dtype) * tf.cast(kind.levels // 255, dtype)
        if kind.channels == colours:
            return image
        opaque = tf.fill(tf.concat([tf.shape(image)[:2], [1]], axis=0), tf.cast(kind.levels, dtype))
        return tf.concat([image, opaque], axis=-1)

    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png), (None, None, kind.channels))


def _decode_classes(encoded: bytes | np.ndarray) -> np.ndarray:
    content = np.asarray(encoded, object).item()  # bytes in a graph, but outside of one an array that holds them
    with Image.open(io.BytesIO(content)) as image:
        return class_numbers(image, stored_bits(content))[..., None]
