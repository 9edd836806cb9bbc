"""DiffAugment (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"): what the
discriminator sees is changed at random, real and generated alike, so that it cannot learn the training pairs by heart.

The three operations and their ranges are the paper's, in the order of its code (`DiffAugment_tf.py`): colour,
translation, cutout. Departures, for pairs: the input image is moved and cut as its target is, since the discriminator
judges how they fit together, and keeps its colours; the generated image is changed just as the target of its pair is.
"""

import tensorflow as tf

from p2p_keras.images.kinds import Kind
from p2p_keras.layers.noise import split_mix

_SALT = 1000  # beyond those of the generator's noise layers, so that they draw from other streams
_TRANSLATION = 0.125  # most that an image is moved, as a part of its side
_CUTOUT = 0.5  # side of the square that is cut out, as a part of the image's


def augment_pairs(
    noise_seed: tf.Tensor,
    input_image: tf.Tensor,
    target_image: tf.Tensor,
    generated_image: tf.Tensor,
    target_kind: Kind,
    policy: str = "ctk",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Changes each pair by draws of its own. Differentiable; what leaves [-1, 1] is not cut off.

    Args:
        noise_seed: int32 (B, 2); decides all draws.
        input_image: float32 (B, H, W, C) in [-1, 1].
        target_image: The same form, of `target_kind.channels`.
        generated_image: The same form as the target.
        target_kind: What the target shows: label maps and alpha keep their values.

    Returns:
        The three images, of the same forms.
    """
    draws = _uniform(noise_seed, 7)
    colours = 0 if target_kind.labels or "c" not in policy else 3 if target_kind.channels > 2 else 1
    changed = [input_image, *(change_colour(image, draws[:, :3], colours) for image in (target_image, generated_image))]
    if "t" in policy:
        changed = [translate(image, draws[:, 3:5]) for image in changed]
    if "k" in policy:
        changed = [cut_out(image, draws[:, 5:]) for image in changed]
    return tuple(changed)


def change_colour(image: tf.Tensor, draws: tf.Tensor, colours: int) -> tf.Tensor:
    """Brightness by up to 0.5, saturation by 0 to 2, contrast by 0.5 to 1.5.

    Args:
        image: (B, H, W, C).
        draws: (B, 3) in [0, 1).
        colours: The first so many channels are changed.
    """
    if not colours:
        return image
    brightness, saturation, contrast = tf.split(draws[:, :, None, None], 3, axis=1)  # (B, 1, 1, 1) each
    colour, rest = image[..., :colours], image[..., colours:]
    colour += brightness - 0.5
    grey = tf.reduce_mean(colour, axis=3, keepdims=True)
    colour = (colour - grey) * (2.0 * saturation) + grey
    mean = tf.reduce_mean(colour, axis=[1, 2, 3], keepdims=True)
    colour = (colour - mean) * (contrast + 0.5) + mean
    return tf.concat([colour, rest], axis=3)


def translate(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Moves (B, H, W, C) down and to the right by up to an eighth of its sides, or back; zeros come in.

    Args:
        image: (B, H, W, C).
        draws: (B, 2) in [0, 1), vertical and horizontal.
    """
    sides = tf.shape(image)[1:3]
    most = tf.cast(tf.cast(sides, tf.float32) * _TRANSLATION + 0.5, tf.int32)
    by = _whole(draws, 2 * most + 1) - most  # (B, 2)
    return _move(image, by)


def cut_out(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Sets a square of half the sides to zero; up to half of it may lie outside.

    Args:
        image: (B, H, W, C).
        draws: (B, 2) in [0, 1): its middle, from the top and the left.
    """
    sides = tf.shape(image)[1:3]
    square = tf.cast(tf.cast(sides, tf.float32) * _CUTOUT + 0.5, tf.int32)
    first = _whole(draws, sides + 1 - square % 2) - square // 2  # (B, 2)

    def inside(axis: int) -> tf.Tensor:
        distance = tf.range(sides[axis])[None] - first[:, axis, None]
        return tf.logical_and(distance >= 0, distance < square[axis])  # (B, sides[axis])

    inside_both = tf.logical_and(inside(0)[:, :, None, None], inside(1)[:, None, :, None])  # (B, H, W, 1)
    return tf.where(inside_both, tf.zeros((), image.dtype), image)


@tf.custom_gradient
def _move(image: tf.Tensor, by: tf.Tensor):
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:  # TensorFlow's, of two gathers, adds up row by row
        return _shift(upstream, -by), None

    return _shift(image, by), gradient


def _shift(image: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    for axis in (1, 2):
        size = tf.shape(image)[axis]
        source = tf.range(size)[None] - by[:, axis - 1, None]  # (B, size)
        source = tf.where(tf.logical_and(source >= 0, source < size), source, size)  # what is beyond comes from a zero
        padding = [[0, 1] if i == axis else [0, 0] for i in range(4)]
        image = tf.gather(tf.pad(image, padding), source, axis=axis, batch_dims=1)
    return image


def _whole(draws: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """int32 from 0 to count - 1."""
    return tf.cast(draws * tf.cast(count, tf.float32), tf.int32)


def _uniform(noise_seed: tf.Tensor, count: int) -> tf.Tensor:
    """float32 (B, count) in [0, 1), multiples of 2^-23."""
    own = split_mix(tf.bitcast(noise_seed, tf.int64)[:, None], tf.constant([_SALT], tf.int64))
    bits = split_mix(own, tf.range(count, dtype=tf.int64))
    return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
