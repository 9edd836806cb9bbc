"""Pictures inside the page: within their budget, spread evenly, label maps exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p_keras.images.sheets import class_colours
from p2p_keras.report.pictures import embed, embed_evenly, spread
from report.scenes import decoded


def _noise(count: int, size: int = 64) -> list[np.ndarray]:
    rng = np.random.RandomState(0)
    return [rng.randint(0, 256, (size, size, 3)).astype(np.uint8) for _ in range(count)]


def test_label_maps_come_back_exactly():
    maps = [class_colours()[np.random.RandomState(i).randint(0, 12, (16, 24))] for i in range(3)]
    for url, drawn in zip(embed(maps, 10**6, [True] * 3), maps, strict=True):
        np.testing.assert_array_equal(decoded(url), drawn)


def test_images_come_back_nearly():
    """WebP halves the resolution of colour, so a smooth picture; its quality 85 leaves a few levels."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 128)], -1)
    (url,) = embed([picture.astype(np.uint8)], 10**6)
    assert np.abs(decoded(url).astype(int) - picture).max() < 24


@pytest.mark.parametrize("budget", [30_000, 10_000, 1_000])
def test_they_stay_within_the_budget(budget):
    urls = embed(_noise(4), budget, [False, False, True, True])
    assert len(urls) == 4
    assert sum(map(len, urls)) <= budget


def test_what_cannot_be_within_it_is_a_pixel_each():
    urls = embed(_noise(2), 10)
    assert [decoded(url).shape for url in urls] == [(1, 1, 3)] * 2


@given(st.integers(0, 200), st.integers(1, 200))
def test_spread_takes_the_first_the_last_and_even_steps_between(count, most):
    numbers = spread(count, most)
    assert len(numbers) == min(count, most)
    assert numbers == sorted(set(numbers))
    if count:
        assert numbers[-1] == count - 1
    if len(numbers) > 1:
        gaps = np.diff(numbers)
        assert numbers[0] == 0
        assert gaps.max() - gaps.min() <= 1


def test_a_long_series_is_thinned_to_its_budget():
    sheets = _noise(20)
    one = len(embed(sheets[:1], 10**6)[0])
    numbers, urls = embed_evenly(20, sheets.__getitem__, 6 * one)
    assert sum(map(len, urls)) <= 6 * one
    assert (numbers[0], numbers[-1], len(numbers)) == (0, 19, len(urls))
    assert 4 <= len(urls) <= 6  # noise is of nearly equal size, so as many as there is room for, or one or two fewer


def test_a_series_that_fits_is_whole_but_for_what_cannot_be_read():
    sheets = [*_noise(3), None]
    numbers, urls = embed_evenly(4, sheets.__getitem__, 10**6)
    assert numbers == [0, 1, 2]
    assert len(urls) == 3
    assert embed_evenly(0, sheets.__getitem__, 10**6) == ([], [])
