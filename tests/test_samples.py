import numpy as np
import tensorflow as tf
from conftest import draw_pair, write_pairs

from p2p_keras.data.pairs import find_pairs
from p2p_keras.samples import make_sampler

READING = (2, 0, 1, 32)


class _Negative:
    """Stands in for a perfect generator of the drawn pairs."""

    def __call__(self, inputs, training):
        image, noise_seed = inputs
        assert noise_seed is None
        assert training is False
        return -image


def test_rows_show_input_target_and_generated(pairs_dir):
    picture = make_sampler(_Negative(), find_pairs(pairs_dir), READING, print)()
    first, second = draw_pair(100)
    row = picture[20 : 20 + 32]
    gap = 2
    columns = [row[:, gap + c * (32 + gap) : gap + c * (32 + gap) + 32] for c in range(3)]
    for column, expected in zip(columns, (first, second, second), strict=True):
        np.testing.assert_array_equal(column, expected)
    assert picture.shape == (20 + 3 * (32 + gap), 3 * (32 + gap) + gap, 3)


def test_pairs_are_spread_over_val_and_the_same_each_time(pairs_dir):
    write_pairs(pairs_dir / "val", 60, first_index=200)
    draw = make_sampler(_Negative(), find_pairs(pairs_dir), READING, print)
    picture = draw()
    np.testing.assert_array_equal(picture, draw())
    for row, index in enumerate(range(0, 60, 10)):
        np.testing.assert_array_equal(picture[20 + 34 * row : 52 + 34 * row, 2:34], draw_pair(200 + index)[0])


def test_without_val_it_says_where_the_pictures_are_from(pairs_dir):
    (pairs_dir / "val").rename(pairs_dir / "test")
    told = []
    make_sampler(_Negative(), find_pairs(pairs_dir), READING, told.append)
    assert "test/" in told[0]
    assert tf.executing_eagerly()
