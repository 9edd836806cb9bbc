"""Sheets of many images for the eye, and the colours of classes. No TensorFlow."""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def grid(rows: list[list[np.ndarray]], titles: list[str], captions: list[str] | None = None) -> np.ndarray:
    """Lays images out in rows under column titles; small ones are enlarged by a whole factor, to be seen at all.

    Args:
        rows: Equal-sized uint8 images (H, W, 3); every row as long as `titles`.
        titles: One a column.
        captions: A line of text under each row, if there are any.

    Returns:
        uint8 (rows * (H + gap) + header, columns * (W + gap) + gap, 3), white between the images. With captions each
        row is a header's height taller.
    """
    zoom = max(1, 128 // rows[0][0].shape[1])
    rows = [[image.repeat(zoom, axis=0).repeat(zoom, axis=1) for image in row] for row in rows]
    height, width, _ = rows[0][0].shape
    gap, header = max(2, width // 64), 20
    pitch = height + gap + (header if captions else 0)
    sheet = Image.new("RGB", (len(titles) * (width + gap) + gap, header + len(rows) * pitch), color=(255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    text = {"fill": (0, 0, 0), "font": ImageFont.load_default(12)}
    for column, title in enumerate(titles):
        left = gap + column * (width + gap)
        draw.text((left + width // 2, header // 2), title, anchor="mm", **text)
        for row, images in enumerate(rows):
            sheet.paste(Image.fromarray(images[column]), (left, header + row * pitch))
    for row, caption in enumerate(captions or []):
        draw.text((gap, header + row * pitch + height + header // 2), caption, anchor="lm", **text)
    return np.asarray(sheet)


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
