"""Features -> statistics -> Frechet and kernel distance; logits -> Inception Score. All of it in float64.

Features and logits come from one extractor (`metrics.inception`) for both sides; nothing here knows which.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics._tfgan import (
    classifier_score_from_logits,
    kernel_classifier_distance_from_activations,
    trace_sqrt_product,
)
from p2p_keras.metrics.table import FEWEST_IMAGES, INCEPTION_SCORE_PARTS

SUBSETS, SUBSET_SIZE = 100, 1000  # customary for the kernel distance (Binkowski et al. 2018, section 4; torch-fidelity)
_ROWS = 1024  # taken into the covariance at a time, so that it never needs a float64 copy of all features
_LOWEST_LOGIT = -600.0  # below the largest of its row: exp(-600) is 1e-261, still above 0 in float64


class Statistics(NamedTuple):
    """Mean and covariance of features: what the Frechet distance compares."""

    mu: np.ndarray  # float64 (d,)
    sigma: np.ndarray  # float64 (d, d), divided by N - 1
    count: int


def statistics(features: np.ndarray) -> Statistics:
    """Mean and unbiased covariance of features (N, d), N >= 2.

    Raises:
        UserError: Fewer than two images, or a feature that is not finite.
    """
    _check(features, "features")
    count, width = features.shape
    mu = features.mean(axis=0, dtype=np.float64)
    sigma = np.zeros((width, width))
    for start in range(0, count, _ROWS):
        centred = features[start : start + _ROWS].astype(np.float64) - mu
        sigma += centred.T @ centred
    return Statistics(mu, sigma / (count - 1), count)


def frechet_distance(generated: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, the FID if they are Inception's.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6: |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).
    It is biased upwards by few images: compare only values with the same N.

    Args:
        generated: Features (N, d), N >= 2.
        reference: Features (M, d), M >= 2.

    Raises:
        UserError: Fewer than two images on a side, different widths, or a value that is not finite.
    """
    return frechet_distance_from_statistics(statistics(generated), statistics(reference))


def frechet_distance_from_statistics(generated: Statistics, reference: Statistics) -> float:
    """The same from statistics, for a reference that is known already. tensorflow-gan's formula.

    Of tensorflow-gan it is `trace_sqrt_product`, the heart of its `frechet_classifier_distance_from_activations`, which
    takes activations only: 21,048 x 2048 of them twice in float64 are 700 MB. Our statistics are its own, float64 and
    with N - 1; the tests hold the result against that function, to 1e-9.
    """
    _check_widths(generated.mu.size, reference.mu.size)
    with tf.device("CPU"):  # the number must not depend on the GPU
        root_trace = float(trace_sqrt_product(tf.constant(reference.sigma), tf.constant(generated.sigma)))
    return _distance(generated, reference, root_trace)


def frechet_distance_by_singular_values(generated: Statistics, reference: Statistics) -> float:
    """The same number by another way, to check it.

    With S = A'A, the trace of (S1 S2)^(1/2) is the sum of the singular values of A1 A2'. That takes no square root of a
    computed matrix, so it keeps its digits where covariances are nearly singular; tensorflow-gan leaves out what
    belongs to eigenvalues of S1 S2 below 1e-10, up to 1e-5 for each feature.
    """
    _check_widths(generated.mu.size, reference.mu.size)
    product = _factor(generated.sigma) @ _factor(reference.sigma).T
    return _distance(generated, reference, np.linalg.svd(product, compute_uv=False).sum())


def second_opinion(generated: Statistics, reference: Statistics) -> float | None:
    """The distance by singular values where it is cheap beside the features; None elsewhere.

    That is up to 1024 features, and up to 2048 from 1,000 images on, whose features take half a minute and more.
    Seconds on two idle cores (AMD Zen 4), by tensorflow-gan's formula and by singular values: 0.4 and 0.1 at 768
    features, 0.9 and 0.3 at 1024, 6.9 and 2.4 at 2048, whatever the number of images. For 2 x 5,000 random images of
    2048 features the two differ by 5e-11 where the variances fall as i^-1.5, over five orders of magnitude, and by 4e-5
    where they fall exponentially, over six; the steeper they fall and the smaller the distance, the more.
    """
    width, count = generated.mu.size, min(generated.count, reference.count)
    if width <= 1024 or (width <= 2048 and count >= 1000):
        return frechet_distance_by_singular_values(generated, reference)
    return None


