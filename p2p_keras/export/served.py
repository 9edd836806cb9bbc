"""Image files as a server gets them: decoded one at a time, what is wrong with each said in words instead of an error.

An error inside a graph fails the whole batch, and a server puts the requests of several clients into one. So each file
is looked at, and decoded, in a small data set of its own, whose errors count as "cannot be decoded".
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from p2p_keras.images import codec
from p2p_keras.images.bounds import count_pixels, count_scans, is_png
from p2p_keras.images.files import PNG_SIGNATURE
from p2p_keras.images.kinds import Kind
from p2p_keras.system.limits import MAX_PIXELS, MAX_SCANS

_TAIL = 4096  # bytes at the end of a file in which its end marker must stand; some cameras write a little after it


def decode_file(encoded: tf.Tensor, kind: Kind) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a JPEG or PNG file: string scalar -> levels (H, W, kind.depth), and what is wrong with it, "" if nothing.

    Converted as `codec.decode` does; for 8-bit RGB grey becomes three equal channels, alpha is dropped, of 16-bit PNG
    the upper 8 bits are taken. TensorFlow ignores EXIF orientation, so a rotated image is taken as it is stored. A file
    that is empty, no JPEG or PNG, cut short, damaged or larger than `MAX_PIXELS` gives one pixel of zeros.

    A label map must be a grey PNG of 8 bits whose numbers are the classes. Indexed ones, which training and
    p2p-translate read, are refused: in a graph TensorFlow sees a palette's colours, and not which entries they were.
    """
    nothing = tf.zeros((1, 1, kind.depth), kind.dtype)

    def decode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def read() -> tuple[tf.Tensor, tf.Tensor]:
            if not kind.labels:
                return codec.decode(encoded, kind), tf.constant("")
            classes = tf.io.decode_png(encoded, channels=1)
            unknown = tf.reduce_any(tf.cast(classes, tf.int32) >= kind.channels)
            highest = f"it has classes above {kind.channels - 1}, the highest of {kind.channels}"
            return classes, tf.where(unknown, highest, "")

        problem = _find_problem(encoded, kind)
        return tf.cond(problem == "", read, lambda: (nothing, problem))

    broken = tf.data.Dataset.from_tensors((nothing, tf.constant("it cannot be decoded")))
    file = tf.data.Dataset.from_tensors(encoded).map(decode).ignore_errors().concatenate(broken).take(1)
    levels, problem = file.get_single_element()
    levels = tf.cond(problem == "", lambda: levels, lambda: nothing)
    return tf.ensure_shape(levels, (None, None, kind.depth)), tf.ensure_shape(problem, ())


def decode_files(encoded: Sequence[tf.Tensor], kinds: Sequence[Kind]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Decodes the files of one picture, one for each input, of one size: levels of each, and what is wrong with them.

    With several inputs the problem says in which one, counted from 1.
    """
    images, problem = [], tf.constant("")
    for number, (file, kind) in enumerate(zip(encoded, kinds, strict=True), start=1):
        levels, found = decode_file(file, kind)
        found = found if len(kinds) == 1 else _prefixed(f"input {number}: ", found)
        problem = tf.where(problem == "", found, problem)
        images.append(levels)
    for levels in images[1:]:
        differ = tf.reduce_any(tf.shape(levels)[:2] != tf.shape(images[0])[:2])
        problem = tf.where(tf.logical_and(problem == "", differ), "its inputs differ in size", problem)
    if len(images) > 1:  # whatever is wrong, what follows sees images of one size
        nothing = [tf.zeros((1, 1, kind.depth), kind.dtype) for kind in kinds]
        images = list(tf.cond(problem == "", lambda: tuple(images), lambda: tuple(nothing)))
    return [
        tf.ensure_shape(image, (None, None, kind.depth)) for image, kind in zip(images, kinds, strict=True)
    ], problem


def encode_file(levels: tf.Tensor, problem: tf.Tensor) -> tf.Tensor:
    """PNG file of levels (H, W, 1 to 4), of the same bit depth; empty if there was a problem. A label map's is grey."""
    return tf.cond(problem == "", lambda: tf.io.encode_png(levels), lambda: tf.constant(b""))


def _prefixed(prefix: str, text: tf.Tensor) -> tf.Tensor:
    return tf.where(text == "", "", tf.strings.join([prefix, text]))


def _find_problem(encoded: tf.Tensor, kind: Kind) -> tf.Tensor:
    """What can be told of a file before it is decoded: string scalar, "" if nothing is wrong."""
    length = tf.strings.length(encoded)
    tail = tf.io.decode_raw(tf.strings.substr(encoded, tf.maximum(length - _TAIL, 0), _TAIL), tf.uint8)
    is_jpeg = tf.io.is_jpeg(encoded)
    is_signed = tf.strings.substr(encoded, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE
    header = tf.strings.substr(encoded, 24, 2)  # of a PNG: bit depth and colour type; 0 is grey
    whole = tf.cond(is_jpeg, lambda: _contains(tail, b"\xff\xd9"), lambda: _contains(tail, b"IEND"))

    def has_many_scans() -> tf.Tensor:
        return tf.cond(is_jpeg, lambda: count_scans(encoded) > MAX_SCANS, lambda: False)

    def first_of(rules: Sequence[tuple[Callable[[], tf.Tensor], str]]) -> tf.Tensor:
        if not rules:
            return tf.constant("")
        (broken, words), *others = rules
        return tf.cond(broken(), lambda: tf.constant(words), lambda: first_of(others))

    map_form = "it is not a grey PNG of 8 bits, as a label map must be (its numbers the classes; not indexed)"
    rules = [
        (lambda: tf.logical_not(tf.logical_or(is_jpeg, is_signed)), "it is not a JPEG or PNG file"),
        (lambda: tf.logical_not(whole), "it is cut short"),
        (lambda: tf.logical_not(tf.logical_or(is_jpeg, is_png(encoded))), "it cannot be decoded"),
        (lambda: count_pixels(encoded) > MAX_PIXELS, f"it is larger than {MAX_PIXELS // 10**6} megapixels"),
        (has_many_scans, f"it is a JPEG of more than {MAX_SCANS:,} scans"),
    ]
    if kind.labels:
        rules.append((lambda: tf.logical_or(is_jpeg, header != b"\x08\x00"), map_form))
    return first_of(rules)


def _contains(tail: tf.Tensor, marker: bytes) -> tf.Tensor:
    length = tf.size(tail) - len(marker) + 1
    found = [tail[i : i + length] == byte for i, byte in enumerate(marker)]
    return tf.reduce_any(tf.reduce_all(tf.stack(found), axis=0))
