"""Images far larger than those trained on: padded to what the generator can halve, or in tiles without seams.

A `generate` here is the generator by its inference contract, see `signatures`.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size

Generate = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]


def translate_any_size(generate: Generate, image: tf.Tensor, seed: tf.Tensor | None, multiple: int) -> tf.Tensor:
    """Translates (B, H, W, C) of any H and W: padded by reflection to multiples on all sides, and cropped back."""
    height, width = tf.shape(image)[1], tf.shape(image)[2]
    top, full_height = _margin(height, multiple)
    left, full_width = _margin(width, multiple)
    padded = tf.gather(image, _reflected(tf.range(full_height) - top, height), axis=1)
    padded = tf.gather(padded, _reflected(tf.range(full_width) - left, width), axis=2)
    generated = generate(padded, seed)
    return generated[:, top : top + height, left : left + width]


def translate_tiled(
    generate: Callable[[Sequence[tf.Tensor], tf.Tensor | None], tf.Tensor],
    images: Sequence[tf.Tensor],
    seed: tf.Tensor | None,
    tile: Size,
    kind: Kind = RGB,
) -> tf.Tensor:
    """Translates images (B, H, W, C) in tiles of the size trained on, overlapping by half and blended without seams.

    Every pixel lies in two tiles of each axis, whose weights (a raised cosine) add up to one; at the border the image
    is continued by reflection. One tile is computed at a time, also of a batch, and finished rows are quantised, so
    memory beyond input and output is that of one tile and one row of tiles. Of label maps it is the classes' channels
    that are blended.

    Args:
        generate: Of one tile's levels, (1, *tile, C) of each input, -> float32 (1, *tile, K) in [-1, 1].
        images: Levels (B, H, W, C) of each input: as they are, they take a fraction of the memory of [-1, 1].
        seed: int32 (B, 2) or None; each tile draws noise of its own.
        tile: Of even height and width.
        kind: Of what is generated.

    Returns:
        Its levels, (B, H, W, kind.depth).
    """

    def translate_one(one: tuple[Sequence[tf.Tensor], tf.Tensor] | tuple[Sequence[tf.Tensor]]) -> tf.Tensor:
        return _tiled(generate, one[0], one[1] if len(one) > 1 else None, tile, kind)

    batch = (tuple(images),) if seed is None else (tuple(images), seed)
    return tf.map_fn(translate_one, batch, fn_output_signature=kind.dtype, parallel_iterations=1)


def _tiled(
    generate: Callable, images: Sequence[tf.Tensor], seed: tf.Tensor | None, tile: Size, kind: Kind
) -> tf.Tensor:
    half, (height, width), channels = (
        Size(tile.height // 2, tile.width // 2),
        tf.unstack(tf.shape(images[0])[:2]),
        kind.channels,
    )
    # Of tiles; the first begins half a tile outside.
    rows, columns = -(-height // half.height) + 1, -(-width // half.width) + 1
    weight = (_ramp(tile.height)[:, None] * _ramp(tile.width)[None, :])[..., None]  # (*tile, 1)

    def translate_tile(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        y = _reflected(tf.range(tile.height) + (row - 1) * half.height, height)
        x = _reflected(tf.range(tile.width) + (column - 1) * half.width, width)
        pieces = [tf.gather(tf.gather(image, y), x, axis=1)[None] for image in images]
        tile_seed = None if seed is None else tf.random.fold_in(seed, row * columns + column)[None]
        return generate(pieces, tile_seed)[0] * weight

    def translate_row(row: tf.Tensor, above: tf.Tensor, done: tf.TensorArray) -> tuple:
        """Adds a row of tiles to the lower half of the one above, (half, columns * half + half, C)."""

        def add_tile(column: tf.Tensor, left: tf.Tensor, pieces: tf.TensorArray) -> tuple:
            new = translate_tile(row, column)
            return column + 1, new[:, half.width :], pieces.write(column, left + new[:, : half.width])

        shape = (tile.height, half.width, channels)
        start = (tf.constant(0), tf.zeros(shape), tf.TensorArray(tf.float32, size=columns, element_shape=shape))
        _, _, pieces = tf.while_loop(lambda column, *_: column < columns, add_tile, start, parallel_iterations=1)
        strip = tf.reshape(tf.transpose(pieces.stack(), (1, 0, 2, 3)), (tile.height, columns * half.width, channels))
        return row + 1, strip[half.height :], done.write(row, codec.quantise(above + strip[: half.height], kind))

    done = tf.TensorArray(tf.as_dtype(kind.dtype), size=rows, element_shape=(half.height, None, kind.depth))
    start = (tf.constant(0), tf.zeros((half.height, columns * half.width, channels)), done)
    shapes = (tf.TensorShape(()), tf.TensorShape((half.height, None, channels)), tf.TensorShape(None))
    _, _, done = tf.while_loop(
        lambda row, *_: row < rows, translate_row, start, shape_invariants=shapes, parallel_iterations=1
    )
    whole = tf.reshape(done.stack(), (rows * half.height, columns * half.width, kind.depth))
    return whole[half.height : half.height + height, half.width : half.width + width]


def _ramp(length: int) -> tf.Tensor:
    """The raised cosine along one side of a tile."""
    return tf.square(tf.sin(math.pi / (2 * length) * (2.0 * tf.range(length, dtype=tf.float32) + 1.0)))


def _margin(size: tf.Tensor, multiple: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What to add in front, and the size with what is added on both sides."""
    full = -(-size // multiple) * multiple
    return (full - size) // 2, full


def _reflected(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices outside 0 to size - 1 turned back at the borders, as often as it takes, without repeating the border."""
    period = tf.maximum(2 * (size - 1), 1)
    index = index % period
    return tf.minimum(tf.where(index < size, index, period - index), size - 1)
