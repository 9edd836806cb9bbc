"""Checkerboard artefacts: how far the spectrum stands out at the frequencies that a stride of 2 leaves (Odena et al.
2016, "Deconvolution and checkerboard artifacts").

A transposed convolution of stride 2 can leave a pattern that repeats every 2 pixels of its output; of the last layers'
that is every 2, 4 and 8 pixels of the image.
"""

import numpy as np

PERIODS = (2, 4, 8)  # pixels
_NEAR, _FAR = 2, 5  # bins beside a peak that are compared with it: a Hann window spreads a peak over one


def checkerboard(images: np.ndarray) -> float:
    """How much stronger images are at periods of 2, 4 and 8 pixels than at those nearby, decibels; about 0 for photos.

    Power spectra of the images' brightness, under a Hann window, are averaged over the images. At each frequency that
    is 1 / period along one axis or both, the power is compared with the geometric mean of that a few bins beside; the
    result is the strongest of the means over each period's frequencies.

    Args:
        images: (N, H, W) or (N, H, W, C), any range; H and W of 64 or more, multiples of 8. Several images: of one
            alone the spectrum is too uneven, some decibels by itself.

    Returns:
        float.

    Raises:
        ValueError: Images of another form.
    """
    images = np.asarray(images, np.float64)
    if images.ndim == 4:
        images = images.mean(axis=-1)
    if images.ndim != 3 or min(images.shape[1:]) < 64 or any(side % 8 for side in images.shape[1:]):
        raise ValueError(
            f"images must be (N, H, W) or (N, H, W, C), sides multiples of 8 from 64. Received: {images.shape}"
        )
    height, width = images.shape[1:]
    window = np.hanning(height + 1)[:-1, None] * np.hanning(width + 1)[:-1]
    images = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.mean([np.abs(np.fft.fft2(image * window)) ** 2 for image in images], axis=0)
    logarithm = 10.0 * np.log10(power + 1e-9 * power.max() + 1e-300)
    excess = []
    for period in PERIODS:
        rows, columns = height // period, width // period
        places = [(rows, 0), (0, columns), (rows, columns), (rows, -columns)]
        excess.append(np.mean([_stands_out(logarithm, row, column) for row, column in places]))
    return float(max(excess))


def _stands_out(logarithm: np.ndarray, row: int, column: int) -> float:
    """At a frequency, less the mean of those beside it in the direction in which it lies."""
    down, right = np.sign(row), np.sign(column)
    beside = [(row + by * down, column + by * right) for by in (*range(-_FAR, -_NEAR), *range(_NEAR + 1, _FAR + 1))]
    height, width = logarithm.shape
    near = [logarithm[i % height, j % width] for i, j in beside]
    return logarithm[row % height, column % width] - float(np.mean(near))
