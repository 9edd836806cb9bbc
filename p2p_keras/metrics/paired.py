"""How far a generated image is from its own target: L1, PSNR, SSIM, sharpness difference.

Each function takes images (..., H, W, C) of equal shape and returns float64 (...): one value an image. They are
symmetric, but the arguments are named by role all the same. Images are uint8 or uint16, and their type decides what
the brightest level is (L below, 255 or 65535): both are scored at their full depth, on the same scales. C is any number
of channels, an alpha channel counts like a colour.

PSNR, SSIM and sharpness difference come in two definitions. The cross-view literature (Regmi and Borji 2018,
SelectionGAN, and the Dayton tables after them) computes them with `my_image_error_measures.lua`, which lies in
`scripts/evaluation/` of SelectionGAN's repository. It scales images in [0, 1] by 128 where its formula of PSNR expects
255: its PSNR is 20 log10(255 / 128) = 5.987 dB above the standard one. So is its sharpness difference, which also
departs from its paper's formula. Its SSIM is of luminance, through windows that reach over the border. Those are the
`crossview_` functions, for comparing with those tables only.
"""

import numpy as np

from p2p_keras.errors import UserError

_IMAGE = (-3, -2, -1)
_FLOOR = 1e-4  # of the cross-view code, below which it does not let an error fall


