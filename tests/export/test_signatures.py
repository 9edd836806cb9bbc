import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, draw_levels, draw_pair
from PIL import Image

from p2p_keras.data.pairs import Files, Reading
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.export import signatures
from p2p_keras.export.signatures import Contract, make_functions
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size

SMALL = Size(32, 32)
KINDS = [Kind(4), Kind(1, 16), Kind(5, labels=True)]


def same(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """A generator that gives back its input."""
    return image


def _served(generate, contract: Contract):
    """`from_bytes` as a graph, of lists of files."""
    functions = make_functions(generate, contract)
    graph = tf.function(lambda *files: functions.from_bytes(files, None), autograph=False)
    return lambda *files: [part.numpy().tolist() for part in graph(*map(tf.constant, files))]


def _opened(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("size", [(32, 32), (40, 50), (1, 1), (2, 100), (33, 64)])
def test_native_images_keep_their_own_resolution(size):
    image = draw_levels(RGB, 2, *size)
    functions = make_functions(same, Contract(SMALL, native=True))
    np.testing.assert_array_equal(functions.translate([image], None), image)
    unit = codec.to_unit_range(image)
    np.testing.assert_array_equal(functions.translate_float([unit], None), unit)
    np.testing.assert_array_equal(functions.tiled([tf.constant(image)], None), image)
    files, problems = _served(same, Contract(SMALL, native=True))([as_file(one) for one in image])
    np.testing.assert_array_equal([_opened(file) for file in files], image)
    assert problems == [b"", b""]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_comes_back_in_its_kind(kind, native):
    levels = draw_levels(kind, 2, 32, 64)
    contract = Contract(Size(32, 64), native, ("image",), (kind,), kind)
    functions = make_functions(same, contract)
    for ours in (functions.translate([levels], None).numpy(), functions.tiled([tf.constant(levels)], None).numpy()):
        np.testing.assert_array_equal(ours, levels)
        assert ours.dtype == levels.dtype
    files, _ = _served(same, contract)([codec.encode(image) for image in levels])
    for file, image in zip(files, levels, strict=True):
        np.testing.assert_array_equal(codec.decode(tf.constant(file), kind), image)


def test_whole_images_are_seen_in_the_size_trained_on_and_come_back_in_their_own():
    shapes = []

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        shapes.append(tuple(image.shape))
        return image

    # A slope stays one when it is resized, but for its ends.
    slope = np.broadcast_to(np.linspace(20, 220, 96)[None, None, :, None], (1, 64, 96, 3))
    functions = make_functions(watch, Contract(Size(32, 48)))
    for back in (
        functions.translate([np.rint(slope).astype(np.uint8)], None).numpy(),
        (functions.translate_float([(slope / 127.5 - 1).astype(np.float32)], None).numpy() + 1) * 127.5,
    ):
        assert back.shape == slope.shape
        assert np.abs(back - slope)[:, :, 2:-2].max() <= 1.01
    assert set(shapes) == {(1, 32, 48, 3)}
    shapes.clear()
    functions.tiled([tf.constant(np.rint(slope).astype(np.uint8))], None)
    assert set(shapes) == {(1, 32, 48, 3)}


def test_label_maps_are_resized_without_mixing_their_classes():
    kind, seen = Kind(3, labels=True), []

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        seen.append(image.numpy())
        return image

    classes = np.array([[0, 0], [0, 2]], np.uint8).repeat(32, 0).repeat(32, 1)[None, ..., None]  # 64x64
    functions = make_functions(watch, Contract(SMALL, False, ("image",), (kind,), kind))
    np.testing.assert_array_equal(functions.translate([classes], None), classes)
    np.testing.assert_array_equal(functions.translate_float([codec.to_unit_range(classes, kind)], None)[..., 1], -1.0)
    assert all(set(np.unique(image)) == {-1, 1} for image in seen)


def test_generated_label_maps_are_brought_back_as_classes_and_not_as_scores():
    kind = Kind(200, labels=True)
    classes = np.array([[7, 199], [0, 7]], np.uint8).repeat(16, 0).repeat(16, 1)  # 32x32

    def generate(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        return codec.to_unit_range(tf.tile(tf.constant(classes)[None, ..., None], (len(image), 1, 1, 1)), kind)

    functions = make_functions(generate, Contract(SMALL, False, ("image",), (RGB,), kind))
    back = functions.translate([np.zeros((2, 64, 96, 3), np.uint8)], None).numpy()
    assert back.shape == (2, 64, 96, 1)
    np.testing.assert_array_equal(back[0, :, :, 0], classes.repeat(2, 0).repeat(3, 1))


def test_several_inputs_are_stacked_in_their_order():
    kinds, classes = (RGB, Kind(3, labels=True)), draw_levels(Kind(3, labels=True), 2, 32, 32)
    photos = draw_levels(RGB, 2, 32, 32)

    def pick(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        assert image.shape[-1] == 6
        return image[..., 1:4]

    expected = np.stack([photos[..., 1], photos[..., 2], 255 * (classes[..., 0] == 0)], axis=-1)
    for native in (False, True):
        contract = Contract(SMALL, native, ("photo", "classes"), kinds, RGB)
        functions = make_functions(pick, contract)
        np.testing.assert_array_equal(functions.translate([photos, classes], None), expected)
        np.testing.assert_array_equal(functions.tiled([tf.constant(photos), tf.constant(classes)], None), expected)
        files, problems = _served(pick, contract)([as_file(x) for x in photos], [codec.encode(x) for x in classes])
        np.testing.assert_array_equal([_opened(file) for file in files], expected)
        assert problems == [b"", b""]


def test_other_channels_out_than_in():
    def generate(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        return tf.one_hot(tf.cast(image[..., 0] > 0, tf.int32) * 3, 5)

    contract = Contract(SMALL, True, ("image",), (Kind(1, 16),), Kind(5, labels=True))
    functions = make_functions(generate, contract)
    levels = draw_levels(Kind(1, 16), 2, 40, 50)
    expected = 3 * (levels >= 32768).astype(np.uint8)
    np.testing.assert_array_equal(functions.translate([levels], None), expected)
    np.testing.assert_array_equal(functions.tiled([tf.constant(levels)], None), expected)


def test_classes_that_the_network_does_not_know_are_refused():
    kind = Kind(5, labels=True)
    functions = make_functions(same, Contract(SMALL, False, ("image",), (kind,), kind))
    high = np.full((1, 32, 32, 1), 5, np.uint8)
    for function in (functions.translate, functions.tiled):
        graph = tf.function(lambda image, function=function: function([image], None), autograph=False)
        with pytest.raises(tf.errors.InvalidArgumentError, match="a label map has classes above 4, the highest of 5"):
            graph(tf.constant(high))


def test_files_are_decoded_and_resized_as_in_evaluation(tmp_path):
    path, seen = tmp_path / "pair.jpg", []
    both = np.concatenate(draw_pair(5, size=100), axis=1)
    path.write_bytes(as_file(both, "JPEG", quality=95))
    expected, _ = next(iter(inference_dataset(Files([(str(path),)]), Reading(image_size=SMALL), 1)))
    with Image.open(path) as image:
        left = np.asarray(image)[:, :100]

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        seen.append(image.numpy())
        return image

    functions = make_functions(watch, Contract(SMALL))
    functions.from_bytes([tf.constant([as_file(left)])], None)
    functions.translate([left[None]], None)
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(seen[1], expected)


@pytest.mark.parametrize("native", [False, True])
def test_a_bad_file_is_named_and_its_neighbours_are_translated(native):
    images = [draw_pair(5)[0], draw_pair(6, size=50)[0]]
    sent = [as_file(images[0]), b"hello", as_file(images[1]), as_file(images[0])[:-50]]
    files, problems = _served(same, Contract(SMALL, native))(sent)
    assert problems == [b"", b"it is not a JPEG or PNG file", b"", b"it is cut short"]
    assert [len(file) > 0 for file in files] == [True, False, True, False]
    np.testing.assert_array_equal(_opened(files[0]), images[0])
    assert _opened(files[2]).shape == images[1].shape
    if native:
        np.testing.assert_array_equal(_opened(files[2]), images[1])


@pytest.mark.parametrize("kind", [RGB, Kind(1, 16), Kind(5, labels=True)], ids=str)
def test_files_come_back_as_the_same_images_do(kind):
    """Larger, smaller, both: which way of resizing is taken is decided inside a loop of a graph."""
    contract = Contract(Size(32, 48), False, ("image",), (kind,), kind)
    sizes = ((50, 50), (20, 45), (64, 96), (10, 100), (32, 48))
    images = [draw_levels(kind, 1, *size) for size in sizes]
    files, problems = _served(same, contract)([codec.encode(image[0]) for image in images])
    assert not any(problems)
    translate = make_functions(same, contract).translate
    for file, image in zip(files, images, strict=True):
        found, expected = codec.decode(tf.constant(file), kind).numpy(), translate([image], None)[0].numpy()
        # A graph fuses multiplications and additions: a level where it was about to round. Classes are not rounded.
        assert np.abs(found.astype(int) - expected).max() <= (0 if kind.labels else 1)


_PEAK_OF_EIGHT = """
import resource, sys
import numpy as np
import tensorflow as tf
from p2p_keras.export import signatures
from p2p_keras.sizes import Size

tf.config.threading.set_inter_op_parallelism_threads(16)  # as a server with many cores has
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB
large = tf.io.encode_png(np.zeros((3000, 3000, 3), np.uint8))
spec = [tf.TensorSpec([None], tf.string)]
functions = signatures.make_functions(lambda image, seed: image, signatures.Contract(Size(32, 32)))
serve = tf.function(lambda files: functions.from_bytes([files], None), input_signature=spec, autograph=False)
serve(large[None])
one = peak()
serve(tf.fill([8], large))
print(peak() - one)
"""


@pytest.mark.slow
def test_many_large_images_need_the_memory_of_one():
    root = Path(signatures.__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", _PEAK_OF_EIGHT], cwd=root, capture_output=True, text=True, check=True
    )
    # One such image takes 27 MB as bytes and 108 MB as floats, read and written. Eight at once would take 900 MB more.
    assert float(process.stdout) < 108
