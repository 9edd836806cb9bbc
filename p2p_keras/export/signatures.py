"""What an export computes around the generator: decoding, the scale trained at, tiles, encoding. Pure functions.

A `generate` here is the generator by its inference contract: float32 (B, H, W, C) in [-1, 1], H and W what it can
halve, and int32 seeds (B, 2) or None for no noise -> the generated images, float32 (B, H, W, K) in [-1, 1]. Several
input images have their channels one after the other in C.

Images as numbers of a file, called levels below, are uint8 or uint16 (B, H, W, depth) by their kind, of a label map
its classes, uint8 (B, H, W, 1). There is one such tensor for each input.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from p2p_keras.config import TrainConfig, input_kinds, input_names, target_kind
from p2p_keras.export import served
from p2p_keras.export.tiles import Generate, translate_any_size, translate_tiled
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.resizing import resize, resize_batch
from p2p_keras.sizes import Size


class Contract(NamedTuple):
    """What a run's generator was trained on, and so what it is to see."""

    image_size: Size
    native: bool = False  # crops of images in their own resolution; else whole images, resized
    input_names: tuple[str, ...] = ("image",)
    input_kinds: tuple[Kind, ...] = (RGB,)
    target_kind: Kind = RGB


class Functions(NamedTuple):
    """All take a tensor for each input, and seeds int32 (B, 2) or None; the images of a call are of one size, any.

    What takes levels refuses, when it runs, label maps with other classes than the network knows:
    tf.errors.InvalidArgumentError.
    """

    translate: Callable[..., tf.Tensor]  # levels -> levels, at the scale trained at
    translate_float: Callable[..., tf.Tensor]  # the same, float32 in [-1, 1]
    tiled: Callable[..., tf.Tensor]  # levels -> levels, in tiles, at the images' own scale
    from_bytes: Callable[..., tuple[tf.Tensor, tf.Tensor]]  # files (B,) -> PNG files, and what is wrong with each


def contract_of(config: TrainConfig) -> Contract:
    """What a run's settings say of it."""
    names, kinds = input_names(config), input_kinds(config)
    return Contract(config.image_size, config.crops == "native", names, kinds, target_kind(config))


