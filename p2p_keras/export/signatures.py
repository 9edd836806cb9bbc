"""What an export computes around the generator: decoding, any size, tiles, encoding. Pure functions over tensors.

A `generate` here is the generator by its inference contract: float32 (B, H, W, C) in [-1, 1], H and W multiples of the
size trained on, and int32 seeds (B, 2) or None for no noise -> the generated images, float32 (B, H, W, K) in [-1, 1].

Images as numbers of a file, called levels below, are uint8 or uint16 (B, H, W, depth) by their kind, of a label map
its classes, uint8 (B, H, W, 1).
"""

import math
from collections.abc import Callable

import tensorflow as tf

from p2p_keras.data.check import MAX_PIXELS
from p2p_keras.data.pipeline import resize
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind

Generate = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]

_PNG = b"\x89PNG\r\n\x1a\n"
_TAIL = 4096  # bytes at the end of a file in which its end marker must stand; some cameras write a little after it


def make_functions(
    generate: Generate, image_size: int, input_kind: Kind = RGB, target_kind: Kind = RGB
) -> tuple[Callable, Callable, Callable]:
    """Returns `translate`, `translate_float` and `tiled`: of images (B, H, W, C) of any size, and seeds or None.

    The first and the last take and give levels, the middle one float32 in [-1, 1]. When they run, they refuse label
    maps with other classes than the network knows: tf.errors.InvalidArgumentError.
    """

    def translate_float(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        return translate_any_size(generate, image, seed, image_size)

    def translate(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        unit = codec.to_unit_range(_known_classes(image, input_kind), input_kind)
        return codec.quantise(translate_float(unit, seed), target_kind)

    def tiled(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        def generate_levels(piece: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
            return generate(codec.to_unit_range(piece, input_kind), seed)

        return translate_tiled(generate_levels, _known_classes(image, input_kind), seed, image_size, target_kind)

    return translate, translate_float, tiled


def seed_pairs(seed: tf.Tensor) -> tf.Tensor:
    """A user's seeds, int32 (B,), as the generator takes them, (B, 2)."""
    return tf.stack([tf.zeros_like(seed), seed], axis=1)


def decode_images(encoded: tf.Tensor, image_size: int, kind: Kind = RGB) -> tf.Tensor:
    """Decodes and resizes JPEG and PNG files of any size: strings (B,) -> float32 (B, S, S, C) in [-1, 1].

    Converted as `codec.decode` does; for 8-bit RGB grey becomes three equal channels, alpha is dropped, of 16-bit PNG
    the upper 8 bits are taken. TensorFlow ignores EXIF orientation, so a rotated image is translated as it is stored.

    One file is decoded at a time: 64 megapixels are 200 MB as bytes, and 800 MB as the floats that are resized, so a
    batch of any files takes about 1 GB at most. What that costs is not much beside the generator.

    A label map must be a grey PNG of 8 bits whose numbers are the classes. Indexed ones, which training and
    p2p-translate read, are refused: in a graph TensorFlow sees a palette's colours, and not which entries they were.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, a file is empty, not a JPEG or PNG, cut short, or larger than
            `MAX_PIXELS`, or no such label map; says which by its number in the batch.
    """

    def decode_one(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        decoded = _decode_classes(*numbered, kind) if kind.labels else codec.decode(_checked(*numbered), kind)
        return resize(decoded, image_size, kind)

    numbers = tf.range(tf.shape(encoded)[0])
    return tf.map_fn(decode_one, (numbers, encoded), fn_output_signature=tf.float32, parallel_iterations=1)


def encode_images(images: tf.Tensor) -> tf.Tensor:
    """PNG files of levels (B, H, W, 1 to 4), of the same bit depth: strings (B,). A label map's is grey.

    Several at a time: what is encoded is there already, and its files are smaller.
    """
    return tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)


def translate_any_size(generate: Generate, image: tf.Tensor, seed: tf.Tensor | None, multiple: int) -> tf.Tensor:
    """Translates (B, H, W, C) of any H and W: padded by reflection to multiples on all sides, and cropped back."""
    if all(size is not None and size % multiple == 0 for size in image.shape[1:3]):
        return generate(image, seed)
    height, width = tf.shape(image)[1], tf.shape(image)[2]
    top, full_height = _margin(height, multiple)
    left, full_width = _margin(width, multiple)
    padded = tf.gather(image, _reflected(tf.range(full_height) - top, height), axis=1)
    padded = tf.gather(padded, _reflected(tf.range(full_width) - left, width), axis=2)
    generated = generate(padded, seed)
    return generated[:, top : top + height, left : left + width]


def translate_tiled(
    generate: Generate, image: tf.Tensor, seed: tf.Tensor | None, tile: int, kind: Kind = RGB
) -> tf.Tensor:
    """Translates (B, H, W, C) in tiles of the size trained on, which overlap by half and are blended without seams.

    Every pixel lies in two tiles of each axis, whose weights (a raised cosine) add up to one; at the border the image
    is continued by reflection. One tile is computed at a time, also of a batch, and finished rows are quantised, so
    memory beyond input and output is that of one tile and one row of tiles. Of label maps it is the classes' channels
    that are blended.

    Args:
        generate: Of one tile's levels, (1, tile, tile, C), -> float32 (1, tile, tile, K) in [-1, 1].
        image: Levels (B, H, W, C): as they are, they take a fraction of the memory of [-1, 1].
        seed: int32 (B, 2) or None; each tile draws noise of its own.
        tile: Height and width of a tile, even.
        kind: Of what is generated.

    Returns:
        Its levels, (B, H, W, kind.depth).
    """
    one_by_one = {"fn_output_signature": kind.dtype, "parallel_iterations": 1}
    if seed is None:
        return tf.map_fn(lambda one: _tiled(generate, one, None, tile, kind), image, **one_by_one)
    return tf.map_fn(lambda both: _tiled(generate, both[0], both[1], tile, kind), (image, seed), **one_by_one)


def _tiled(generate: Generate, image: tf.Tensor, seed: tf.Tensor | None, tile: int, kind: Kind) -> tf.Tensor:
    half, (height, width), channels = tile // 2, (tf.shape(image)[0], tf.shape(image)[1]), kind.channels
    rows, columns = -(-height // half) + 1, -(-width // half) + 1  # of tiles; the first begins half a tile outside
    ramp = tf.square(tf.sin(math.pi / (2 * tile) * (2.0 * tf.range(tile, dtype=tf.float32) + 1.0)))
    weight = (ramp[:, None] * ramp[None, :])[..., None]  # (tile, tile, 1)

    def translate_tile(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        y = _reflected(tf.range(tile) + (row - 1) * half, height)
        x = _reflected(tf.range(tile) + (column - 1) * half, width)
        piece = tf.gather(tf.gather(image, y), x, axis=1)[None]
        tile_seed = None if seed is None else tf.random.fold_in(seed, row * columns + column)[None]
        return generate(piece, tile_seed)[0] * weight

    def translate_row(row: tf.Tensor, above: tf.Tensor, done: tf.TensorArray) -> tuple:
        """Adds a row of tiles to the lower half of the one above, (half, columns * half + half, C)."""

        def add_tile(column: tf.Tensor, left: tf.Tensor, pieces: tf.TensorArray) -> tuple:
            new = translate_tile(row, column)
            return column + 1, new[:, half:], pieces.write(column, left + new[:, :half])

        pieces = tf.TensorArray(tf.float32, size=columns, element_shape=(tile, half, channels))
        start = (tf.constant(0), tf.zeros((tile, half, channels)), pieces)
        _, _, pieces = tf.while_loop(lambda column, *_: column < columns, add_tile, start, parallel_iterations=1)
        strip = tf.reshape(tf.transpose(pieces.stack(), (1, 0, 2, 3)), (tile, columns * half, channels))
        return row + 1, strip[half:], done.write(row, codec.quantise(above + strip[:half], kind))

    done = tf.TensorArray(tf.as_dtype(kind.dtype), size=rows, element_shape=(half, None, kind.depth))
    start = (tf.constant(0), tf.zeros((half, columns * half, channels)), done)
    shapes = (tf.TensorShape(()), tf.TensorShape((half, None, channels)), tf.TensorShape(None))
    _, _, done = tf.while_loop(
        lambda row, *_: row < rows, translate_row, start, shape_invariants=shapes, parallel_iterations=1
    )
    whole = tf.reshape(done.stack(), (rows * half, columns * half, kind.depth))
    return whole[half : half + height, half : half + width]


def _margin(size: tf.Tensor, multiple: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What to add in front, and the size with what is added on both sides."""
    full = -(-size // multiple) * multiple
    return (full - size) // 2, full


def _reflected(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices outside 0 to size - 1 turned back at the borders, as often as it takes, without repeating the border."""
    period = tf.maximum(2 * (size - 1), 1)
    index = index % period
    return tf.minimum(tf.where(index < size, index, period - index), size - 1)


def _checked(number: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """The file itself, once it is known to be one that can be decoded."""
    length = tf.strings.length(encoded)
    tail = tf.io.decode_raw(tf.strings.substr(encoded, tf.maximum(length - _TAIL, 0), _TAIL), tf.uint8)
    is_jpeg, is_png = tf.io.is_jpeg(encoded), tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    encoded = _require(tf.logical_or(is_jpeg, is_png), number, "is not a JPEG or PNG file", encoded)
    whole = tf.cond(is_jpeg, lambda: _contains(tail, b"\xff\xd9"), lambda: _contains(tail, b"IEND"))
    encoded = _require(whole, number, "is cut short", encoded)
    pixels = tf.cond(is_jpeg, lambda: _jpeg_pixels(encoded), lambda: _png_pixels(encoded))
    return _require(pixels <= MAX_PIXELS, number, f"is larger than {MAX_PIXELS // 10**6} megapixels", encoded)


def _decode_classes(number: tf.Tensor, encoded: tf.Tensor, kind: Kind) -> tf.Tensor:
    """A label map's classes, uint8 (H, W, 1), from a file in which they are the grey levels."""
    encoded = _checked(number, encoded)
    header = tf.strings.substr(encoded, 24, 2)  # bit depth and colour type; 0 is grey
    is_grey = tf.logical_and(tf.logical_not(tf.io.is_jpeg(encoded)), header == b"\x08\x00")
    problem = "is not a grey PNG of 8 bits, as a label map must be (its numbers the classes; not indexed)"
    classes = tf.io.decode_png(_require(is_grey, number, problem, encoded), channels=1)
    known = tf.reduce_all(classes < kind.channels) if kind.channels < 256 else tf.constant(True)
    return _require(known, number, f"has classes above {kind.channels - 1}, the highest of {kind.channels}", classes)


def _known_classes(levels: tf.Tensor, kind: Kind) -> tf.Tensor:
    """The levels themselves, once it is known that the network has a channel for each class. Of other kinds as is."""
    if not kind.labels or kind.channels == 256:
        return levels
    highest = f"a label map has classes above {kind.channels - 1}, the highest of {kind.channels}"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(levels < kind.channels), [highest])]):
        return tf.identity(levels)


def _require(condition: tf.Tensor, number: tf.Tensor, problem: str, value: tf.Tensor) -> tf.Tensor:
    message = tf.strings.join(["image ", tf.strings.as_string(number), f" of the batch, counted from 0, {problem}"])
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)


def _contains(tail: tf.Tensor, marker: bytes) -> tf.Tensor:
    length = tf.size(tail) - len(marker) + 1
    found = [tail[i : i + length] == byte for i, byte in enumerate(marker)]
    return tf.reduce_any(tf.reduce_all(tf.stack(found), axis=0))


def _jpeg_pixels(encoded: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))


def _png_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Width and height stand in the header, in bytes 16 to 23, the highest byte first."""
    header = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
    return tf.reduce_prod(tf.cast(header, tf.int64))
