"""Picture files, and sheets of many pictures for the eye. No TensorFlow."""

import collections
import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont


def grid(rows: list[list[np.ndarray]], titles: list[str], captions: list[str] | None = None) -> np.ndarray:
    """Lays pictures out in rows under column titles; small ones are enlarged by a whole factor, to be seen at all.

    Args:
        rows: Equal-sized uint8 pictures (H, W, 3); every row as long as `titles`.
        titles: One a column.
        captions: A line of text under each row, if there are any.

    Returns:
        uint8 (rows * (H + gap) + header, columns * (W + gap) + gap, 3), white between the pictures. With captions each
        row is a header's height taller.
    """
    zoom = max(1, 128 // rows[0][0].shape[1])
    rows = [[picture.repeat(zoom, axis=0).repeat(zoom, axis=1) for picture in row] for row in rows]
    height, width, _ = rows[0][0].shape
    gap, header = max(2, width // 64), 20
    pitch = height + gap + (header if captions else 0)
    sheet = Image.new("RGB", (len(titles) * (width + gap) + gap, header + len(rows) * pitch), color=(255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    text = {"fill": (0, 0, 0), "font": ImageFont.load_default(12)}
    for column, title in enumerate(titles):
        left = gap + column * (width + gap)
        draw.text((left + width // 2, header // 2), title, anchor="mm", **text)
        for row, pictures in enumerate(rows):
            sheet.paste(Image.fromarray(pictures[column]), (left, header + row * pitch))
    for row, caption in enumerate(captions or []):
        draw.text((gap, header + row * pitch + height + header // 2), caption, anchor="lm", **text)
    return np.asarray(sheet)


def file_names(sources: Sequence[str], suffix: str) -> list[str]:
    """Names for pictures made from sources, `street/a.jpg` -> `street/a.png`; where two would be one, `a.jpg.png`."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in sources]
    times = collections.Counter(stems)
    return [f"{name if times[stem] > 1 else stem}{suffix}" for name, stem in zip(sources, stems, strict=True)]


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright, as is a picture that says nothing."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits by its upper 8 bits, which Pillow's own conversion clips; any other as it is."""
    if image.mode not in ("I;16", "I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Turns (H, W, C) as its EXIF orientation says, 1 to 8: the array that `ImageOps.exif_transpose` gives."""
    if orientation in (5, 6, 7, 8):  # lying on its side
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return picture


@functools.cache
def class_colours() -> np.ndarray:
    """The colours in which classes are shown: uint8 (256, 3), class 0 black, class 1 white, all different.

    Each is the one of 16 x 16 x 16 colours that is farthest from all before it, so that the first K are well apart
    whatever K is. The distance is "redmean", a weighted RGB distance near to the eye's (compuphase.com/cmetric.htm), in
    integers, so that no rounding can change the colours.
    """
    levels = np.arange(0, 256, 17)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    colours, nearest = [np.zeros(3, np.int64)], np.full(len(candidates), np.iinfo(np.int64).max)
    for _ in range(255):
        red, green, blue = (candidates - colours[-1]).T
        twice_mean = candidates[:, 0] + colours[-1][0]
        distance = (1024 + twice_mean) * red**2 + 2048 * green**2 + (1534 - twice_mean) * blue**2
        nearest = np.minimum(nearest, distance)
        colours.append(candidates[np.argmax(nearest)])
    return np.array(colours, np.uint8)


def palette_of(path: str | Path) -> np.ndarray | None:
    """The colours of an indexed PNG, uint8 (256, 3), black where it has none; None of any other file."""
    with Image.open(path) as image:
        if image.mode != "P":
            return None
        found = np.frombuffer(bytes(image.getpalette()), np.uint8).reshape(-1, 3)
    return np.concatenate([found, np.zeros((256 - len(found), 3), np.uint8)])


def encode_png(image: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """PNG file of a uint8 (H, W, C) picture: C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    With a palette, uint8 (256, 3), the numbers of (H, W, 1) are its entries, and the file is an indexed one.
    """
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if palette is not None:
        shown.putpalette(palette.tobytes())  # keeps the numbers, and makes them entries
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, C) picture, see `encode_png`; the final name appears only when the file is whole."""
    write_whole(path, encode_png(image))


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 1 or 3) picture as JPEG of quality 95, colour at full resolution; as `write_png` else."""
    buffer = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    shown.save(buffer, format="JPEG", quality=95, subsampling=0)
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its name, and gives it the name when it is whole."""
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
