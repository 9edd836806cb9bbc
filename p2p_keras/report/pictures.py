"""Pictures as WebP inside the page, as fine as the bytes allow that are given to them. No TensorFlow."""

import base64
import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

LARGEST = 16383  # pixels of a side, of WebP
QUALITIES = (85, 70, 50)  # of WebP, before the pictures are made smaller


def embed(pictures: Sequence[np.ndarray], budget: int, exact: Sequence[bool] = ()) -> list[str]:
    """Encodes pictures as `data:` URLs that together stay within a number of bytes.

    All get the same quality: the highest of `QUALITIES` that fits, then half the size, a quarter, and so on.

    Args:
        pictures: uint8 (H, W, 3) each, of any sizes up to `LARGEST`.
        budget: Bytes of all URLs together.
        exact: For each picture whether it is encoded without loss, as label maps are; by default none is.
    """
    exact = exact or [False] * len(pictures)
    largest = max((max(picture.shape[:2]) for picture in pictures), default=1)
    shrink = 1
    while True:
        within = budget if shrink < largest else math.inf  # a pixel each: it will not get less
        for quality in QUALITIES:
            urls = _encode_within(pictures, exact, quality, shrink, within)
            if urls is not None:
                return urls
        shrink *= 2


def embed_evenly(count: int, load: Callable[[int], np.ndarray | None], budget: int) -> tuple[list[int], list[str]]:
    """Encodes as many of a series of pictures as a budget allows, spread evenly over the series, the last one always.

    Args:
        count: Pictures in the series.
        load: Number -> uint8 (H, W, 3), or None of one that cannot be read.
        budget: Bytes of all URLs together.

    Returns:
        Numbers of the pictures taken, ascending, and their URLs.
    """
    known: dict[int, str | None] = {}

    def encoded(number: int) -> str | None:
        if number not in known:
            picture = load(number)
            known[number] = None if picture is None else embed([picture], budget)[0]
        return known[number]

    numbers = list(range(count))
    while True:
        total, fits = 0, True
        for number in reversed(numbers):
            total += len(encoded(number) or "")
            if total > budget:
                fits = False
                break
        if fits:
            break
        done = max(1, len(numbers) - numbers.index(number) - 1)  # so many fitted, counted from the end
        numbers = spread(count, min(done, len(numbers) - 1))
    taken = [number for number in numbers if encoded(number)]
    return taken, [known[number] for number in taken]


def spread(count: int, most: int) -> list[int]:
    """Numbers below `count`, at most so many, evenly, with the first and the last one; of one alone the last."""
    if count <= most:
        return list(range(count))
    if most <= 1:
        return [count - 1]
    return [i * (count - 1) // (most - 1) for i in range(most)]


def _encode_within(
    pictures: Sequence[np.ndarray], exact: Sequence[bool], quality: int, shrink: int, budget: float
) -> list[str] | None:
    urls, total = [], 0
    for picture, lossless in zip(pictures, exact, strict=True):
        urls.append(_encode(picture, lossless, quality, shrink))
        total += len(urls[-1])
        if total > budget:
            return None
    return urls


def _encode(picture: np.ndarray, lossless: bool, quality: int, shrink: int) -> str:
    shown = Image.fromarray(picture)
    if shrink > 1:
        size = [max(1, side // shrink) for side in shown.size]
        shown = shown.resize(size, Image.Resampling.NEAREST if lossless else Image.Resampling.BOX)
    buffer = io.BytesIO()
    shown.save(buffer, format="WEBP", lossless=lossless, quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
