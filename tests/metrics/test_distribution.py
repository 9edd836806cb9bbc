import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics import _tfgan, distribution
from p2p_keras.metrics.distribution import (
    Statistics,
    frechet_distance,
    frechet_distance_by_singular_values,
    frechet_distance_from_statistics,
    inception_score,
    kernel_distance,
    second_opinion,
    statistics,
)


def _features(count: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated features, in float32 as extractors give them."""
    mixing = np.random.default_rng(7).standard_normal((width, width)) / np.sqrt(width)
    drawn = np.random.default_rng(seed).standard_normal((count, width))
    return (drawn @ mixing * (1.0 + shift) + shift).astype(np.float32)


def test_statistics_are_numpys_mean_and_covariance():
    features = _features(3000, 5, seed=1)  # more rows than are taken at a time
    ours = statistics(features)
    # Sums of 3000 float64 terms of order one: rounding is far below 1e-12.
    np.testing.assert_allclose(ours.mu, features.astype(np.float64).mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.sigma, np.cov(features.astype(np.float64), rowvar=False), rtol=0, atol=1e-12)
    assert ours.count == 3000


BOTH = pytest.mark.parametrize("distance", [frechet_distance_from_statistics, frechet_distance_by_singular_values])


@BOTH
def test_frechet_distance_is_the_closed_form_for_diagonal_gaussians(distance):
    rng = np.random.default_rng(0)
    mu1, mu2, deviation1, deviation2 = rng.random((4, 30))
    one, other = (Statistics(mu, np.diag(deviation**2), 2) for mu, deviation in ((mu1, deviation1), (mu2, deviation2)))
    expected = np.square(mu1 - mu2).sum() + np.square(deviation1 - deviation2).sum()
    assert distance(one, other) == pytest.approx(expected, rel=1e-12)  # float64, 30 terms


@BOTH
def test_frechet_distance_is_the_closed_form_for_two_correlated_features(distance):
    s1, s2 = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    # The eigenvalues x, y of S1 S2 have x + y = trace and x y = det, so (sqrt x + sqrt y)^2 = trace + 2 sqrt(det).
    root_trace = np.sqrt(np.trace(s1 @ s2) + 2 * np.sqrt(np.linalg.det(s1 @ s2)))
    zero = np.zeros(2)
    ours = distance(Statistics(zero, s1, 2), Statistics(zero, s2, 2))
    assert ours == pytest.approx(np.trace(s1 + s2) - 2 * root_trace, rel=1e-12)  # float64, a handful of operations


def _steep(count: int, width: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Features whose variances fall from 1 to 1e-14, as those of a network with many dead or equal ones."""
    rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((width, width)))[0]
    drawn = np.random.default_rng(seed).standard_normal((count, width))
    return drawn * np.logspace(0, -7, width) * scale @ rotation


SETS = {
    "full rank": (_features(500, 64, seed=1, shift=0.3), _features(520, 64, seed=2)),
    "fewer images than features": (_features(40, 64, seed=1, shift=0.3), _features(60, 64, seed=2)),
    "steep": (_steep(400, 128, seed=1, scale=1.1), _steep(420, 128, seed=2)),
}


@pytest.mark.parametrize("sets", SETS)
def test_frechet_distance_is_tensorflow_gans(sets):
    generated, reference = SETS[sets]
    theirs = _tfgan.frechet_classifier_distance_from_activations(
        tf.constant(reference, tf.float64), tf.constant(generated, tf.float64)
    )
    # The same formula in float64 on the same statistics, but that their sums are taken in another order.
    assert frechet_distance(generated=generated, reference=reference) == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("sets", SETS)
def test_frechet_distance_agrees_with_the_second_opinion_and_with_eigenvalues(sets):
    generated, reference = (statistics(features) for features in SETS[sets])
    ours = frechet_distance_from_statistics(generated, reference)
    second = frechet_distance_by_singular_values(generated, reference)
    # tensorflow-gan leaves out square roots of eigenvalues below 1e-10, at most 1e-5 each of 128.
    assert ours == pytest.approx(second, rel=1e-12, abs=2 * 128 * 1e-5)
    (mu1, sigma1, _), (mu2, sigma2, _) = generated, reference
    roots = np.sqrt(np.maximum(np.linalg.eigvals(sigma1 @ sigma2).real, 0))
    independent = np.square(mu1 - mu2).sum() + np.trace(sigma1 + sigma2) - 2 * roots.sum()
    # Eigenvalues of a singular product are zero but for 1e-16, whose roots are 1e-8 each.
    assert second == pytest.approx(independent, rel=1e-6, abs=2 * 128 * 1e-8)


def test_the_second_opinion_keeps_what_tensorflow_gan_leaves_out():
    """All variances are 1e-6, so all products are 1e-12, below tensorflow-gan's 1e-10: nothing is subtracted."""
    one = Statistics(np.zeros(50), 1e-6 * np.eye(50), 100)
    other = one._replace(sigma=2.25e-6 * np.eye(50))
    expected = 50 * 1e-6 * (1.5 - 1) ** 2
    assert frechet_distance_by_singular_values(one, other) == pytest.approx(expected, rel=1e-9)  # cancels to an eighth
    assert frechet_distance_from_statistics(one, other) == pytest.approx(50 * 3.25e-6, rel=1e-5)
    assert second_opinion(one, other) == frechet_distance_by_singular_values(one, other)


