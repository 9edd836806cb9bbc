"""The one place where the numbers of picture files become [-1, 1] tensors and come back."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from p2p_keras.kinds import RGB, Kind


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
    levels = (np.asarray(image, np.float32) + 1.0) * (kind.levels / 2)
    return np.clip(np.rint(levels), 0, kind.levels).astype(np.uint8 if kind.bits == 8 else np.uint16)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Maps [-1, 1] to uint8, rounding to the nearest level; values outside are clipped. Any shape."""
    return from_unit_range(image)


def clip_to_uint8(levels: np.ndarray) -> np.ndarray:
    """Rounds levels in [0, 255] to the nearest; values outside are clipped. Any shape."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def quantise(image: tf.Tensor, kind: Kind = RGB) -> tf.Tensor:
    """`from_unit_range` inside a graph: the same levels."""
    if kind.labels:
        return tf.cast(tf.argmax(image, axis=-1), tf.uint8)[..., tf.newaxis]
    levels = tf.clip_by_value(tf.round((image + 1.0) * (kind.levels / 2)), 0.0, float(kind.levels))
    return tf.cast(levels, tf.uint8 if kind.bits == 8 else tf.uint16)


def decode(encoded: tf.Tensor, kind: Kind = RGB) -> tf.Tensor:
    """Decodes JPEG or PNG bytes (scalar string) to (H, W, kind.channels), uint8 or uint16; classes to uint8 (H, W, 1).

    8-bit RGB is bit-exact with Pillow's `convert("RGB")`: grey pictures get three equal channels, palettes their
    colours, an alpha channel is dropped. With one channel colours become their luminance; missing alpha is opaque. Of a
    file with more bits than asked for the upper ones are taken, 8 bits become 16 by repetition.

    TensorFlow's default JPEG transform is up to 3 levels off; INTEGER_ACCURATE is the one Pillow uses.
    """
    if kind.labels:
        # Through Pillow, for TensorFlow decodes a palette to its colours and forgets which entry they were.
        return tf.ensure_shape(tf.numpy_function(_decode_classes, [encoded], tf.uint8), (None, None, 1))
    dtype = tf.uint8 if kind.bits == 8 else tf.uint16

    def from_jpeg() -> tf.Tensor:
        colours = 3 if kind.channels > 2 else 1
        image = tf.io.decode_jpeg(encoded, channels=colours, dct_method="INTEGER_ACCURATE")
        image = tf.cast(image, dtype) * tf.cast(kind.levels // 255, dtype)
        if kind.channels == colours:
            return image
        opaque = tf.fill(tf.concat([tf.shape(image)[:2], [1]], axis=0), tf.cast(kind.levels, dtype))
        return tf.concat([image, opaque], axis=-1)

    image = tf.cond(
        tf.io.is_jpeg(encoded), from_jpeg, lambda: tf.io.decode_png(encoded, channels=kind.channels, dtype=dtype)
    )
    return tf.ensure_shape(image, (None, None, kind.channels))


def _decode_classes(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image if image.mode in ("P", "L") else image.convert("L"))[..., None]