def l1(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference on the [-1, 1] scale, as the training loss: 0 is equal, 2 is black against white."""
    ours, theirs = _levels(generated, reference)
    return _mean(np.abs(ours - theirs)) / (_peak(generated) / 2)


def psnr(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, 10 log10(L^2 / MSE) over all channels; infinite for equal images."""
    return _decibels(_squared_error(generated, reference))


def crossview_psnr(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """PSNR in dB as in the cross-view tables: 10 log10(255^2 / (128^2 MSE)) with the MSE on [0, 1], at any depth."""
    return _crossview_decibels(_squared_error(generated, reference))


def ssim(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Structural similarity, 1 for equal images, by `tf.image.ssim`: each channel on its own, then their mean.

    Source: Wang et al. 2004; 11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, no padding.

    Raises:
        UserError: An image is smaller than the window.
    """
    _check(generated, reference)
    if min(generated.shape[-3:-1]) < 11:
        raise UserError(
            f"SSIM looks through a window of 11x11 pixels. Received images of {generated.shape[-3:]}. Leave it out."
        )
    import tensorflow as tf  # here, so that the table of metrics, which --help needs, loads without it

    images = tf.constant(generated), tf.constant(reference)
    return tf.image.ssim(*images, max_val=_peak(generated)).numpy().astype(np.float64)


def crossview_ssim(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Structural similarity as in the cross-view tables, 1 for equal images.

    Source: `SSIM` of their code. Window and constants are those of `ssim`, but images are reduced to luminance (0.299,
    0.587, 0.114; an alpha channel of four is left out, one or two channels stay as they are), and the mean is over
    every position at which window and image overlap, (H + 10, W + 10), with black outside. Departures: luminance in
    float64 rather than float32; images of any depth are brought to their 255 levels.
    """
    _check(generated, reference)
    ours, theirs = (_luminance(image) for image in (generated, reference))
    places = np.ndindex(generated.shape[:-3])  # one by one: what belongs to one image fits into the cache
    return np.array([_crossview_ssim(ours[i], theirs[i]) for i in places]).reshape(generated.shape[:-3])


def sharpness_difference(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Sharpness difference in dB: how alike the gradients are; higher is better, infinite for equal gradients.

    Source: Mathieu et al. 2016 (arXiv 1511.05440), section 4: 10 log10(max^2 / mean |(di + dj) - (di' + dj')|), where
    di and dj are a pixel's absolute differences to the one above and the one to the left. The denominator is not
    squared, so the value depends on the scale; here images are in [0, 1] and max is 1.
    """
    ours, theirs = (sum(_gradients(image)) for image in _levels(generated, reference))
    return _decibels(_mean(np.abs(ours - theirs)) / _peak(generated))


def crossview_sharpness_difference(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Sharpness difference in dB as in the cross-view tables, by their code rather than their formula.

    `computel1difference` adds |di - di'| and |dj - dj'| where the paper takes the difference of sums, leaves out the
    outermost pixels, but divides by the number of all.
    """
    ours, theirs = (_gradients(image) for image in _levels(generated, reference))
    differences = sum(np.abs(one - other) for one, other in zip(ours, theirs, strict=True))
    inner = differences[..., :-1, :-1, :]  # rows and columns 1 to -2: `_gradients` starts at 1
    total = inner.sum(axis=_IMAGE, dtype=np.float64)
    return _crossview_decibels(total / np.prod(generated.shape[-3:]) / _peak(generated))


def _squared_error(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """On the [0, 1] scale."""
    ours, theirs = _levels(generated, reference)
    exact = np.int32 if generated.dtype == np.uint8 else np.int64
    return _mean(np.square(ours - theirs, dtype=exact)) / _peak(generated) ** 2


def _crossview_ssim(ours: np.ndarray, theirs: np.ndarray) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean1, mean2 = _blurred(ours), _blurred(theirs)
    variance1, variance2 = _blurred(ours**2) - mean1**2, _blurred(theirs**2) - mean2**2
    covariance = _blurred(ours * theirs) - mean1 * mean2
    likeness = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return float((likeness / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))).mean())


def _luminance(image: np.ndarray) -> np.ndarray:
    """float64 (..., 1, H, W) in [0, 255]; of one or two channels (..., C, H, W)."""
    levels = image.astype(np.float64) * (255 / _peak(image))
    if image.shape[-1] > 2:
        levels = levels[..., :3] @ np.array([[0.299], [0.587], [0.114]])
    return np.moveaxis(levels, -1, -3)


def _blurred(image: np.ndarray) -> np.ndarray:
    """Means under an 11x11 Gaussian window of sigma 1.5: (..., H, W) -> (..., H + 10, W + 10), with black outside."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width = (size + 10 for size in image.shape[-2:])
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(10, 10)] * 2)
    rows = sum(weight * padded[..., i : i + height, :] for i, weight in enumerate(weights))
    return sum(weight * rows[..., i : i + width] for i, weight in enumerate(weights))


def _mean(levels: np.ndarray) -> np.ndarray:
    return levels.mean(axis=_IMAGE, dtype=np.float64)


def _gradients(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute differences to the pixel above and to the one on the left, where both exist: (..., H - 1, W - 1, C)."""
    here = image[..., 1:, 1:, :]
    return np.abs(here - image[..., :-1, 1:, :]), np.abs(here - image[..., 1:, :-1, :])


def _decibels(error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error)


def _crossview_decibels(error: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(255.0**2 / np.maximum(128.0**2 * error, _FLOOR))


def _levels(generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """To int16, where differences of differences are exact, and a quarter the size of float64; uint16 to int32."""
    _check(generated, reference)
    exact = np.int16 if generated.dtype == np.uint8 else np.int32
    return generated.astype(exact), reference.astype(exact)


def _peak(image: np.ndarray) -> float:
    """The brightest level."""
    return float(np.iinfo(image.dtype).max)


def _check(generated: np.ndarray, reference: np.ndarray) -> None:
    for role, image in (("generated", generated), ("reference", reference)):
        if image.dtype not in (np.uint8, np.uint16) or image.ndim < 3:
            raise UserError(
                "Images are uint8 or uint16 (..., height, width, channels). "
                f"Received {role}: {image.dtype} {image.shape}. "
                "p2p_keras.images.codec.from_unit_range brings [-1, 1] there."
            )
    if generated.dtype != reference.dtype:
        raise UserError(
            f"Both images of a pair have one depth. Received: generated {generated.dtype}, "
            f"reference {reference.dtype}. Bring one to the other's."
        )
    if generated.shape != reference.shape:
        raise UserError(
            f"Both images of a pair have one size. Received: generated {generated.shape}, "
            f"reference {reference.shape}. Resize one."
        )
