import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics import paired

ALL = [
    paired.l1,
    paired.psnr,
    paired.crossview_psnr,
    paired.ssim,
    paired.crossview_ssim,
    paired.sharpness_difference,
    paired.crossview_sharpness_difference,
]


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (3, 16, 20, 3)).astype(np.uint8)
    noise = rng.integers(-30, 31, reference.shape)
    return np.clip(reference + noise, 0, 255).astype(np.uint8), reference


@pytest.mark.parametrize("metric", ALL)
def test_one_value_an_image_symmetric_and_the_same_alone_or_in_a_batch(metric, two):
    generated, reference = two
    values = metric(generated=generated, reference=reference)
    assert values.shape == (3,)
    assert values.dtype == np.float64
    # float64, but SSIM, which TensorFlow computes in float32
    tolerance = 1e-5 if metric is paired.ssim else 1e-12
    np.testing.assert_allclose(metric(reference, generated), values, rtol=tolerance)
    np.testing.assert_allclose(
        [metric(g, r) for g, r in zip(generated, reference, strict=True)], values, rtol=tolerance
    )


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("channels", [1, 4])
def test_16_bits_are_scored_on_the_same_scales(metric, channels, two):
    generated, reference = (image[..., [0, 1, 2, 0]][..., :channels] for image in two)
    deep = [image.astype(np.uint16) * 257 for image in (generated, reference)]  # the same brightness, of 65535
    # SSIM is float32
    np.testing.assert_allclose(
        metric(*deep), metric(generated, reference), rtol=1e-5 if metric is paired.ssim else 1e-12
    )


def test_the_lower_8_of_16_bits_count():
    black, dark = np.zeros((12, 12, 1), np.uint16), np.full((12, 12, 1), 13, np.uint16)
    assert paired.l1(dark, black) == pytest.approx(13 / 32767.5, rel=1e-12)
    assert paired.psnr(dark, black) == pytest.approx(20 * np.log10(65535 / 13), rel=1e-12)
    white = np.full((12, 12, 1), 65535, np.uint16)
    assert paired.psnr(white, black) == 0  # squares beyond 32 bits
    assert paired.l1(white, black) == 2
    dotted = black.copy()
    dotted[::2, ::2] = 65535
    # Every pixel differs by the whole range from its neighbours in one or both axes: sums of gradients up to 131070.
    expected = paired.sharpness_difference((dotted >> 8).astype(np.uint8), np.zeros((12, 12, 1), np.uint8))
    assert paired.sharpness_difference(dotted, black) == pytest.approx(float(expected), rel=1e-12)


def test_l1_is_on_the_scale_of_the_training_loss():
    black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert paired.l1(black, black) == 0
    assert paired.l1(black, white) == 2
    assert paired.l1(black + 51, black) == pytest.approx(0.4, rel=1e-12)  # 51 of 255 levels, of 2


def test_psnr_by_hand_and_by_tensorflow(two):
    zero, ten = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 10, np.uint8)
    assert paired.psnr(ten, zero) == pytest.approx(20 * np.log10(255 / 10), rel=1e-12)  # MSE is 10^2
    assert paired.psnr(zero, zero) == np.inf
    theirs = tf.image.psnr(*map(tf.constant, two), max_val=255).numpy()
    np.testing.assert_allclose(paired.psnr(*two), theirs, rtol=1e-5)  # theirs is float32


def test_psnr_of_the_cross_view_tables_is_5_987_db_higher(two):
    np.testing.assert_allclose(paired.crossview_psnr(*two) - paired.psnr(*two), 20 * np.log10(255 / 128), atol=1e-10)
    assert 20 * np.log10(255 / 128) == pytest.approx(5.987, abs=5e-4)
    equal = paired.crossview_psnr(two[0], two[0])
    np.testing.assert_allclose(equal, 10 * np.log10(255**2 / 1e-4))  # their floor