def test_a_second_opinion_is_asked_where_it_is_cheap(monkeypatch):
    asked = []
    monkeypatch.setattr(distribution, "frechet_distance_by_singular_values", lambda *both: asked.append(both) or 5.0)
    for width, counts, expected in (
        (768, (5, 5), 5.0),
        (1024, (5, 5), 5.0),
        (2048, (999, 5000), None),
        (2048, (1000, 1000), 5.0),
        (4096, (50_000, 50_000), None),
    ):
        both = [Statistics(np.zeros(width), np.zeros((1, 1)), count) for count in counts]
        assert second_opinion(*both) == expected
        assert len(asked) == bool(expected)
        asked.clear()


@BOTH
@pytest.mark.parametrize("count", [500, 40])
def test_identical_sets_have_distance_zero(count, distance):
    described = statistics(_features(count, 64, seed=3))
    # Sums of order 100 that cancel: 1e-16 of that, times a few hundred operations.
    assert 0 <= distance(described, described) < 1e-11


def test_a_tiny_negative_distance_is_zero(monkeypatch):
    monkeypatch.setattr(distribution, "trace_sqrt_product", lambda one, other: tf.linalg.trace(one) + 1e-14)
    described = Statistics(np.zeros(3), np.eye(3), 10)
    assert frechet_distance_from_statistics(described, described) == 0.0


def test_frechet_distance_does_not_depend_on_order_and_is_symmetric():
    generated, reference = _features(300, 16, seed=1, shift=0.2), _features(200, 16, seed=2)
    ours = frechet_distance(generated, reference)
    assert frechet_distance(generated[::-1], reference) == pytest.approx(ours, rel=1e-10)  # sums in another order
    assert frechet_distance(reference, generated) == pytest.approx(ours, rel=1e-10)


def test_kernel_distance_is_unbiased_and_can_be_negative():
    # 100 draws of 20 images from one distribution: each estimate is noisy, their mean is 0.
    estimates = [
        kernel_distance(_features(20, 8, seed=2 * i), _features(20, 8, seed=2 * i + 1), subsets=2)[0]
        for i in range(100)
    ]
    assert min(estimates) < 0
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))  # three standard errors


def test_kernel_distance_is_the_definition():
    generated, reference = _features(6, 3, seed=1, shift=0.5), _features(6, 3, seed=2)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (np.dot(x.astype(np.float64), y) / 3 + 1) ** 3

    def of_two(a: np.ndarray, b: np.ndarray) -> float:  # subsets of 3, as of 6 images
        within = [np.mean([kernel(x[i], x[j]) for i in range(3) for j in range(3) if i != j]) for x in (a, b)]
        return sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])

    rng = np.random.default_rng(5)
    chosen = [(rng.choice(6, 3, replace=False), rng.choice(6, 3, replace=False)) for _ in range(4)]
    expected = [of_two(reference[r], generated[g]) for r, g in chosen]
    mean, deviation = kernel_distance(generated, reference, subsets=4, seed=5)
    assert mean == pytest.approx(np.mean(expected), rel=1e-10)  # float64, features of order one
    assert deviation == pytest.approx(np.std(expected), rel=1e-10)


def test_kernel_distance_takes_subsets_as_large_as_asked_for_where_there_are_enough_images():
    generated, reference = _features(50, 4, seed=1, shift=1.0), _features(60, 4, seed=2)
    deviations = [kernel_distance(generated, reference, subsets=30, subset_size=size)[1] for size in (10, 1000)]
    assert deviations[0] > deviations[1] > 0


def test_inception_score_is_one_for_a_classifier_that_knows_nothing():
    mean, deviation = inception_score(np.zeros((40, 10), np.float32))
    assert mean == pytest.approx(1.0, abs=1e-12)  # exp of a sum of ten zeros
    assert deviation == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("certainty", [50.0, 1e4])  # at 1e4 the other classes' probabilities underflow
def test_inception_score_is_the_number_of_classes_if_each_is_certain_and_equally_frequent(certainty):
    logits = certainty * np.eye(4, dtype=np.float32)[np.arange(400) % 4]
    assert inception_score(logits, splits=1)[0] == pytest.approx(4.0, rel=1e-12)  # one-hot but for exp(-50) = 2e-22


def test_inception_score_is_finite_where_a_class_never_occurs():
    logits = 1e4 * np.eye(5, dtype=np.float32)[np.arange(40) % 2]
    assert inception_score(logits, splits=1)[0] == pytest.approx(2.0, rel=1e-12)  # two of five classes, certain


def test_inception_score_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    expected = np.exp(np.mean([(row * np.log(row / p.mean(axis=0))).sum() for row in p]))
    assert inception_score(np.log(p), splits=1)[0] == pytest.approx(expected, rel=1e-12)  # float64 throughout


def test_inception_score_does_not_follow_the_order_of_the_files():
    sorted_by_class = 20 * np.eye(10)[np.repeat(np.arange(10), 100)]
    assert inception_score(sorted_by_class)[0] > 9  # contiguous splits of one class each would score 1


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance])
def test_bad_features_are_errors_that_say_which(metric):
    good, bad = _features(8, 4, seed=1), _features(8, 4, seed=2)
    bad[5, 2] = np.nan
    with pytest.raises(UserError, match=r"features of 1 of 8 images are not finite.*number 5"):
        metric(generated=bad, reference=good)
    with pytest.raises(UserError, match=r"at least . images are needed. Received: \(1, 4\)"):
        metric(generated=good, reference=good[:1])
    with pytest.raises(UserError, match="4 features for the generated images, 3 for the reference"):
        metric(generated=good, reference=good[:, :3])


def test_bad_logits_are_errors_that_say_which():
    with pytest.raises(UserError, match=r"logits of at least 10|Logits of at least 10"):
        inception_score(np.zeros((9, 4)))
    logits = np.zeros((20, 4))
    logits[3] = np.inf
    with pytest.raises(UserError, match=r"logits of 1 of 20 images.*number 3"):
        inception_score(logits)
