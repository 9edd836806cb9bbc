"""Pairs whose two sides are shifted against each other, or mirrored: a look at some, before a night is spent on them.

Where both sides show the same outlines, as label maps and photos do, phase correlation finds by how much one side lies
beside the other (Kuglin and Hines, 1975; here of outlines, the logarithm of gradients, and smoothed: which side of an
edge is brighter, and by how much, does not count). Where they do not, as with aerial and street views, it finds
nothing: no pair is clear, and nothing is said. No TensorFlow.
"""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from p2p_keras.data.pairs import Files, Pairs
from p2p_keras.images.files import eight_bits
from p2p_keras.system.urls import open_file

SAMPLE = 64  # pairs that are looked at
CELLS = 128  # an image is looked at as so many cells squared
_MOST_PIXELS = 40_000_000  # of all that are looked at: as PNG well over a second to decode
_DRAFT = 4  # times as fast at least is a JPEG, of which only so many are decoded as are needed

_REACH = CELLS // 4  # cells; a larger shift is not looked for
_TOLERANCE = 2  # cells; outlines drawn by hand are not more exact
# Of a correlation surface's peak, in its standard deviations. Measured: in 506 facades 6 to 17 (eight of ten pairs), of
# photos with the labels of others at most 9; in 1,200 pairs of the drawn town at most 9.1.
_CLEAR = 10.0
_ABOVE_CHANCE = 1.5  # times what nine of ten pairs reach that do not belong together
_ABOVE_OTHERS = 1.5  # times the peak without shift or mirror: a facade repeats itself, and is nearly symmetric
_LEAST_PAIRS, _LEAST_SHARE = 3, 0.2  # that are clear, else the sides of this data set show different things


class Shift(NamedTuple):
    """Where the second side of a pair lies, seen from the first.

    Attributes:
        pair: Number of the pair.
        right: By so much of the width it lies farther right; negative: left.
        down: By so much of the height it lies lower; negative: higher.
        mirrored: It is the mirror image, left for right. Then no shift is told.
    """

    pair: int
    right: float
    down: float
    mirrored: bool = False


