import numpy as np
import pytest
import tensorflow as tf
from conftest import READING, cell, draw_pair, negative, quiet, write_pairs

from p2p_keras.data.pairs import find_pairs
from p2p_keras.errors import UserError
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.training.samples import make_sampler


def test_rows_show_input_target_and_generated(pairs_dir):
    image = make_sampler(negative, find_pairs(pairs_dir), READING, print)()
    first, second = draw_pair(100)
    for column, expected in enumerate((first, second, second)):
        np.testing.assert_array_equal(cell(image, 0, column), expected)
    assert image.shape == (20 + 3 * (128 + 2), 3 * (128 + 2) + 2, 3)


def test_the_generator_is_shown_as_it_is_then(pairs_dir):
    level = tf.Variable(-1.0)
    draw = make_sampler(lambda image: tf.fill(image.shape, level), find_pairs(pairs_dir), READING, print)
    for value, expected in ((-1.0, 0), (0.2, 153)):
        level.assign(value)
        assert (cell(draw(), 2, 2) == expected).all()


def test_pairs_are_spread_over_val_and_the_same_each_time(pairs_dir):
    write_pairs(pairs_dir / "val", 60, first_index=200)
    draw = make_sampler(negative, find_pairs(pairs_dir), READING, print)
    image = draw()
    np.testing.assert_array_equal(image, draw())
    for row, index in enumerate(range(0, 60, 10)):
        np.testing.assert_array_equal(cell(image, row, 0), draw_pair(200 + index)[0])
    assert len(image) == 20 + 6 * 130


def test_named_pairs_are_shown_in_their_order(pairs_dir):
    write_pairs(pairs_dir / "val" / "deep", 8, first_index=200)
    names = ["deep/007", "001.png", *(f"deep/{i:03d}.png" for i in range(6)), "val/000.png"]
    seen = []

    def generate(image: tf.Tensor) -> tf.Tensor:
        seen.append(len(image))
        return -image

    image = make_sampler(generate, find_pairs(pairs_dir), READING, print, names)()
    for row, index in enumerate((207, 101, 200, 201, 202, 203, 204, 205, 100)):
        for column, expected in enumerate(draw_pair(index)):
            np.testing.assert_array_equal(cell(image, row, column), expected)
        np.testing.assert_array_equal(cell(image, row, 2), draw_pair(index)[1])
    assert seen == [6, 3]  # as many at once as without names


@pytest.mark.parametrize("name", ["007", "deep/000", "00", "", "train/000.png"])
def test_a_name_that_no_pair_has_is_refused(pairs_dir, name):
    with pytest.raises(UserError, match=rf"pairs of val/, as 000.png, 001.png, 002.png. There is none named {name}$"):
        make_sampler(negative, find_pairs(pairs_dir), READING, print, ("000", name))


def test_label_maps_and_grey_are_shown_in_colours(tmp_path):
    classes = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32, 1) % 5
    deep = (np.arange(32 * 32, dtype=np.uint16) * 64).reshape(32, 32, 1)
    for panel, levels in (("A", classes), ("B", deep)):
        (tmp_path / panel / "train").mkdir(parents=True)
        (tmp_path / panel / "train" / "0.png").write_bytes(codec.encode(levels))
    reading = READING._replace(input_kinds=(Kind(5, labels=True),), target_kind=Kind(1, 16))
    shapes = []

    def generate(image: tf.Tensor) -> tf.Tensor:
        shapes.append(tuple(image.shape))
        return -tf.ones((1, 32, 32, 1))

    image = make_sampler(generate, find_pairs(tmp_path), reading, quiet)()
    assert shapes == [(1, 32, 32, 5)]
    grey = np.repeat((deep >> 8).astype(np.uint8), 3, axis=-1)
    for column, expected in enumerate((class_colours()[classes[..., 0]], grey, np.zeros((32, 32, 3)))):
        np.testing.assert_array_equal(cell(image, 0, column), expected)


def test_without_val_it_says_where_the_images_are_from(pairs_dir):
    (pairs_dir / "val").rename(pairs_dir / "test")
    told = []
    image = make_sampler(negative, find_pairs(pairs_dir), READING, told.append)()
    assert told == ["There is no val/, so the sample images are of test/"]
    np.testing.assert_array_equal(cell(image, 0, 0), draw_pair(100)[0])
