import numpy as np
import tensorflow as tf
from conftest import draw_levels

from p2p_keras.export.tiles import translate_any_size, translate_tiled
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size

TILE = Size(32, 32)


def test_the_generator_sees_multiples_continued_by_reflection():
    seen = []

    def watch(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        seen.append(image.numpy())
        return image

    row = np.arange(6, dtype=np.float32)
    translate_any_size(watch, np.tile(row[None, None, :, None], (1, 4, 1, 1)), None, 4)
    assert seen[0].shape == (1, 4, 8, 1)
    np.testing.assert_array_equal(seen[0][0, 0, :, 0], [1, 0, 1, 2, 3, 4, 5, 4])


def test_tiles_have_the_size_trained_on_and_leave_no_seams():
    """Each tile gets a brightness of its own; the result must change as smoothly as the blending's cosine."""
    shapes = set()

    def uneven(pieces: list[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        shapes.add(tuple(pieces[0].shape))
        bright = tf.reduce_mean(codec.to_unit_range(pieces[0])) > 0.0
        return tf.fill(tf.shape(pieces[0]), tf.where(bright, 0.5, -0.5))

    image = np.zeros((1, 64, 160, 3), np.uint8)
    image[:, :, 80:] = 255
    result = translate_tiled(uneven, [tf.constant(image)], None, TILE).numpy().astype(int)
    assert shapes == {(1, 32, 32, 3)}
    # From -0.5 to 0.5 are 127.5 levels. The steepest slope of sin^2(pi x / tile) is pi / tile a pixel: 12.5 levels, and
    # rounding adds one. A seam would be a step of 127.
    assert np.abs(np.diff(result, axis=2)).max() <= 14
    assert np.abs(np.diff(result, axis=1)).max() == 0
    assert set(np.unique(result[:, :, :40])) == {64}
    assert set(np.unique(result[:, :, 120:])) == {191}


def test_tiles_may_be_wider_than_high_and_of_several_inputs():
    first, second = draw_levels(RGB, 2, 50, 100), draw_levels(Kind(1, 16), 2, 50, 100)
    shapes = set()

    def pick(pieces: list[tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        shapes.add(tuple(piece.shape for piece in pieces))
        return codec.to_unit_range(pieces[1], Kind(1, 16))

    result = translate_tiled(pick, [tf.constant(first), tf.constant(second)], None, Size(32, 64), Kind(1, 16))
    assert shapes == {((1, 32, 64, 3), (1, 32, 64, 1))}
    # Two weights of float32 add up to one but for a rounding: 65535 times 6e-8 is a hundredth of a level.
    np.testing.assert_array_equal(result, second)


def test_every_tile_draws_noise_of_its_own():
    def noisy(pieces: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(tf.shape(pieces[0]), seed[0], -1, 1)

    images, seed = [tf.zeros((2, 32, 96, 3), tf.uint8)], tf.constant([[0, 1], [0, 2]])
    one = translate_tiled(noisy, images, seed, TILE).numpy()
    assert np.abs(one[0, :, :32].astype(int) - one[0, :, 64:]).mean() > 20
    assert np.abs(one[0].astype(int) - one[1]).mean() > 20
    np.testing.assert_array_equal(one, translate_tiled(noisy, images, seed, TILE))
