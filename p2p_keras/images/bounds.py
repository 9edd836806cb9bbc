"""How large an encoded image would become, told in a graph before it is decoded: string scalars -> numbers."""

import tensorflow as tf

from p2p_keras.images.files import PNG_START
from p2p_keras.system.limits import MAX_PIXELS, MAX_SCANS


def is_png(encoded: tf.Tensor) -> tf.Tensor:
    """Whether it begins as a PNG must."""
    return tf.strings.substr(encoded, 0, len(PNG_START)) == PNG_START


def count_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Pixels of a JPEG or PNG, int64; 0 of anything else."""
    others = [(is_png(encoded), lambda: _png_pixels(encoded))]
    return tf.case([(tf.io.is_jpeg(encoded), lambda: _jpeg_pixels(encoded)), *others], lambda: tf.constant(0, tf.int64))


def count_scans(encoded: tf.Tensor) -> tf.Tensor:
    """How often the marker of a scan stands in a JPEG, int32: also in what lies beside the image, as thumbnails."""
    content = tf.io.decode_raw(encoded, tf.uint8)
    return tf.reduce_sum(tf.cast((content[:-1] == 0xFF) & (content[1:] == 0xDA), tf.int32))


def bounded(encoded: tf.Tensor) -> tf.Tensor:
    """The same JPEG or PNG, if it is within `system.limits`.

    Raises:
        tf.errors.InvalidArgumentError: When it runs: it is not, or begins otherwise.
    """
    is_jpeg = tf.io.is_jpeg(encoded)
    known = tf.logical_or(is_jpeg, is_png(encoded))
    scans = tf.cond(is_jpeg, lambda: count_scans(encoded), lambda: tf.constant(0))
    checks = [
        tf.debugging.Assert(known, ["it is not a JPEG or PNG file"]),
        tf.debugging.Assert(count_pixels(encoded) <= MAX_PIXELS, [f"larger than {MAX_PIXELS // 10**6} megapixels"]),
        tf.debugging.Assert(scans <= MAX_SCANS, [f"a JPEG of more than {MAX_SCANS:,} scans"]),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(encoded)


def _jpeg_pixels(encoded: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))


def _png_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Width and height stand in the header, in bytes 16 to 23, the highest byte first."""
    header = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
    return tf.reduce_prod(tf.cast(header, tf.int64))
