"""Picture files, and sheets of many pictures for the eye. No TensorFlow."""

import collections
import io
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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


def encode_png(image: np.ndarray) -> bytes:
    """PNG file of a uint8 (H, W, 3) picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 3) picture; the final name appears only when the file is whole."""
    _write_whole(path, encode_png(image))


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 3) picture as JPEG of quality 95, colour at full resolution; otherwise as `write_png`."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    _write_whole(path, buffer.getvalue())


def _write_whole(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