def make_functions(generate: Generate, contract: Contract) -> Functions:
    """What an export offers, of a generator."""
    size, kinds, target = contract.image_size, contract.input_kinds, contract.target_kind

    def at_scale(images: Sequence[tf.Tensor], seed: tf.Tensor | None, unit_range: Callable) -> tf.Tensor:
        """Generates at the scale trained at, of images whose numbers `unit_range` brings to [-1, 1].

        The result has the images' own size after training on native crops, else still the size trained on.
        """
        if contract.native:
            stack = tf.concat([unit_range(image, kind) for image, kind in zip(images, kinds, strict=True)], axis=-1)
            return translate_any_size(generate, stack, seed, 2**size.halvings)
        stack = [_resized(image, kind, size, unit_range) for image, kind in zip(images, kinds, strict=True)]
        return generate(tf.concat(stack, axis=-1), seed)

    def translate_float(images: Sequence[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        return resize_batch(at_scale(images, seed, lambda image, kind: image), tf.shape(images[0])[1:3])

    def translate(images: Sequence[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        generated = at_scale(_known_classes(images, kinds), seed, codec.to_unit_range)
        return _to_levels(generated, tf.shape(images[0])[1:3], target)

    def generate_levels(pieces: Sequence[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        unit = [codec.to_unit_range(piece, kind) for piece, kind in zip(pieces, kinds, strict=True)]
        return generate(tf.concat(unit, axis=-1), seed)

    def tiled(images: Sequence[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        return translate_tiled(generate_levels, _known_classes(images, kinds), seed, size, target)

    def from_bytes(files: Sequence[tf.Tensor], seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if contract.native:
            return _tiles_of_files(files, seed, contract, tiled)
        return _resized_files(files, seed, contract, generate)

    return Functions(translate, translate_float, tiled, from_bytes)


def seed_pairs(seed: tf.Tensor) -> tf.Tensor:
    """A user's seeds, int32 (B,), as the generator takes them, (B, 2)."""
    return tf.stack([tf.zeros_like(seed), seed], axis=1)


# Files are decoded and encoded one at a time: 64 megapixels are 200 MB as bytes, and 800 MB as the floats that are
# resized, so a batch of any files takes about 1 GB at most. What that costs is not much beside the generator.


def _resized_files(files, seed, contract, generate):
    """All brought to the size trained on, generated as one batch, and each brought back to its own size."""
    channels = sum(kind.channels for kind in contract.input_kinds)

    def read(one: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, problem = served.decode_files(one, contract.input_kinds)
        unit = [
            resize(image, contract.image_size, kind) for image, kind in zip(images, contract.input_kinds, strict=True)
        ]
        return tf.concat(unit, axis=-1), tf.shape(images[0])[:2], problem

    def write(one: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        generated, own_size, problem = one
        levels = _to_levels(generated[tf.newaxis], own_size, contract.target_kind)[0]
        return served.encode_file(levels, problem)

    spec = (
        tf.TensorSpec((*contract.image_size, channels), tf.float32),
        tf.TensorSpec((2,), tf.int32),
        tf.TensorSpec((), tf.string),
    )
    images, sizes, problems = tf.map_fn(read, tuple(files), fn_output_signature=spec, parallel_iterations=1)
    generated = generate(images, seed)
    written = (generated, sizes, problems)
    return tf.map_fn(write, written, fn_output_signature=tf.string, parallel_iterations=1), problems


def _tiles_of_files(files, seed, contract, tiled):
    """Each in tiles of the size trained on, in its own resolution."""

    def translate_one(one: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        images, problem = served.decode_files(one[0], contract.input_kinds)
        own_seed = one[1][tf.newaxis] if len(one) > 1 else None
        batch = [image[tf.newaxis] for image in images]
        return served.encode_file(tiled(batch, own_seed)[0], problem), problem

    batch = (tuple(files),) if seed is None else (tuple(files), seed)
    return tf.map_fn(translate_one, batch, fn_output_signature=(tf.string, tf.string), parallel_iterations=1)


def _to_levels(generated: tf.Tensor, size: tf.Tensor, kind: Kind) -> tf.Tensor:
    """Float32 (B, H, W, C) in [-1, 1] -> levels (B, *size, kind.depth).

    Of label maps the classes are resized, by the nearest pixel, and not the scores of all of them: of an image of 64
    megapixels each class would take 256 MB.
    """
    if not kind.labels:
        return codec.quantise(resize_batch(generated, size), kind)
    classes = codec.quantise(generated, kind)
    return tf.raw_ops.ResizeNearestNeighbor(images=classes, size=size, half_pixel_centers=True)


def _resized(image: tf.Tensor, kind: Kind, size: Size, unit_range: Callable) -> tf.Tensor:
    """(B, H, W, C) -> (B, *size, kind.channels) in [-1, 1]; of label maps the nearest pixels."""
    if kind.labels:
        nearest = tf.raw_ops.ResizeNearestNeighbor(images=image, size=size, half_pixel_centers=True)
        return unit_range(nearest, kind)
    return tf.ensure_shape(resize_batch(unit_range(image, kind), tf.constant(size)), (None, *size, kind.channels))


def _known_classes(images: Sequence[tf.Tensor], kinds: Sequence[Kind]) -> list[tf.Tensor]:
    """The levels themselves, once it is known that the network has a channel for each class."""
    known = []
    for levels, kind in zip(images, kinds, strict=True):
        if kind.labels and kind.channels < 256:
            highest = f"a label map has classes above {kind.channels - 1}, the highest of {kind.channels}"
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(levels < kind.channels), [highest])]):
                levels = tf.identity(levels)
        known.append(levels)
    return known
