"""Each illness of pictures is drawn, at a known distance from its threshold."""

import numpy as np
import pytest

from p2p_keras.doctor import pictures
from p2p_keras.doctor.outcomes import Finding, Skipped
from p2p_keras.doctor.pictures import (
    check_alike,
    check_checkerboard,
    check_crops,
    check_over_fitting,
    check_related,
    check_statistics,
)


def _photos(count: int = 12, size: int = 64) -> np.ndarray:
    """Smooth random pictures with as much detail at all scales as photos: amplitude falls as 1 / frequency."""
    rng = np.random.default_rng(0)
    down, across = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    falling = 1 / np.maximum(np.hypot(down, across), 1 / size)
    noise = np.fft.fft2(rng.normal(size=(count, size, size, 3)), axes=(1, 2))
    images = np.fft.ifft2(noise * falling[..., None], axes=(1, 2)).real
    return (0.3 * images / images.std()).clip(-1, 1).astype(np.float32)


def _around_mean(images: np.ndarray, share: float) -> np.ndarray:
    """The same, deviating from their mean by so much less: their deviation is exactly that share."""
    mean = images.mean(axis=0)
    return mean + share * (images - mean)


@pytest.mark.parametrize(("share", "found"), [(1.0, False), (0.16, False), (0.14, True), (0.0, True)])
def test_outputs_alike(share, found):
    photos = _photos()
    outcome = check_alike(_around_mean(photos, share), photos)
    assert isinstance(outcome, Finding) == found
    if found:  # the numbers are those of the arrays
        deviation = np.sqrt(photos.var(axis=0).mean())
        assert f"by {share * deviation:.3f}, their targets by {deviation:.3f}" in outcome.evidence


def test_pictures_of_other_targets_are_found_though_they_differ():
    photos = _photos()
    strangers = np.roll(photos, 9, axis=0)
    mixed = 0.5 * strangers + 0.5 * photos.mean(axis=0)
    assert check_alike(mixed, photos) is None
    found = check_related(mixed, photos)
    assert isinstance(found, Finding)
    assert "no more like their own targets" in found.evidence
    assert check_related(0.2 * photos + 0.8 * mixed, photos) is None
    assert isinstance(check_related(mixed[:7], photos[:7]), Skipped)


@pytest.mark.parametrize("contrast", [0.8, 1.0, 1.2])
def test_sharp_pictures_that_have_nothing_to_do_with_their_targets_are_found(contrast):
    photos = _photos(24)
    assert isinstance(check_related(contrast * photos[::-1], photos), Finding)


def test_of_targets_that_are_nearly_one_picture_nobody_can_say_whose_they_are():
    """As the frames of a clip: each fits the others as well as its own, also where the generator knows what it does."""
    photos = _photos()
    clip = photos[:1] + _around_mean(photos, 0.1)
    drawn = 0.5 * clip
    assert np.abs(drawn - clip).mean() > 0.98 * np.abs(drawn - np.roll(clip, -2, axis=0)).mean()
    assert isinstance(check_related(drawn, clip), Skipped)


def test_outputs_alike_where_the_targets_are_or_there_are_few_says_nothing():
    photos = _photos()
    assert isinstance(check_alike(photos, _around_mean(photos, 0.0)), Skipped)
    assert isinstance(check_alike(photos[:7] * 0, photos[:7]), Skipped)


@pytest.mark.parametrize(("period", "amplitude"), [(2, 0.05), (4, 0.1)])
def test_a_checkerboard_is_found_and_one_of_the_targets_own_is_not(period, amplitude):
    photos = _photos()
    rows, columns = np.indices((64, 64))
    grid = amplitude * np.cos(2 * np.pi * rows / period) * np.cos(2 * np.pi * columns / period)
    grid = grid[..., None] + amplitude * np.cos(2 * np.pi * rows / period)[..., None]
    grid = grid + amplitude * np.cos(2 * np.pi * columns / period)[..., None]
    outcome = check_checkerboard(photos + grid, photos)
    assert isinstance(outcome, Finding)
    assert check_checkerboard(photos, photos) is None
    assert check_checkerboard(photos + grid / 50, photos) is None  # 34 dB less
    assert check_checkerboard(photos + grid, photos + grid) is None
    assert isinstance(check_checkerboard(photos[:, :32, :32], photos[:, :32, :32]), Skipped)
    assert isinstance(check_checkerboard(photos[:3], photos[:3]), Skipped)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda images: images, False),
        (lambda images: images + 0.09, False),
        (lambda images: images + np.array([0, 0, 0.11]), True),  # one colour
        (lambda images: images - 0.11, True),
        (lambda images: 1.2 * images, False),
        (lambda images: 1.3 * images, True),
        (lambda images: images / 1.3, True),
    ],
)
def test_another_colour_or_contrast_at_inference(change, found):
    photos = _photos()
    photos -= photos.mean(axis=(1, 2), keepdims=True)  # so that scaling moves no colour
    outcome = check_statistics(change(photos), photos)
    assert isinstance(outcome, Finding) == found


def test_crops_mislead_where_whole_images_are_far_worse_beyond_chance():
    cropped = np.full(16, 0.08) + 0.01 * np.resize([1, -1], 16)
    found = check_crops(1.5 * cropped, cropped)
    assert isinstance(found, Finding)
    assert "is 0.120 as at inference, and 0.080" in found.evidence
    assert check_crops(1.3 * cropped, cropped) is None
    scattered = np.full(16, 0.08) + 0.07 * np.resize([1, -1], 16)
    assert check_crops(1.5 * scattered, scattered) is None
    assert isinstance(check_crops(1.5 * cropped[:7], cropped[:7]), Skipped)


def test_over_fitting_is_a_ratio_beyond_chance():
    train = np.full(16, 0.2) + 0.01 * np.resize([1, -1], 16)
    assert isinstance(check_over_fitting(train, 1.6 * train, "val"), Finding)
    assert (
        "0.200 on 16 training pairs and 0.320 on those of val" in check_over_fitting(train, 1.6 * train, "val").evidence
    )
    assert check_over_fitting(train, 1.4 * train, "val") is None
    assert check_over_fitting(train, 3.4 * train, "val", cropped=False) is None
    assert isinstance(check_over_fitting(train, 3.6 * train, "val", cropped=False), Finding)
    assert check_over_fitting(1.6 * train, train, "val") is None
    # 8 pairs of which one is far off: twice the mean, at a standard error of 0.2.
    assert check_over_fitting(train, np.array([0.2] * 7 + [1.8]), "val") is None
    assert isinstance(check_over_fitting(train, 1.6 * train[: pictures.FEWEST - 1], "val"), Skipped)