def test_ssim_is_the_definition_where_one_window_is_the_whole_image():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 11, 11, 1)).astype(np.uint8)
    axis = np.arange(11) - 5.0
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window /= window.sum()
    x1, y1 = x[..., 0].astype(float), y[..., 0].astype(float)
    mx, my = (window * x1).sum(), (window * y1).sum()
    vx, vy, cov = (
        (window * a * b).sum() - ma * mb for a, b, ma, mb in ((x1, x1, mx, mx), (y1, y1, my, my), (x1, y1, mx, my))
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert paired.ssim(x, y) == pytest.approx(expected, abs=1e-4)  # float32 variances of squares up to 65025
    assert paired.ssim(x, x) == pytest.approx(1.0, abs=1e-6)


def _crossview_ssim_reference(true: np.ndarray, pred: np.ndarray) -> float:
    """`SSIM` of the cross-view code, step by step, without anything of ours: window by window, in plain loops.

    `image.load` gives [0, 1]; `image.gaussian(11, 1.5 / 11, 0.0708)` has its sigma in shares of the size, and is
    divided by its sum; `image.convolve(..., 'full')` takes every place where window and image overlap.
    """
    line = np.exp(-(((np.arange(1, 12) - 6) / 1.5) ** 2) / 2)
    window = 0.0708 * line[:, None] * line
    window /= window.sum()

    def full(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        padded, result = np.zeros((height + 20, width + 20)), np.empty((height + 10, width + 10))
        padded[10:-10, 10:-10] = image
        for y in range(height + 10):
            for x in range(width + 10):
                result[y, x] = (padded[y : y + 11, x : x + 11] * window[::-1, ::-1]).sum()
        return result

    one, other = (255 * (0.299 * i[..., 0] + 0.587 * i[..., 1] + 0.114 * i[..., 2]) for i in (true / 255, pred / 255))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu1, mu2 = full(one), full(other)
    sigma1, sigma2 = full(one * one) - mu1 * mu1, full(other * other) - mu2 * mu2
    sigma12 = full(one * other) - mu1 * mu2
    ssim_map = ((mu1 * mu2 * 2 + c1) * (sigma12 * 2 + c2)) / ((mu1 * mu1 + mu2 * mu2 + c1) * (sigma1 + sigma2 + c2))
    return ssim_map.mean()


def test_ssim_of_the_cross_view_tables_is_their_code(two):
    expected = [_crossview_ssim_reference(r, g) for g, r in zip(*two, strict=True)]
    # float64; sums of 121 squares up to 65025, of which variances are differences
    np.testing.assert_allclose(paired.crossview_ssim(*two), expected, rtol=1e-10)
    assert not np.allclose(expected, paired.ssim(*two), rtol=0.01)
    np.testing.assert_allclose(paired.crossview_ssim(two[0], two[0]), 1, rtol=1e-12)


def test_ssim_of_the_cross_view_tables_in_closed_form():
    """A white pixel against a black one: the window sees it at 11x11 places, each with another share of its weight."""
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    line = np.exp(-(np.arange(-5.0, 6) ** 2) / (2 * 1.5**2))
    share = np.outer(line, line) / line.sum() ** 2
    mean, square = 255 * share, 255**2 * share
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (c1 * c2 / ((mean**2 + c1) * (square - mean**2 + c2))).mean()
    assert paired.crossview_ssim(white, black) == pytest.approx(expected, rel=1e-10)  # float64, as above


def test_ssim_of_the_cross_view_tables_sees_luminance_and_no_alpha(two):
    grey = [np.round(image @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., np.newaxis] for image in two]
    ours = paired.crossview_ssim(*two)
    np.testing.assert_allclose(ours, paired.crossview_ssim(*grey), atol=2e-3)  # the grey is rounded to levels
    alpha = np.random.default_rng(3).integers(0, 256, (2, *grey[0].shape)).astype(np.uint8)
    with_alpha = [np.concatenate([image, a], axis=-1) for image, a in zip(two, alpha, strict=True)]
    np.testing.assert_allclose(paired.crossview_ssim(*with_alpha), ours, rtol=1e-12)


def test_sharpness_difference_by_hand():
    flat, step = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)
    step[:, 2:] = 255
    # Of the 3x3 pixels with a neighbour above and to the left, the three right of the edge differ from the left one
    # by 1, and none from the one above: mean 1/3.
    assert paired.sharpness_difference(step, flat) == pytest.approx(10 * np.log10(3), rel=1e-12)
    assert paired.sharpness_difference(flat, flat + 9) == np.inf  # brightness alone makes no gradient
    # The cross-view code looks at the inner 2x2 pixels, of which two see the edge, and divides by all 16.
    expected = 10 * np.log10(255**2 / (128**2 * 2 / 16))
    assert paired.crossview_sharpness_difference(step, flat) == pytest.approx(expected, rel=1e-12)


def _crossview_reference(pred: np.ndarray, true: np.ndarray) -> float:
    """`computel1difference` of the cross-view code, line by line: channels first, shifts by padding, inner slice."""
    pred, true = (np.moveaxis(p / 255.0, -1, 0) for p in (pred, true))

    def shifted(image: np.ndarray, axis: int) -> np.ndarray:
        moved = np.zeros_like(image)
        if axis == 1:
            moved[:, 1:] = image[:, :-1]
        else:
            moved[:, :, 1:] = image[:, :, :-1]
        return moved

    inner = (slice(None), slice(1, true.shape[1] - 1), slice(1, true.shape[2] - 1))
    total = sum(
        np.abs(np.abs(shifted(pred, axis) - pred)[inner] - np.abs(shifted(true, axis) - true)[inner]).sum()
        for axis in (1, 2)
    )
    return 10 * np.log10(255 * 255 / (128 * 128 * total / true.size))


def test_sharpness_difference_of_the_cross_view_tables_is_their_code(two):
    expected = [_crossview_reference(g, r) for g, r in zip(*two, strict=True)]
    np.testing.assert_allclose(paired.crossview_sharpness_difference(*two), expected, rtol=1e-12)  # float64


def test_input_of_another_kind_is_an_error_that_says_what(two):
    generated, reference = two
    with pytest.raises(UserError, match=r"Received generated: float32 \(3, 16, 20, 3\)"):
        paired.psnr(generated.astype(np.float32), reference)
    with pytest.raises(UserError, match=r"one depth. Received: generated uint8, reference uint16"):
        paired.psnr(generated, reference.astype(np.uint16))
    with pytest.raises(UserError, match=r"generated \(3, 16, 10, 3\), reference \(3, 16, 20, 3\)"):
        paired.l1(generated[:, :, :10], reference)
    with pytest.raises(UserError, match="window of 11x11"):
        paired.ssim(generated[:, :8], reference[:, :8])
