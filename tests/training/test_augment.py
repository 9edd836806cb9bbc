"""DiffAugment, against NumPy in plain loops, and by its properties."""

import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.images.kinds import Kind
from p2p_keras.training import augment

RNG = np.random.RandomState(7)
SIDES = (10, 16)  # of which an eighth is 1 (1.75 rounded down) and 2 (2.5 likewise), a half 5 and 8


def _images(count: int = 3, channels: int = 3) -> np.ndarray:
    return RNG.uniform(-1, 1, (count, *SIDES, channels)).astype(np.float32)


def _seeds(count: int) -> np.ndarray:
    return RNG.randint(-(2**31), 2**31, (count, 2)).astype(np.int32)


def _augment(images, seeds, kind=Kind()):  # noqa: B008, which is immutable
    return [image.numpy() for image in augment.augment_pairs(tf.constant(seeds), *map(tf.constant, images), kind)]


def test_colour_is_the_papers_formulas():
    image, draws = _images()[:1], np.array([[0.25, 0.9, 0.7]], np.float32)
    expected = image[0].astype(np.float64) - 0.25
    grey = expected.mean(axis=2, keepdims=True)
    expected = (expected - grey) * 1.8 + grey
    expected = (expected - expected.mean()) * 1.2 + expected.mean()
    found = augment.change_colour(tf.constant(image), tf.constant(draws), 3)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)  # float32, of numbers up to 2


@pytest.mark.parametrize(("channels", "labels", "changed"), [(1, False, 1), (2, False, 1), (4, False, 3), (3, True, 0)])
def test_alpha_and_classes_keep_their_values(channels, labels, changed):
    image = np.full((4, *SIDES, channels), 0.5, np.float32)
    kind = Kind(channels, labels=labels)
    _, target, generated = _augment([image] * 3, _seeds(4), kind)
    np.testing.assert_array_equal(target, generated)
    values = [set(np.unique(target[..., i])) - {0.0, 0.5} for i in range(channels)]  # 0 where it was moved or cut
    assert [bool(found) for found in values] == [i < changed for i in range(channels)]


@pytest.mark.parametrize(("draws", "by"), [((0.0, 0.0), (-1, -2)), ((0.5, 0.5), (0, 0)), ((0.999, 0.7), (1, 1))])
def test_translation_moves_by_whole_pixels_and_zeros_come_in(draws, by):
    image = _images(1)
    expected = np.zeros_like(image)
    for i in range(SIDES[0]):
        for j in range(SIDES[1]):
            if 0 <= i - by[0] < SIDES[0] and 0 <= j - by[1] < SIDES[1]:
                expected[0, i, j] = image[0, i - by[0], j - by[1]]
    np.testing.assert_array_equal(augment.translate(tf.constant(image), tf.constant([draws])), expected)


@pytest.mark.parametrize(
    ("draws", "rows", "columns"),
    [((0.0, 0.0), (0, 3), (0, 4)), ((0.5, 0.5), (3, 8), (4, 12)), ((0.999, 0.999), (7, 10), (12, 16))],
)
def test_the_cutout_is_half_the_sides_and_its_middle_anywhere(draws, rows, columns):
    """Of 5 x 8, from -2 to 7 and from -4 to 12, as `offset + grid - cutout // 2` of the paper's code, cut at the edge
    (which it clips to, instead: the edge itself is cut, then).
    """
    image = _images(1)
    expected = image.copy()
    expected[0, slice(*rows), slice(*columns)] = 0
    np.testing.assert_array_equal(augment.cut_out(tf.constant(image), tf.constant([draws])), expected)


def test_the_gradient_is_the_adjoint():
    """<T x, y> = <x, T' y> for the linear part: moving and cutting, and colour but for its constant."""
    x, y, seeds = _images(4), _images(4), _seeds(4)
    image = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(image)
        *_, generated = augment.augment_pairs(seeds, image, image, image, Kind())
        product = tf.reduce_sum(generated * y)
    *_, constant = _augment([np.zeros_like(x)] * 3, seeds)
    linear = float(product) - float((constant * y).sum())
    assert abs(linear - float(tf.reduce_sum(tape.gradient(product, image) * x))) < 1e-3  # of a sum of 1,900 numbers
    assert abs(linear) > 1


def test_each_pair_by_its_seed_alone_and_all_draws_differ():
    images, seeds = [_images(4) for _ in range(3)], _seeds(4)
    together = _augment(images, seeds)
    for i in range(4):
        for found, alone in zip(
            together, _augment([image[i : i + 1] for image in images], seeds[i : i + 1]), strict=True
        ):
            np.testing.assert_allclose(found[i : i + 1], alone, atol=1e-6)  # means of a picture, in another order
    draws = augment._uniform(tf.constant(_seeds(20000)), 7).numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.01)  # five standard errors
    correlation = np.corrcoef(draws.T) - np.eye(7)
    assert np.abs(correlation).max() < 0.035  # likewise


def test_input_and_target_are_moved_and_cut_alike_and_the_input_keeps_its_colours():
    ones = np.full((8, *SIDES, 3), 0.5, np.float32)
    input_image, target, _ = _augment([ones, ones, ones], _seeds(8))
    assert set(np.unique(input_image)) == {0.0, 0.5}
    np.testing.assert_array_equal(input_image == 0, target == 0)
    assert 0.2 < (input_image == 0).mean() < 0.5  # a quarter at most is cut out, and up to a fifth moved out
