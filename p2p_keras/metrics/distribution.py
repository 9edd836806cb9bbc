"""Features -> statistics -> Frechet and kernel distance; logits -> Inception Score. All of it in float64.

Features and logits come from one extractor (`metrics.inception`) for both sides; nothing here knows which.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics._tfgan import classifier_score_from_logits, kernel_classifier_distance_from_activations

SUBSETS, SUBSET_SIZE = 100, 1000  # customary for the kernel distance (Binkowski et al. 2018, section 4; torch-fidelity)
SPLITS = 10  # customary for the Inception Score (Salimans et al. 2016, appendix)
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
        UserError: Fewer than two pictures, or a feature that is not finite.
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
    It is biased upwards by few pictures: compare only values with the same N.

    Args:
        generated: Features (N, d), N >= 2.
        reference: Features (M, d), M >= 2.

    Raises:
        UserError: Fewer than two pictures on a side, different widths, or a value that is not finite.
    """
    return frechet_distance_from_statistics(statistics(generated), statistics(reference))


def frechet_distance_from_statistics(generated: Statistics, reference: Statistics) -> float:
    """The same from statistics, for a reference that is known already.

    Departure from tensorflow-gan's formula, which takes several times as long at 2048 features: with S = A'A, the trace
    of (S1 S2)^(1/2) is the sum of the singular values of A1 A2'. That takes no square root of a computed matrix, so it
    keeps its digits where covariances are nearly singular (tensorflow-gan drops eigenvalues below 1e-10), and few
    pictures leave small factors. The tests hold it against tensorflow-gan's.
    """
    _check_widths(generated.mu.size, reference.mu.size)
    product = _factor(generated.sigma) @ _factor(reference.sigma).T
    root_trace = np.linalg.svd(product, compute_uv=False).sum()
    spread = np.trace(generated.sigma) + np.trace(reference.sigma) - 2.0 * root_trace
    shift = np.square(generated.mu - reference.mu).sum()
    return max(0.0, float(shift + spread))  # rounding can leave -1e-14 where it is 0


def kernel_distance(
    generated: np.ndarray,
    reference: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance (squared MMD with a cubic kernel) between two sets of features: the KID if they are Inception's.

    Source: Binkowski et al. 2018 (arXiv 1801.01401), by tensorflow-gan's formula on each subset. Unbiased for any N,
    so it may come out below 0. With fewer than twice `subset_size` pictures the subsets are half of the smaller side.

    Args:
        generated: Features (N, d), N >= 4.
        reference: Features (M, d), M >= 4.
        subsets: Number of random subsets, drawn without replacement from each side.
        subset_size: Pictures in each.
        seed: Of the draw.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        UserError: Too few pictures, different widths, or a value that is not finite.
    """
    for features in (generated, reference):
        _check(features, "features", at_least=4)
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


def inception_score(logits: np.ndarray, splits: int = SPLITS, seed: int = 0) -> tuple[float, float]:
    """Inception Score of generated pictures: 1 if all look alike, up to the number of classes.

    Source: Salimans et al. 2016 (arXiv 1606.03498), by tensorflow-gan's formula on each split. Pictures are shuffled
    before they are split, since file names are often sorted by place or subject. Classes of zero probability, which
    make that formula NaN, are kept above zero at 1e-261.

    Args:
        logits: Of the generated pictures, (N, classes), N >= splits.
        splits: Equal parts (but for one picture) scored on their own.
        seed: Of the shuffle.

    Returns:
        Mean and standard deviation over the splits.

    Raises:
        UserError: Fewer pictures than splits, or a value that is not finite.
    """
    _check(logits, "logits", at_least=max(2, splits))
    logits = logits.astype(np.float64)
    logits = np.maximum(logits - logits.max(axis=1, keepdims=True), _LOWEST_LOGIT)
    order = np.random.default_rng(seed).permutation(len(logits))
    scores = [float(classifier_score_from_logits(tf.constant(logits[part]))) for part in np.array_split(order, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _factor(sigma: np.ndarray) -> np.ndarray:
    """A (rank, d) with A'A = sigma, for a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(sigma)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps  # the rest is rounding
    return np.sqrt(values[kept])[:, np.newaxis] * vectors[:, kept].T


def _check(values: np.ndarray, what: str, at_least: int = 2) -> None:
    if values.ndim != 2 or len(values) < at_least:
        raise UserError(f"{what.capitalize()} of at least {at_least} pictures are needed. Received: {values.shape}")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"The {what} of {len(bad)} of {len(values)} pictures are not finite. The first is number {bad[0]}, "
            "counted from 0: look at that picture."
        )


def _check_widths(generated: int, reference: int) -> None:
    if generated != reference:
        raise UserError(
            "Both sides need features of the same extractor. "
            f"Received: {generated} features for the generated pictures, {reference} for the reference."
        )
