"""Image files by way of Pillow: what is in them, and how they are written. No TensorFlow."""

import collections
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image

from p2p_keras.system.files import write_whole

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# How a PNG must begin: with its header, for that is where its size is looked for. libpng takes other chunks before it.
PNG_START = PNG_SIGNATURE + b"\0\0\0\rIHDR"


def file_names(sources: Sequence[str], suffix: str) -> list[str]:
    """Names for images made from sources, `street/a.jpg` -> `street/a.png`; where two would be one, `a.jpg.png`."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in sources]
    times = collections.Counter(stems)
    return [f"{name if times[stem] > 1 else stem}{suffix}" for name, stem in zip(sources, stems, strict=True)]


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright, as is an image that says nothing."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits by its upper 8 bits, which Pillow's own conversion clips; any other as it is."""
    if image.mode not in ("I;16", "I;16B", "I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))


def stored_bits(head: bytes) -> int:
    """Bits of each number in an image file, as its first 25 bytes say: 1, 2, 4, 8 or 16 of a PNG, 8 of a JPEG.

    Pillow does not tell: it opens grey of 2 and 4 bits as if it had 8, and so colours of 16.
    """
    return head[24] if head.startswith(b"\x89PNG") and len(head) > 24 else 8


def class_numbers(image: Image.Image, bits: int) -> np.ndarray:
    """The classes that a label map holds, uint8 (H, W): the numbers in the file, of an indexed PNG its entries.

    Args:
        image: As Pillow opened it.
        bits: What `stored_bits` says of its file.

    Raises:
        ValueError: Files like this cannot hold classes; says why in a few words.
    """
    if image.mode not in ("1", "L", "P"):
        raise ValueError(f"its pixels are {image.mode}; a label map is an indexed or grey PNG of class numbers")
    if image.format != "PNG":
        raise ValueError(f"it is a {image.format}; a label map is a PNG, for JPEG changes class numbers")
    numbers = np.asarray(image).astype(np.uint8)
    if image.mode == "L" and bits < 8:
        numbers //= 255 // (2**bits - 1)  # Pillow spreads grey levels over 0 to 255, so that 3 of 2 bits becomes 255
    return numbers


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns (H, W, C) as its EXIF orientation says, 1 to 8: the array that `ImageOps.exif_transpose` gives."""
    if orientation in (5, 6, 7, 8):  # lying on its side
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def palette_of(path: str | Path) -> np.ndarray | None:
    """The colours of an indexed PNG, uint8 (256, 3), black where it has none; None of any other file."""
    with Image.open(path) as image:
        if image.mode != "P":
            return None
        found = np.frombuffer(bytes(image.getpalette()), np.uint8).reshape(-1, 3)
    return np.concatenate([found, np.zeros((256 - len(found), 3), np.uint8)])


def encode_png(image: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """PNG file of a uint8 (H, W, C) image: C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    With a palette, uint8 (256, 3), the numbers of (H, W, 1) are its entries, and the file is an indexed one.
    """
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if palette is not None:
        shown.putpalette(palette.tobytes())  # keeps the numbers, and makes them entries
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, C) image, see `encode_png`; the final name appears only when the file is whole."""
    write_whole(path, encode_png(image), sync=False)


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 1 or 3) image as JPEG of quality 95, colour at full resolution; as `write_png` else."""
    buffer = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    shown.save(buffer, format="JPEG", quality=95, subsampling=0)
    write_whole(path, buffer.getvalue(), sync=False)
