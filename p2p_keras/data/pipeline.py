"""tf.data: order, read, decode, jitter, batch, prefetch. Every draw is a function of (seed, position), nothing is
remembered.

The n-th example of a run (n counts over all steps and epochs) is always the same picture under the same jitter with the
same noise seed, so a run can start at any step, on any number of replicas, and see what an uninterrupted one saw.
"""

from collections.abc import Sequence

import tensorflow as tf

from p2p_keras import images

# First numbers of the derived seeds, so that order, jitter and noise never share a stream.
_ORDER, _JITTER, _NOISE = 1, 2, 3


def load_size(image_size: int) -> int:
    """Size a picture is resized to before the random crop: 286 for 256, the paper's ratio, rounded."""
    return round(image_size * 286 / 256)


def training_dataset(
    paths: Sequence[str],
    panel_count: int,
    input_panel: int,
    target_panel: int,
    image_size: int,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
) -> tf.data.Dataset:
    """Batches of a training run, from step `first_step` up to but without `last_step`.

    Each epoch is a new permutation of the pairs; what does not fill its last batch is left out of that epoch.

    Returns:
        A data set of (input_image, target_image, noise_seed): float32 (B, S, S, 3) in [-1, 1] twice, int32 (B, 2).
    """
    steps_per_epoch = len(paths) // batch_size
    used = steps_per_epoch * batch_size
    table = tf.constant(list(paths))

    def example(n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epoch, position = n // used, n % used
        index = tf.random.experimental.index_shuffle(position, _seed_of(seed, _ORDER, epoch), len(paths) - 1)
        pair = read_pair(table[index], panel_count, input_panel, target_panel)
        pair = random_jitter(pair, _seed_of(seed, _JITTER, n), image_size)
        return *_split(pair), _seed_of(seed, _NOISE, n)

    return (
        tf.data.Dataset.range(first_step * batch_size, last_step * batch_size)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def inference_dataset(
    paths: Sequence[str], panel_count: int, input_panel: int, target_panel: int, image_size: int, batch_size: int
) -> tf.data.Dataset:
    """Every pair once, in order, resized, not jittered: (input_image, target_image), float32 (<=B, S, S, 3)."""

    def example(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pair = read_pair(path, panel_count, input_panel, target_panel)
        return _split(resize(pair, image_size))

    return (
        tf.data.Dataset.from_tensor_slices(list(paths))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def read_pair(path: tf.Tensor, panel_count: int, input_panel: int, target_panel: int) -> tf.Tensor:
    """Reads one composite: uint8 (H, W, 6), the input's channels before the target's, so that both share every draw."""
    composite = images.decode(tf.io.read_file(path))  # (H, panel_count * W, 3)
    width = tf.shape(composite)[1] // panel_count
    panels = [composite[:, i * width : (i + 1) * width] for i in (input_panel, target_panel)]
    return tf.concat(panels, axis=-1)


def random_jitter(pair: tf.Tensor, seed: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes to the load size, crops at random, mirrors every second picture (paper, section 6.2).

    Args:
        pair: uint8 (H, W, C), any size.
        seed: int32 (2,); the draw is a function of it alone.
        image_size: S.

    Returns:
        float32 (S, S, C) in [0, 255].
    """
    size = load_size(image_size)
    draw = tf.random.stateless_uniform((3,), seed)
    offset = tf.cast(draw[:2] * float(size - image_size + 1), tf.int32)
    pair = _resize_and_crop(pair, size, image_size, offset)
    return tf.where(draw[2] < 0.5, pair[:, ::-1], pair)


def resize(picture: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes (H, W, C), as at inference, to float32 (S, S, C) in [0, 255]."""
    return _resize_and_crop(picture, image_size, image_size, tf.zeros(2, tf.int32))


def _resize_and_crop(pair: tf.Tensor, size: int, crop: int, offset: tf.Tensor) -> tf.Tensor:
    """Resizes (H, W, C) to (size, size) and cuts (crop, crop) from `offset` (y, x), in one pass.

    It is `tf.image.resize(..., "bilinear", antialias=True)` followed by a crop, without computing what the crop throws
    away. Bilinear as in the original's `image.scale`; the antialiasing, which matters only when shrinking, is ours.
    """
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(pair)[:2], tf.float32)
    pair = tf.raw_ops.ScaleAndTranslate(
        images=pair[tf.newaxis],
        size=(crop, crop),
        scale=scale,
        translation=-tf.cast(offset, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return pair[0]


def _split(pair: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    pair = images.to_unit_range(pair)
    return pair[..., :3], pair[..., 3:]


def _seed_of(seed: int, stream: int, n: tf.Tensor) -> tf.Tensor:
    return tf.random.fold_in(tf.constant([seed, stream], tf.int32), n)
