import numpy as np
import pytest

from p2p_keras.errors import UserError
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics import labels, paired


def _map(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)[..., np.newaxis]


REFERENCE = _map([0, 0, 1, 1], [0, 0, 1, 2])
GENERATED = _map([0, 0, 1, 2], [0, 1, 1, 2])


def test_metrics_by_hand():
    counts = labels.confusion(generated=GENERATED, reference=REFERENCE, classes=4)
    assert counts.tolist() == [[3, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert labels.pixel_accuracy(counts) == 6 / 8
    # Class 0: 3 of 4, class 1: 2 of 4, class 2: 1 of 2; class 3 is nowhere.
    assert labels.mean_iou(counts) == pytest.approx((3 / 4 + 2 / 4 + 1 / 2) / 3, rel=1e-12)
    assert labels.mean_iou(labels.confusion(REFERENCE, REFERENCE, 4)) == 1
    assert labels.pixel_accuracy(labels.confusion(REFERENCE, REFERENCE, 4)) == 1


def test_a_class_that_is_only_generated_counts_against_the_mean():
    counts = labels.confusion(_map([0, 3]), _map([0, 0]), 4)
    assert labels.mean_iou(counts) == (1 / 2 + 0) / 2


def test_l1_is_that_of_the_maps_as_the_networks_see_them():
    kind = Kind(4, labels=True)
    ours, theirs = (codec.to_unit_range(image, kind).numpy() for image in (GENERATED, REFERENCE))
    counts = labels.confusion(GENERATED, REFERENCE, 4)
    assert labels.l1(counts) == pytest.approx(np.abs(ours - theirs).mean(), rel=1e-6)  # theirs is float32
    # Of two classes, the scale of images: all wrong is black against white.
    assert labels.l1(labels.confusion(_map([0, 1]), _map([1, 0]), 2)) == 2
    assert paired.l1(_map([0, 255]), _map([255, 0])) == 2


def test_a_batch_is_its_images_and_matrices_add_up():
    rng = np.random.default_rng(0)
    generated, reference = rng.integers(0, 7, (2, 3, 5, 6, 9, 1)).astype(np.uint8)
    counts = labels.confusion(generated, reference, 7)
    assert counts.shape == (3, 5, 7, 7)
    np.testing.assert_array_equal(counts[1, 2], labels.confusion(generated[1, 2], reference[1, 2], 7))
    whole = labels.confusion(generated.reshape(-1, 9, 1), reference.reshape(-1, 9, 1), 7)
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), whole)
    assert labels.mean_iou(counts).shape == labels.pixel_accuracy(counts).shape == labels.l1(counts).shape == (3, 5)
    expected = np.mean([(g == r).mean() for g, r in zip(generated[1], reference[1], strict=True)])
    assert labels.pixel_accuracy(counts)[1].mean() == pytest.approx(expected, rel=1e-12)


def test_what_is_no_label_map_is_an_error_that_says_what():
    with pytest.raises(UserError, match=r"Received generated: float32 \(2, 4, 1\)\. p2p_keras\.images\.codec\.from_"):
        labels.confusion(GENERATED.astype(np.float32), REFERENCE, 4)
    with pytest.raises(UserError, match=r"Received reference: uint8 \(2, 4, 3\)"):
        labels.confusion(GENERATED, REFERENCE.repeat(3, axis=-1), 4)
    with pytest.raises(UserError, match=r"With 2 classes the highest is 1. Received generated: 2"):
        labels.confusion(GENERATED, REFERENCE, 2)
    with pytest.raises(UserError, match=r"generated \(1, 4, 1\), reference \(2, 4, 1\)"):
        labels.confusion(GENERATED[:1], REFERENCE, 4)
