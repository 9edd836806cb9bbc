import numpy as np
import pytest

from p2p_keras.metrics.checkerboard import checkerboard


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.RandomState(0).normal(size=(50, 64, 96))


def test_white_noise_has_none(noise):
    """A mean of 50 exponential powers is uneven by 10 / ln 10 / sqrt(50) = 0.6 dB, by 0.3 in the mean over 4 places."""
    assert abs(checkerboard(noise)) < 1


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_pattern_of_a_known_power_is_found(noise, period):
    """The window sums to half of the pixels in each direction, its square to 3/8 of them.

    The pattern is four waves of amplitude a/4; at period 2 all four are one of amplitude a. So it adds the power
    (a/4)^2 (HW/4)^2, or a^2 (HW/4)^2, to the noise's (3/8)^2 HW at two of the four places: the diagonal ones. The mean
    over the four has half of the decibels.
    """
    rows, columns = np.mgrid[:64, :96]
    amplitude = 1.0
    pattern = amplitude * np.cos(2 * np.pi * rows / period) * np.cos(2 * np.pi * columns / period)
    share = 1.0 if period == 2 else 1 / 4
    pixels = 64 * 96
    added = (amplitude * share) ** 2 * (pixels / 4) ** 2 / ((3 / 8) ** 2 * pixels)
    expected = 0.5 * 10 * np.log10(1 + added)
    assert checkerboard(noise + pattern) == pytest.approx(expected, abs=0.8)  # of the noise, as above


def test_neither_brightness_nor_contrast_nor_colour_count(noise):
    images = np.repeat(noise[..., None], 3, axis=3)
    assert checkerboard(7 * images + 100) == pytest.approx(checkerboard(noise), abs=1e-6)


def test_zeros_between_pixels_are_a_checkerboard_and_smoothed_ones_are_none(noise):
    """A transposed convolution begins with zeros between the pixels; bilinear weights take the pattern away again."""
    wide = np.zeros((50, 128, 192))
    wide[:, ::2, ::2] = noise + 10
    smooth = sum(
        weight * np.roll(wide, (down, right), (1, 2))
        for down, right, weight in [(i, j, (1 - abs(i) / 2) * (1 - abs(j) / 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    )
    assert checkerboard(wide) > 20
    assert checkerboard(smooth) < 3


def test_other_forms_are_refused():
    for shape in ((64, 64), (3, 32, 64), (3, 68, 64, 3)):
        with pytest.raises(ValueError, match="sides multiples of 8 from 64"):
            checkerboard(np.zeros(shape))
