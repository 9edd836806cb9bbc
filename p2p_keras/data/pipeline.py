"""tf.data: order, read, decode, jitter, batch, prefetch. Every draw is a function of (seed, position), nothing is
remembered.

The n-th example of a run (n counts over all steps and epochs) is always the same image under the same jitter with the
same noise seed, so a run can start at any step, on any number of replicas, and see what an uninterrupted one saw.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from p2p_keras.data.pairs import Files, Reading
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind

# First numbers of the derived seeds, so that order, jitter and noise never share a stream.
_ORDER, _JITTER, _NOISE = 1, 2, 3


class Jitter(NamedTuple):
    """One draw of the random jitter, the same for both images of a pair."""

    top: tf.Tensor  # int32 (): where the crop begins, in pixels of the load size
    left: tf.Tensor
    mirrored: tf.Tensor  # bool ()


def load_size(image_size: int) -> int:
    """Size an image is resized to before the random crop: 286 for 256, the paper's ratio, rounded."""
    return round(image_size * 286 / 256)


def training_dataset(
    files: Files, reading: Reading, batch_size: int, seed: int, first_step: int, last_step: int
) -> tf.data.Dataset:
    """Batches of a training run, from step `first_step` up to but without `last_step`.

    Each epoch is a new permutation of the pairs; what does not fill its last batch is left out of that epoch.

    Returns:
        A data set of (input_image, target_image, noise_seed): float32 (B, S, S, C) in [-1, 1] twice, int32 (B, 2).
    """
    count = len(files)
    used = count // batch_size * batch_size
    read_pair = make_reader(files, reading)

    def example(n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epoch, position = n // used, n % used
        index = tf.random.experimental.index_shuffle(position, _seed_of(seed, _ORDER, epoch), count - 1)
        draw = draw_jitter(_seed_of(seed, _JITTER, n), reading.image_size)
        input_image, target_image = (
            random_jitter(image, draw, reading.image_size, kind)
            for image, kind in zip(read_pair(index), (reading.input_kind, reading.target_kind), strict=True)
        )
        # The generator takes int32: Keras would cut the seeds down to that, too.
        return input_image, target_image, tf.cast(_seed_of(seed, _NOISE, n), tf.int32)

    return (
        tf.data.Dataset.range(first_step * batch_size, last_step * batch_size)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def inference_dataset(files: Files, reading: Reading, batch_size: int) -> tf.data.Dataset:
    """Every pair once, in order, resized, not jittered: (input_image, target_image), float32 (<=B, S, S, C)."""
    read_pair = make_reader(files, reading)

    def example(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        input_image, target_image = (
            resize(image, reading.image_size, kind)
            for image, kind in zip(read_pair(index), (reading.input_kind, reading.target_kind), strict=True)
        )
        return input_image, target_image

    return (
        tf.data.Dataset.range(len(files))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def make_reader(files: Files, reading: Reading) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function of a pair's number (int64 scalar) to its input and target image.

    They are as `codec.decode` gives them, (H, W, C) each of its own size.
    """
    paths = tf.constant(files.paths)  # (N, 1) or (N, panels)
    offsets = None if files.offsets is None else tf.constant(files.offsets, tf.int64)
    sizes = None if files.offsets is None else tf.constant(files.sizes, tf.int64)
    panels, kinds = (reading.input_panel, reading.target_panel), (reading.input_kind, reading.target_kind)

    def from_composite(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        path = paths[index, 0]
        encoded = tf.io.read_file(path) if offsets is None else read_record(path, offsets[index], sizes[index])
        decoded = {kind: codec.decode(encoded, kind) for kind in set(kinds)}  # once, if both are of one kind
        cut = []
        for panel, kind in zip(panels, kinds, strict=True):
            width = tf.shape(decoded[kind])[1] // reading.panel_count
            cut.append(decoded[kind][:, panel * width : (panel + 1) * width])
        return tuple(cut)

    def from_folders(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded = [tf.io.read_file(paths[index, panel]) for panel in panels]
        return tuple(codec.decode(content, kind) for content, kind in zip(encoded, kinds, strict=True))

    return from_composite if paths.shape[1] == 1 else from_folders


def read_record(shard: tf.Tensor, offset: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Reads one record of a TFRecord file, and no more than that: a string scalar.

    tf.data has no public way to begin in the middle of a file; the raw op has.

    Args:
        shard: Its path, string scalar.
        offset: Where the record begins, int64 scalar.
        size: Bytes of its content, int64 scalar.
    """
    record = {"output_types": [tf.string], "output_shapes": [tf.TensorShape(())]}
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=shard[tf.newaxis],
        compression_type="",
        buffer_size=size + 16,  # with the record's length and two checksums
        byte_offsets=offset[tf.newaxis],
    )
    first = tf.raw_ops.TakeDataset(input_dataset=records, count=1, **record)
    return tf.raw_ops.DatasetToSingleElement(dataset=first, **record)[0]


def draw_jitter(seed: tf.Tensor, image_size: int) -> Jitter:
    """Draws where to crop, and whether to mirror (every second pair): a function of the seed, int32 (2,), alone."""
    draw = tf.random.stateless_uniform((3,), seed)
    offset = tf.cast(draw[:2] * float(load_size(image_size) - image_size + 1), tf.int32)
    return Jitter(offset[0], offset[1], draw[2] < 0.5)


def random_jitter(image: tf.Tensor, draw: Jitter, image_size: int, kind: Kind = codec.RGB) -> tf.Tensor:
    """Resizes to the load size, crops, and mirrors if the draw says so (paper, section 6.2).

    Args:
        image: (H, W, C), any size, as decoded.
        draw: From `draw_jitter`.
        image_size: S.
        kind: What it shows.

    Returns:
        float32 (S, S, kind.channels) in [-1, 1].
    """
    size = load_size(image_size)
    # Mirrored first, as bytes, and cropped from the other side then: the same image for a quarter of the work.
    image = tf.cond(draw.mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    left = tf.where(draw.mirrored, size - image_size - draw.left, draw.left)
    return _resize_and_crop(image, size, image_size, draw.top, left, kind)


def resize(image: tf.Tensor, image_size: int, kind: Kind = codec.RGB) -> tf.Tensor:
    """Resizes a decoded image (H, W, C), as at inference, to float32 (S, S, kind.channels) in [-1, 1]."""
    return _resize_and_crop(image, image_size, image_size, 0, 0, kind)


def _resize_and_crop(
    image: tf.Tensor, size: int, crop: int, top: tf.Tensor | int, left: tf.Tensor | int, kind: Kind
) -> tf.Tensor:
    """`tf.image.resize(..., "bilinear", antialias=True)` to (size, size), a crop to (crop, crop), all in [-1, 1].

    Bilinear as in the original's `image.scale`; the antialiasing, which matters only when shrinking, is ours. Classes
    are not mixed: of a label map the nearest pixel is taken.
    """
    if kind.labels:
        resized = tf.raw_ops.ResizeNearestNeighbor(images=image[tf.newaxis], size=(size, size), half_pixel_centers=True)
        return codec.to_unit_range(resized[0, top : top + crop, left : left + crop], kind)

    unit = codec.to_unit_range(image, kind)[tf.newaxis]  # before resizing, which is faster of floats than of bytes

    def enlarged() -> tf.Tensor:  # the same numbers as below, in a quarter of the time
        resized = tf.raw_ops.ResizeBilinear(images=unit, size=(size, size), half_pixel_centers=True)
        return resized[:, top : top + crop, left : left + crop]

    def shrunk() -> tf.Tensor:
        return tf.raw_ops.ScaleAndTranslate(
            images=unit,
            size=(crop, crop),
            scale=tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32),
            translation=-tf.cast(tf.stack([top, left]), tf.float32),
            kernel_type="triangle",
            antialias=True,
        )

    resized = tf.cond(tf.reduce_all(tf.shape(image)[:2] <= size), enlarged, shrunk)
    return tf.ensure_shape(resized[0], (crop, crop, kind.channels))


def _seed_of(seed: int, stream: int, n: tf.Tensor) -> tf.Tensor:
    """int64 (2,), as n is."""
    return tf.random.fold_in(tf.constant([seed, stream], tf.int32), n)