def find_shifts(sides: np.ndarray) -> list[Shift]:
    """Finds the pairs whose sides show the same, shifted by three to 32 of 128 cells, or mirrored.

    Of 400 facades shifted by 10 of 256 pixels it found 43 %, 93 % of these within 2 pixels; of mirrored ones 29 %, and
    took 5 % for shifted; of the 506 as they are it named none. So silence about a single pair says nothing.

    Args:
        sides: The two sides of each pair in grey, any levels, (N, 2, CELLS, CELLS).

    Returns:
        The shifted and mirrored ones; none if too few pairs show the same outlines on both sides.
    """
    if len(sides) < _LEAST_PAIRS:
        return []
    first, second, turned = (
        np.stack([_outlines(side) for side in group]) for group in (sides[:, 0], sides[:, 1], sides[:, 1, :, ::-1])
    )
    chance = [_surface(*pair).max() for pair in zip(first, np.roll(second, len(sides) // 2, axis=0), strict=True)]
    clear = max(_CLEAR, _ABOVE_CHANCE * float(np.quantile(chance, 0.9)))
    found, seen = [], 0
    for number in range(len(sides)):
        surface = _surface(first[number], second[number])
        direct, mirrored = surface.max(), _surface(first[number], turned[number]).max()
        seen += max(direct, mirrored) > clear
        if mirrored > max(clear, _ABOVE_OTHERS * direct):
            found.append(Shift(number, 0.0, 0.0, mirrored=True))
        elif direct > max(clear, _ABOVE_OTHERS * _at_rest(surface)):
            down, right = _peak(surface)
            found.append(Shift(number, right / CELLS, down / CELLS))
    return found if seen >= max(_LEAST_PAIRS, _LEAST_SHARE * len(sides)) else []


def read_sides(files: Files, panel_count: int, panels: tuple[int, int]) -> tuple[list[int], np.ndarray, list[tuple]]:
    """Reads a sample of pairs, spread evenly over all of them; of large images fewer, the first of these.

    Args:
        files: All pairs.
        panel_count: Panels of a file that holds all of them.
        panels: Numbers of the two sides, from 0 at the left.

    Returns:
        The pairs' numbers; their two sides as `find_shifts` takes them; width and height of the second side. What
        cannot be read is left out.
    """
    numbers = sorted({i * len(files) // SAMPLE for i in range(SAMPLE)}) if len(files) > SAMPLE else range(len(files))
    read, sides, sizes, pixels = [], [], [], 0
    for number in numbers:
        row = files.take([number])
        try:
            opened = [_open(row, panel) for panel in (panels if len(row.paths[0]) > 1 else (0,))]
            pixels += sum(image.width * image.height // (_DRAFT if image.format == "JPEG" else 1) for image in opened)
            if pixels > _MOST_PIXELS:
                break
            size, two = _two_sides(opened, panel_count, panels)
        except (OSError, ValueError, SyntaxError):  # whoever checks the files names it
            continue
        read.append(number)
        sides.append(two)
        sizes.append(size)
    return read, np.reshape(np.array(sides, np.float32), (-1, 2, CELLS, CELLS)), sizes


class Misaligned(NamedTuple):
    """A pair, and where its second side lies, seen from the first."""

    pair: str
    right: int  # pixels of the second side; negative: left
    down: int
    mirrored: bool

    @property
    def in_words(self) -> str:
        """`x.jpg by 10 pixels to the right and 3 down`."""
        if self.mirrored:
            return f"{self.pair} mirrored"
        across = f"{abs(self.right)} to the {'right' if self.right > 0 else 'left'}" if self.right else ""
        along = f"{abs(self.down)} {'down' if self.down > 0 else 'up'}" if self.down else ""
        return f"{self.pair} by {' and '.join(filter(None, (across, along)))}"


def find_misaligned(
    files: Files, names: Sequence[str], panel_count: int, panels: tuple[int, int]
) -> tuple[int, list[Misaligned]]:
    """Looks at a sample of pairs.

    Args:
        files: All pairs.
        names: Of each.
        panel_count: Panels of a file that holds all of them.
        panels: Numbers of the first and the second side, from 0 at the left.

    Returns:
        How many it looked at, and those that seem shifted or mirrored.
    """
    numbers, sides, sizes = read_sides(files, panel_count, panels)
    found = []
    for shift in find_shifts(sides):
        width, height = sizes[shift.pair]
        right, down = round(shift.right * width), round(shift.down * height)
        found.append(Misaligned(names[numbers[shift.pair]], right, down, shift.mirrored))
    return len(numbers), found


def in_one_line(looked_at: int, found: Sequence[Misaligned], sides: tuple[str, str]) -> str:
    """What was found, the first few by name; `sides` are the names of the first and the second."""
    told = ", ".join(one.in_words for one in found[:3]) + (", ..." if len(found) > 3 else "")
    seem = "pair seems" if len(found) == 1 else "pairs seem"
    return f"{len(found)} {seem} misaligned, of {looked_at} looked at; {sides[1]} against {sides[0]}, in pixels: {told}"


def report_misaligned(pairs: Pairs, panels: tuple[int, int], report: Callable[[str], None]) -> None:
    """Looks at a sample of the training pairs of a run; says in one line what seems shifted or mirrored, if anything.

    Args:
        pairs: Of which some are looked at.
        panels: Numbers of the input and the target panel.
        report: Called with the line.
    """
    looked_at, found = find_misaligned(pairs.files("train"), pairs.splits["train"], pairs.panel_count, panels)
    if found:
        report(in_one_line(looked_at, found, ("input", "target")))


def _open(row: Files, panel: int) -> Image.Image:
    with open_file(row.paths[0][panel]) as file:
        if row.offsets is None:
            return Image.open(io.BytesIO(file.read()))
        file.seek(row.offsets[0] + 12)  # after the record's length and its checksum
        return Image.open(io.BytesIO(file.read(row.sizes[0])))


def _two_sides(opened: list[Image.Image], panel_count: int, panels: tuple[int, int]) -> tuple[tuple, list[np.ndarray]]:
    """Width and height of the second, and both as cells."""
    if len(opened) == 2:
        return opened[1].size, [_to_cells(image) for image in opened]
    (image,) = opened
    size = (image.width // panel_count, image.height)
    image.draft("L", (2 * CELLS * panel_count, 2 * CELLS))  # a large JPEG is decoded at a half, a quarter or an eighth
    width = image.width / panel_count
    boxes = [(round(panel * width), 0, round((panel + 1) * width), image.height) for panel in panels]
    return size, [_to_cells(image.crop(box)) for box in boxes]


def _to_cells(image: Image.Image) -> np.ndarray:
    image.draft("L", (2 * CELLS, 2 * CELLS))
    image = eight_bits(image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")  # of a palette its colours
    return np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX).convert("L"), np.float32)


_WINDOW = np.outer(*[np.hanning(CELLS + 2)[1:-1]] * 2)
_FREQUENCIES = np.fft.fftfreq(CELLS)[:, None] ** 2 + np.fft.rfftfreq(CELLS) ** 2
_SMOOTHING = np.exp(-2 * np.pi**2 * _FREQUENCIES) * (_FREQUENCIES > 0)  # by a Gaussian whose sigma is a cell
_INDICES = np.r_[0 : _REACH + 1, -_REACH:0]  # of a surface that reaches from 0 on, and ends before it


def _outlines(side: np.ndarray) -> np.ndarray:
    """(CELLS, CELLS) in grey -> the spectrum of its outlines, windowed."""
    outlines = np.log1p(np.hypot(*np.gradient(side)))
    return np.fft.rfft2((outlines - np.average(outlines, weights=_WINDOW)) * _WINDOW)


def _surface(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well two outlines agree at each shift of the second: (2 _REACH + 1) squared, in standard deviations."""
    cross = np.conj(first) * second
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9) * _SMOOTHING, (CELLS, CELLS))
    return (surface / max(surface.std(), 1e-12))[np.ix_(_INDICES, _INDICES)]


def _peak(surface: np.ndarray) -> tuple[float, float]:
    """Where it is highest, in cells, to a fraction: the centre of what is around it. (down, right)."""
    top, left = np.unravel_index(surface.argmax(), surface.shape)
    rows, columns = (top + np.arange(-1, 2)) % len(surface), (left + np.arange(-1, 2)) % len(surface)
    around = np.maximum(surface[np.ix_(rows, columns)], 0)
    offset = np.arange(-1, 2)
    down, right = (around.sum(1) @ offset / around.sum(), around.sum(0) @ offset / around.sum())
    return float(_INDICES[top] + down), float(_INDICES[left] + right)


def _at_rest(surface: np.ndarray) -> float:
    """The highest near no shift at all."""
    size = 2 * _TOLERANCE + 1
    return float(np.roll(surface, (_TOLERANCE, _TOLERANCE), (0, 1))[:size, :size].max())
