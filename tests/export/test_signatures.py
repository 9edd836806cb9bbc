import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, draw_levels, draw_pair
from PIL import Image

from p2p_keras.data.pairs import Files, Reading
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.export import signatures
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours


def same(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """A generator that gives back its input."""
    return image


KINDS = [Kind(4), Kind(1, 16), Kind(5, labels=True)]


@pytest.mark.parametrize("size", [(32, 32), (40, 50), (1, 1), (2, 100), (33, 64)])
def test_any_size_comes_back_in_its_own_size_and_place(size):
    image = draw_levels(RGB, 2, *size)
    translate, translate_float, tiled = signatures.make_functions(same, 32)
    np.testing.assert_array_equal(translate(image, None), image)
    np.testing.assert_array_equal(translate_float(codec.to_unit_range(image), None), codec.to_unit_range(image))
    np.testing.assert_array_equal(tiled(tf.constant(image), None), image)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_comes_back_in_its_kind(kind):
    levels = draw_levels(kind, 2, 33, 50)
    translate, _, tiled = signatures.make_functions(same, 32, kind, kind)
    for ours in (translate(levels, None).numpy(), tiled(tf.constant(levels), None).numpy()):
        np.testing.assert_array_equal(ours, levels)
        assert ours.dtype == levels.dtype

    @tf.function(autograph=False)
    def from_bytes(files: tf.Tensor) -> tf.Tensor:
        return signatures.encode_images(codec.quantise(signatures.decode_images(files, 32, kind), kind))

    small = levels[:, :32, :32]
    files = from_bytes(tf.constant([codec.encode(image) for image in small])).numpy()
    for file, image in zip(files, small, strict=True):
        np.testing.assert_array_equal(codec.decode(tf.constant(file), kind), image)
        assert file[24] == kind.bits  # in the PNG's header


def test_other_channels_out_than_in():
    def generate(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        return tf.one_hot(tf.cast(image[..., 0] > 0, tf.int32) * 3, 5)

    translate, _, tiled = signatures.make_functions(generate, 32, Kind(1, 16), Kind(5, labels=True))
    levels = draw_levels(Kind(1, 16), 2, 40, 50)
    expected = 3 * (levels >= 32768).astype(np.uint8)
    np.testing.assert_array_equal(translate(levels, None), expected)
    np.testing.assert_array_equal(tiled(tf.constant(levels), None), expected)


def test_classes_that_the_network_does_not_know_are_refused():
    kind = Kind(5, labels=True)
    translate, _, tiled = signatures.make_functions(same, 32, kind, kind)
    high = np.full((1, 32, 32, 1), 5, np.uint8)
    for function in (translate, tiled):
        graph = tf.function(lambda image, function=function: function(image, None), autograph=False)
        with pytest.raises(tf.errors.InvalidArgumentError, match="a label map has classes above 4, the highest of 5"):
            graph(tf.constant(high))


def _indexed() -> bytes:
    return codec.encode(draw_levels(Kind(5, labels=True), 1, 32, 32)[0], class_colours())


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (_indexed, "is not a grey PNG of 8 bits, as a label map must be"),
        (lambda: as_file(draw_pair(5)[0]), "is not a grey PNG of 8 bits"),
        (lambda: as_file(draw_pair(5)[0][..., 0], "JPEG"), "is not a grey PNG of 8 bits"),
        (lambda: codec.encode(np.zeros((32, 32, 1), np.uint16)), "is not a grey PNG of 8 bits"),
        (lambda: codec.encode(np.full((32, 32, 1), 5, np.uint8)), "has classes above 4, the highest of 5"),
        (lambda: b"hello", "is not a JPEG or PNG file"),
    ],
    ids=["indexed", "colours", "jpeg", "16 bits", "class 5", "text"],
)
def test_a_served_label_map_is_a_grey_png_of_its_classes(bad, problem):
    kind = Kind(5, labels=True)
    decode = tf.function(lambda files: signatures.decode_images(files, 32, kind), autograph=False)
    good = codec.encode(draw_levels(kind, 1, 32, 32)[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image 1 of the batch, counted from 0, {problem}"):
        decode(tf.constant([good, bad()]))


def test_the_generator_sees_multiples_of_its_size_continued_by_reflection():
    seen = []

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        seen.append(image.numpy())
        return image

    row = np.arange(6, dtype=np.float32)
    signatures.translate_any_size(watch, np.tile(row[None, None, :, None], (1, 4, 1, 1)), None, 4)
    assert seen[0].shape == (1, 4, 8, 1)
    np.testing.assert_array_equal(seen[0][0, 0, :, 0], [1, 0, 1, 2, 3, 4, 5, 4])


def test_an_image_of_the_size_trained_on_is_not_padded():
    image = draw_levels(RGB, 1, 32, 32)
    shapes = []

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        shapes.append(tuple(image.shape))
        return image

    signatures.make_functions(watch, 32)[0](image, None)
    assert shapes == [(1, 32, 32, 3)]


def test_tiles_have_the_size_trained_on_and_leave_no_seams():
    """Each tile gets a brightness of its own; the result must change as smoothly as the blending's cosine."""
    shapes, tile = set(), 32

    def uneven(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        shapes.add(tuple(image.shape))
        return tf.fill(tf.shape(image), tf.where(tf.reduce_mean(image) > 0.0, 0.5, -0.5))

    image = np.zeros((1, 64, 160, 3), np.uint8)
    image[:, :, 80:] = 255
    _, _, tiled = signatures.make_functions(uneven, tile)
    result = tiled(tf.constant(image), None).numpy().astype(int)
    assert shapes == {(1, tile, tile, 3)}
    # From -0.5 to 0.5 are 127.5 levels. The steepest slope of sin^2(pi x / tile) is pi / tile a pixel: 12.5 levels, and
    # rounding adds one. A seam would be a step of 127.
    assert np.abs(np.diff(result, axis=2)).max() <= 14
    assert np.abs(np.diff(result, axis=1)).max() == 0
    assert set(np.unique(result[:, :, :40])) == {64}
    assert set(np.unique(result[:, :, 120:])) == {191}


def test_every_tile_draws_noise_of_its_own():
    def noisy(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(tf.shape(image), seed[0], -1, 1)

    _, _, tiled = signatures.make_functions(noisy, 32)
    seed = signatures.seed_pairs(tf.constant([1, 2]))
    one = tiled(tf.zeros((2, 32, 96, 3), tf.uint8), seed).numpy()
    assert np.abs(one[0, :, :32].astype(int) - one[0, :, 64:]).mean() > 20
    assert np.abs(one[0].astype(int) - one[1]).mean() > 20
    np.testing.assert_array_equal(one, tiled(tf.zeros((2, 32, 96, 3), tf.uint8), seed))


def test_files_are_decoded_and_resized_as_in_evaluation(tmp_path):
    path = tmp_path / "pair.jpg"
    both = np.concatenate(draw_pair(5, size=100), axis=1)
    path.write_bytes(as_file(both, "JPEG", quality=95))
    expected, _ = next(iter(inference_dataset(Files([(str(path),)]), Reading(image_size=32), 1)))
    with Image.open(path) as image:
        left = as_file(np.asarray(image)[:, :100])
    np.testing.assert_array_equal(signatures.decode_images(tf.constant([left]), 32), expected)


def test_a_batch_of_files_of_different_sizes_and_kinds():
    image = draw_pair(5)[0]
    grey, alpha = image[..., 0], np.dstack([image, np.full((32, 32), 7, np.uint8)])
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 99)
    buffer = io.BytesIO()
    deep.save(buffer, format="PNG")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    files = [
        as_file(image),
        as_file(image.repeat(3, axis=0)),
        as_file(grey),
        as_file(alpha),
        buffer.getvalue(),
        as_file(image, "JPEG", quality=100, subsampling=0, exif=rotated),
    ]
    decoded = codec.from_unit_range(signatures.decode_images(tf.constant(files), 32).numpy())
    three = np.repeat(grey[..., None], 3, axis=-1)
    for number, expected in enumerate((image, None, three, image, three, image)):
        if expected is not None:
            # JPEG of quality 100 is a few levels off; the others are exact. The rotated one lies as it is stored.
            assert np.abs(decoded[number].astype(int) - expected).max() <= (4 if number == 5 else 0), number


def _png_header(width: int, height: int) -> bytes:
    """A PNG of nothing that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"", "is not a JPEG or PNG file"),
        (b"hello", "is not a JPEG or PNG file"),
        (as_file(draw_pair(5)[0], "GIF"), "is not a JPEG or PNG file"),
        (as_file(draw_pair(5)[0], "JPEG")[:-50], "is cut short"),
        (as_file(draw_pair(5)[0])[:-50], "is cut short"),
        (_png_header(13000, 13000), "is larger than 64 megapixels"),
    ],
    ids=["empty", "text", "gif", "cut jpeg", "cut png", "bomb"],
)
def test_one_bad_file_in_a_batch_says_which(bad, problem):
    good = as_file(draw_pair(5)[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image 1 of the batch, counted from 0, {problem}"):
        signatures.decode_images(tf.constant([good, bad, good]), 32)


_PEAK_OF_EIGHT = """
import resource, sys
import numpy as np
import tensorflow as tf
from p2p_keras.export import signatures

tf.config.threading.set_inter_op_parallelism_threads(16)  # as a server with many cores has
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB
large = tf.io.encode_png(np.zeros((3000, 3000, 3), np.uint8))
spec = [tf.TensorSpec([None], tf.string)]
decode = tf.function(lambda files: signatures.decode_images(files, 32), input_signature=spec, autograph=False)
decode(large[None])
one = peak()
decode(tf.fill([8], large))
print(peak() - one)
"""


def test_many_large_images_need_the_memory_of_one():
    root = Path(signatures.__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", _PEAK_OF_EIGHT], cwd=root, capture_output=True, text=True, check=True
    )
    # One such image takes 27 MB as bytes and 108 MB as floats. Eight at once would take 900 MB more than one.
    assert float(process.stdout) < 108
