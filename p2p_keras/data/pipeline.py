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
from p2p_keras.images.bounds import bounded
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.resizing import resize, resize_and_crop
from p2p_keras.sizes import Size

# First numbers of the derived seeds, so that order, jitter and noise never share a stream.
_ORDER, _JITTER, _NOISE = 1, 2, 3


class Jitter(NamedTuple):
    """One draw of the random jitter, the same for all images of a pair."""

    place: tf.Tensor  # float32 (2,) in [0, 1): how far down and to the right the crop begins
    mirrored: tf.Tensor  # bool ()


class Share(NamedTuple):
    """Which rows of each batch a host computes, and in how many equal batches, one for each of its replicas."""

    host: int = 0
    hosts: int = 1
    replicas: int = 1  # of this host


def training_dataset(
    files: Files,
    reading: Reading,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    share: Share = Share(),  # noqa: B008, which is immutable
) -> tf.data.Dataset:
    """Batches of a training run, from step `first_step` up to but without `last_step`.

    Each epoch is a new permutation of the pairs; what does not fill its last batch is left out of that epoch.

    Args:
        files: Where the pairs are.
        reading: How they are read.
        batch_size: Pairs of a step, over all hosts and replicas.
        seed: The run's.
        first_step: Steps done.
        last_step: Steps in all.
        share: Only these rows are read and decoded: the first host has the first rows of a batch, and its first replica
            the first of these.

    Returns:
        A data set of (input_image, target_image, noise_seed): float32 (B, H, W, C) in [-1, 1] twice, int32 (B, 2).
        Several input images have their channels one after the other.
    """
    count = len(files)
    used = count // batch_size * batch_size
    read_pair = make_reader(files, reading)

    rows = batch_size // share.hosts

    def example(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        n = i // rows * batch_size + share.host * rows + i % rows  # of all examples of the run, over all hosts
        epoch, position = n // used, n % used
        index = tf.random.experimental.index_shuffle(position, _seed_of(seed, _ORDER, epoch), count - 1)
        draw = draw_jitter(_seed_of(seed, _JITTER, n))
        *inputs, target_image = (
            random_jitter(image, draw, reading, kind)
            for image, kind in zip(read_pair(index), reading.kinds, strict=True)
        )
        input_image = tf.concat(inputs, axis=-1)
        # The generator takes int32: Keras would cut the seeds down to that, too.
        return input_image, target_image, tf.cast(_seed_of(seed, _NOISE, n), tf.int32)

    return (
        tf.data.Dataset.range(first_step * rows, last_step * rows)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(rows // share.replicas, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def inference_dataset(files: Files, reading: Reading, batch_size: int) -> tf.data.Dataset:
    """Every pair once, in order, not jittered: (input_image, target_image), float32 (<=B, H, W, C).

    They are resized; with `reading.native` the middle is cropped out of them instead.
    """
    read_pair = make_reader(files, reading)
    middle = Jitter(tf.constant([0.5, 0.5]), tf.constant(False))

    def example(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *inputs, target_image = (
            _native_crop(image, middle, reading.image_size, kind)
            if reading.native
            else resize(image, reading.image_size, kind)
            for image, kind in zip(read_pair(index), reading.kinds, strict=True)
        )
        return tf.concat(inputs, axis=-1), target_image

    return (
        tf.data.Dataset.range(len(files))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def make_reader(files: Files, reading: Reading) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns a function of a pair's number (int64 scalar) to its input images and its target image.

    They are as `codec.decode` gives them, (H, W, C) each of its own size.
    """
    paths = tf.constant(files.paths)  # (N, 1) or (N, panels)
    offsets = None if files.offsets is None else tf.constant(files.offsets, tf.int64)
    sizes = None if files.offsets is None else tf.constant(files.sizes, tf.int64)
    panels, kinds = reading.panels, reading.kinds

    def from_composite(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        path = paths[index, 0]
        content = tf.io.read_file(path) if offsets is None else read_record(path, offsets[index], sizes[index])
        encoded = bounded(content)  # a manifest, which may be a stranger's, is all that has vouched for it until here
        decoded = {kind: codec.decode(encoded, kind) for kind in set(kinds)}  # once for all of one kind
        cut = []
        for panel, kind in zip(panels, kinds, strict=True):
            width = tf.shape(decoded[kind])[1] // reading.panel_count
            cut.append(decoded[kind][:, panel * width : (panel + 1) * width])
        return tuple(cut)

    def from_folders(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded = [bounded(tf.io.read_file(paths[index, panel])) for panel in panels]
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


def draw_jitter(seed: tf.Tensor) -> Jitter:
    """Draws where to crop, and whether to mirror (every second pair): a function of the seed, int32 (2,), alone."""
    draw = tf.random.stateless_uniform((3,), seed)
    return Jitter(draw[:2], draw[2] < 0.5)


def random_jitter(image: tf.Tensor, draw: Jitter, reading: Reading, kind: Kind = RGB) -> tf.Tensor:
    """Resizes to the load size, crops, and mirrors if the draw says so (paper, section 6.2).

    Args:
        image: (H, W, kind.depth), any size, as decoded.
        draw: From `draw_jitter`.
        reading: Its sizes count, and whether to mirror. With `native` it is not resized, but for images smaller than
            the crop.
        kind: What it shows.

    Returns:
        float32 (*reading.image_size, kind.channels) in [-1, 1].
    """
    mirrored = tf.logical_and(draw.mirrored, reading.mirror)
    # Mirrored first, as bytes, and cropped from the other side then: the same image for a quarter of the work.
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    if reading.native:
        return _native_crop(image, Jitter(draw.place, mirrored), reading.image_size, kind)
    top, left = _corner(Jitter(draw.place, mirrored), reading.load_size, reading.image_size)
    return resize_and_crop(image, reading.load_size, reading.image_size, top, left, kind)


def _native_crop(image: tf.Tensor, draw: Jitter, crop: Size, kind: Kind) -> tf.Tensor:
    """A crop of an image in its own resolution; a smaller one is enlarged, as a whole, until the crop fits."""
    sides = tf.shape(image)[:2]
    scale = tf.reduce_max(tf.cast(crop, tf.float64) / tf.cast(sides, tf.float64))
    size = tf.maximum(tf.cast(tf.round(scale * tf.cast(sides, tf.float64)), tf.int32), crop)

    def cut() -> tf.Tensor:
        top, left = _corner(draw, sides, crop)
        return codec.to_unit_range(image[top : top + crop.height, left : left + crop.width], kind)

    def enlarged() -> tf.Tensor:
        return resize_and_crop(image, size, crop, *_corner(draw, size, crop), kind)

    cropped = tf.cond(tf.reduce_all(sides >= crop), cut, enlarged)
    return tf.ensure_shape(cropped, (*crop, kind.channels))


def _corner(draw: Jitter, size: Size | tf.Tensor, crop: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the crop begins, from the top and the left, int32; of a mirrored image in the mirrored one."""
    room = tf.cast(tf.convert_to_tensor(size) - tf.convert_to_tensor(crop), tf.float32)
    top, left = tf.unstack(tf.cast(draw.place * (room + 1.0), tf.int32))
    return top, tf.where(draw.mirrored, tf.cast(room[1], tf.int32) - left, left)


def _seed_of(seed: int, stream: int, n: tf.Tensor) -> tf.Tensor:
    """int64 (2,), as n is."""
    return tf.random.fold_in(tf.constant([seed, stream], tf.int32), n)
