"""How images are resized, the same in training, evaluation, translation and exports."""

import tensorflow as tf

from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size


def resize(image: tf.Tensor, size: Size, kind: Kind = RGB) -> tf.Tensor:
    """Resizes a decoded image (H, W, kind.depth), as at inference, to float32 (*size, kind.channels) in [-1, 1]."""
    return resize_and_crop(image, size, size, 0, 0, kind)


def resize_and_crop(
    image: tf.Tensor, size: Size | tf.Tensor, crop: Size, top: tf.Tensor | int, left: tf.Tensor | int, kind: Kind = RGB
) -> tf.Tensor:
    """`tf.image.resize(..., "bilinear", antialias=True)` to `size`, then a crop, in [-1, 1].

    Bilinear as in the original's `image.scale`; the antialiasing, which matters only when shrinking, is ours. Classes
    are not mixed: of a label map the nearest pixel is taken.

    Args:
        image: (H, W, kind.depth), any size, as decoded.
        size: That it is resized to.
        crop: That is left of it.
        top: Where the crop begins, in pixels of `size`.
        left: Likewise.
        kind: What it shows.

    Returns:
        float32 (*crop, kind.channels).
    """
    if kind.labels:
        resized = tf.raw_ops.ResizeNearestNeighbor(images=image[tf.newaxis], size=size, half_pixel_centers=True)
        return codec.to_unit_range(resized[0, top : top + crop[0], left : left + crop[1]], kind)
    unit = codec.to_unit_range(image, kind)[tf.newaxis]  # before resizing, which is faster of floats than of bytes
    return tf.ensure_shape(_resize_floats(unit, size, crop, top, left)[0], (*crop, kind.channels))


def resize_batch(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The same of float32 (B, H, W, C), without a crop; `size` is int32 (2,)."""
    return _resize_floats(images, size, size, 0, 0)


def _resize_floats(images, size, crop, top, left):
    def enlarged() -> tf.Tensor:  # the same numbers as below, in a quarter of the time
        resized = tf.raw_ops.ResizeBilinear(images=images, size=size, half_pixel_centers=True)
        return resized[:, top : top + crop[0], left : left + crop[1]]

    def shrunk() -> tf.Tensor:
        return tf.raw_ops.ScaleAndTranslate(
            images=images,
            size=crop,
            scale=tf.cast(size, tf.float32) / tf.cast(tf.shape(images)[1:3], tf.float32),
            translation=-tf.cast(tf.stack([top, left]), tf.float32),
            kernel_type="triangle",
            antialias=True,
        )

    return tf.cond(tf.reduce_all(tf.shape(images)[1:3] <= size), enlarged, shrunk)
