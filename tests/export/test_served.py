import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, draw_levels, draw_pair, hidden_size_png, many_scans
from PIL import Image

from p2p_keras.export import served
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours

CLASSES = Kind(5, labels=True)


def _decode(file: bytes, kind: Kind = RGB) -> tuple[np.ndarray, str]:
    graph = tf.function(lambda file: served.decode_file(file, kind), autograph=False)
    levels, problem = graph(tf.constant(file))
    return levels.numpy(), problem.numpy().decode()


def test_files_of_every_form_are_brought_to_the_runs_kind():
    image = draw_pair(5)[0]
    grey, alpha = image[..., 0], np.dstack([image, np.full((32, 32), 7, np.uint8)])
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 99)
    buffer = io.BytesIO()
    deep.save(buffer, format="PNG")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    three = np.repeat(grey[..., None], 3, axis=-1)
    for file, expected, off in (
        (as_file(image), image, 0),
        (as_file(image.repeat(3, axis=0)), image.repeat(3, axis=0), 0),
        (as_file(grey), three, 0),
        (as_file(alpha), image, 0),
        (buffer.getvalue(), three, 0),
        # JPEG of quality 100 is a few levels off. The rotated image lies as it is stored.
        (as_file(image, "JPEG", quality=100, subsampling=0, exif=rotated), image, 4),
    ):
        levels, problem = _decode(file)
        assert problem == ""
        assert np.abs(levels.astype(int) - expected).max() <= off


@pytest.mark.parametrize("kind", [RGB, Kind(4), Kind(1, 16), Kind(2, 16), CLASSES], ids=str)
def test_what_is_encoded_is_decoded(kind):
    levels = draw_levels(kind, 1, 20, 33)[0]
    file = tf.function(lambda: served.encode_file(tf.constant(levels), tf.constant("")), autograph=False)().numpy()
    if kind.channels != 2:  # TensorFlow reads no grey with alpha of 16 bits back as such
        np.testing.assert_array_equal(_decode(file, kind)[0], levels)
    assert file[24] == kind.bits  # in the PNG's header
    assert served.encode_file(tf.constant(levels), tf.constant("wrong")) == b""


def _png_header(width: int, height: int) -> bytes:
    """A PNG of nothing that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def _flipped(file: bytes) -> bytes:
    """A PNG whose frame is as it should be, and whose pixels are not."""
    middle = len(file) // 2
    return file[:middle] + bytes(255 - byte for byte in file[middle : middle + 20]) + file[middle + 20 :]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"", "it is not a JPEG or PNG file"),
        (b"hello", "it is not a JPEG or PNG file"),
        (b"\xff\xd8\xff", "it is cut short"),
        (b"\xff\xd8\xff\xe0 no frame \xff\xd9", "it cannot be decoded"),
        (b"\x89PNG\r\n\x1a\nIEND", "it cannot be decoded"),
        (as_file(draw_pair(5)[0], "GIF"), "it is not a JPEG or PNG file"),
        (as_file(draw_pair(5)[0], "JPEG")[:-50], "it is cut short"),
        (as_file(draw_pair(5)[0])[:-50], "it is cut short"),
        (_flipped(as_file(draw_pair(5)[0])), "it cannot be decoded"),
        (_png_header(13000, 13000), "it is larger than 64 megapixels"),
    ],
    ids=["empty", "text", "jpeg start", "jpeg shell", "png shell", "gif", "cut jpeg", "cut png", "flipped", "bomb"],
)
def test_a_bad_file_is_described_and_never_an_error(bad, problem):
    levels, found = _decode(bad)
    assert found == problem
    assert levels.shape == (1, 1, 3)


def test_no_damage_whatever_fails_the_graph():
    """500 files cut, flipped and mixed at random: each is decoded, or described."""
    rng = np.random.default_rng(0)
    graph = tf.function(lambda file: served.decode_file(file, RGB), autograph=False)
    image = draw_pair(5)[0]
    whole, described = [as_file(image), as_file(image, "JPEG", quality=90)], 0
    for number in range(500):
        file = bytearray(whole[number % 2])
        for _ in range(rng.integers(1, 8)):
            file[rng.integers(len(file))] = rng.integers(256)
        file = file[rng.integers(4) :] if number % 5 == 0 else file
        levels, problem = graph(tf.constant(bytes(file)))
        described += problem.numpy() != b""
        assert (levels.shape == (1, 1, 3)) == (problem.numpy() != b"") or levels.shape[:2] != (32, 32)
    assert described > 100


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (codec.encode(draw_levels(CLASSES, 1, 32, 32)[0], class_colours()), "it is not a grey PNG of 8 bits, as a"),
        (as_file(draw_pair(5)[0]), "it is not a grey PNG of 8 bits"),
        (as_file(draw_pair(5)[0][..., 0], "JPEG"), "it is not a grey PNG of 8 bits"),
        (codec.encode(np.full((32, 32, 1), 5, np.uint8)), "it has classes above 4, the highest of 5"),
        (b"hello", "it is not a JPEG or PNG file"),
    ],
    ids=["indexed", "colours", "jpeg", "class 5", "text"],
)
def test_a_served_label_map_is_a_grey_png_of_its_classes(bad, problem):
    assert _decode(bad, CLASSES)[1].startswith(problem)
    good = draw_levels(CLASSES, 1, 32, 32)[0]
    np.testing.assert_array_equal(_decode(codec.encode(good), CLASSES)[0], good)


def test_a_label_map_of_16_bits_is_refused():
    assert _decode(codec.encode(np.zeros((32, 32, 1), np.uint16)), CLASSES)[1].startswith("it is not a grey PNG of 8")


def test_several_inputs_of_one_picture_must_agree():
    decode = tf.function(lambda a, b: served.decode_files([a, b], [RGB, CLASSES]), autograph=False)
    photo, classes = as_file(draw_pair(5)[0]), codec.encode(draw_levels(CLASSES, 1, 32, 32)[0])
    (first, second), problem = decode(tf.constant(photo), tf.constant(classes))
    assert (problem, first.shape, second.shape) == (b"", (32, 32, 3), (32, 32, 1))
    small = codec.encode(draw_levels(CLASSES, 1, 16, 32)[0])
    for files, expected in (
        ((photo, small), b"its inputs differ in size"),
        ((photo, b"hello"), b"input 2: it is not a JPEG or PNG file"),
        ((b"", b"hello"), b"input 1: it is not a JPEG or PNG file"),
    ):
        (first, second), problem = decode(*map(tf.constant, files))
        assert (problem, first.shape, second.shape) == (expected, (1, 1, 3), (1, 1, 1))


def test_a_png_cannot_hide_its_size():
    """Another chunk in front, of which libpng knows nothing, had the size that was looked at."""
    file = hidden_size_png(9000, 9000)
    levels, problem = _decode(file)
    assert (levels.shape, problem) == ((1, 1, 3), "it cannot be decoded")


def test_a_jpeg_of_thousands_of_scans_is_refused():
    """Each takes as long as the image has pixels, and a dozen bytes: a megabyte of them, minutes."""
    image = draw_pair(3)[0]
    assert _decode(many_scans(image, 900))[1] == ""
    assert _decode(many_scans(image, 1100))[1] == "it is a JPEG of more than 1,000 scans"