def kernel_distance(
    generated: np.ndarray,
    reference: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance (squared MMD with a cubic kernel) between two sets of features: the KID if they are Inception's.

    Source: Binkowski et al. 2018 (arXiv 1801.01401), by tensorflow-gan's formula on each subset. Unbiased for any N,
    so it may come out below 0. With fewer than twice `subset_size` images the subsets are half of the smaller side.

    Args:
        generated: Features (N, d), N >= 4.
        reference: Features (M, d), M >= 4.
        subsets: Number of random subsets, drawn without replacement from each side.
        subset_size: Images in each.
        seed: Of the draw.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        UserError: Too few images, different widths, or a value that is not finite.
    """
    for features in (generated, reference):
        _check(features, "features", FEWEST_IMAGES)
    _check_widths(generated.shape[1], reference.shape[1])
    size = min(subset_size, len(generated) // 2, len(reference) // 2)
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(subsets):
        chosen = [
            tf.constant(side[rng.choice(len(side), size, replace=False)], tf.float64) for side in (reference, generated)
        ]
        distances.append(float(kernel_classifier_distance_from_activations(*chosen, max_block_size=size)))
    return float(np.mean(distances)), float(np.std(distances))


def inception_score(logits: np.ndarray, splits: int = INCEPTION_SCORE_PARTS, seed: int = 0) -> tuple[float, float]:
    """Inception Score of generated images: 1 if all look alike, up to the number of classes.

    Source: Salimans et al. 2016 (arXiv 1606.03498), by tensorflow-gan's formula on each split. Images are shuffled
    before they are split, since file names are often sorted by place or subject. Classes of zero probability, which
    make that formula NaN, are kept above zero at 1e-261.

    Args:
        logits: Of the generated images, (N, classes), N >= splits.
        splits: Equal parts (but for one image) scored on their own.
        seed: Of the shuffle.

    Returns:
        Mean and standard deviation over the splits.

    Raises:
        UserError: Fewer images than splits, or a value that is not finite.
    """
    _check(logits, "logits", at_least=max(2, splits))
    logits = logits.astype(np.float64)
    logits = np.maximum(logits - logits.max(axis=1, keepdims=True), _LOWEST_LOGIT)
    order = np.random.default_rng(seed).permutation(len(logits))
    scores = [float(classifier_score_from_logits(tf.constant(logits[part]))) for part in np.array_split(order, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _distance(generated: Statistics, reference: Statistics, root_trace: float) -> float:
    spread = np.trace(generated.sigma) + np.trace(reference.sigma) - 2.0 * root_trace
    shift = np.square(generated.mu - reference.mu).sum()
    return max(0.0, float(shift + spread))  # rounding can leave -1e-14 where it is 0


def _factor(sigma: np.ndarray) -> np.ndarray:
    """A (rank, d) with A'A = sigma, for a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(sigma)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps  # the rest is rounding
    return np.sqrt(values[kept])[:, np.newaxis] * vectors[:, kept].T


def _check(values: np.ndarray, what: str, at_least: int = 2) -> None:
    if values.ndim != 2 or len(values) < at_least:
        raise UserError(f"{what.capitalize()} of at least {at_least} images are needed. Received: {values.shape}")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"The {what} of {len(bad)} of {len(values)} images are not finite. The first is number {bad[0]}, "
            "counted from 0: look at that image."
        )


def _check_widths(generated: int, reference: int) -> None:
    if generated != reference:
        raise UserError(
            "Both sides need features of the same extractor. "
            f"Received: {generated} features for the generated images, {reference} for the reference."
        )
