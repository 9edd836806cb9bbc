"""One image file, opened and decoded if it is as it should be."""

import contextlib
import os
import stat
from pathlib import Path

from PIL import Image

from p2p_keras.images import png, tiff
from p2p_keras.images.files import PNG_START, orientation_of
from p2p_keras.system.limits import MAX_PIXELS, MAX_SCANS

# What TensorFlow and Pillow decode alike: 8 bits a channel or less, and grey of 16.
_MODES = {"RGB", "L", "P", "RGBA", "LA", "1", "I;16", "I;16B", "I"}
FORMATS = ("JPEG", "PNG")


class ImageError(Exception):
    """A file that cannot be used; the message says why in a few words."""


def open_image(
    path: str, panel_count: int = 1, rotated: bool = False, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Opens and decodes an image file that is as it should be.

    The size is read from the header and refused before anything is decoded. TensorFlow ignores the EXIF orientation, so
    a rotated image would be trained on lying on its side; `rotated` is for readers that do turn it.

    Args:
        path: The file.
        panel_count: Its width must be divisible by.
        rotated: Whether an orientation other than 1 is allowed. A TIFF is returned upright.
        formats: Those allowed, by Pillow's names.

    Raises:
        ImageError: It is not.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError("it is not a file")  # but a pipe, for one, that would be waited for
        with contextlib.ExitStack() as opened:
            image = opened.enter_context(Image.open(path))
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}x{height} is more than {MAX_PIXELS // 10**6} megapixels")
            if image.format not in formats:
                raise ImageError(f"it is a {image.format}, not a {', '.join(formats[:-1])} or {formats[-1]}")
            if problem := _problem_of_frames(image) or tiff.problem(image) or _problem_of_form(path, image.format):
                raise ImageError(problem)
            if image.mode not in _MODES:
                raise ImageError(f"its pixels are {image.mode}; RGB or grey is needed")
            if width % panel_count:
                raise ImageError(f"its width {width} is not divisible by {panel_count} panels")
            if not rotated and orientation_of(image) != 1:
                raise ImageError("its EXIF orientation is not 1; rotate the pixels and remove the tag")
            image.load()
            if image.format == "PNG" and (problem := png.problem(Path(path).read_bytes())):
                raise ImageError(problem)
            opened.pop_all()
            return image
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has more than {MAX_PIXELS // 10**6} megapixels") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(_unidentified(path)) from error
    except FileNotFoundError as error:
        raise ImageError("it is not there") from error
    except (OSError, SyntaxError, ValueError, TypeError) as error:  # Pillow's decoders raise all of them
        raise ImageError(f"it cannot be decoded ({error})") from error


def _problem_of_frames(image: Image.Image) -> str | None:
    """Of an animation. An animated PNG is what other readers see of it, its first image."""
    frames = getattr(image, "n_frames", 1) if image.format == "WEBP" else 1
    return f"it is an animation of {frames} images; one is needed" if frames > 1 else None


def _problem_of_form(path: str, form: str) -> str | None:
    """Of a PNG whose size is not where it is looked for, or a JPEG that takes far longer than its pixels."""
    if form not in ("PNG", "JPEG"):
        return None
    with open(path, "rb") as file:
        if form == "PNG":
            return None if file.read(len(PNG_START)) == PNG_START else "its header is not the first chunk"
        scans = file.read().count(b"\xff\xda")
    return f"it is a JPEG of more than {MAX_SCANS:,} scans" if scans > MAX_SCANS else None


def _unidentified(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(4)
    if head in tiff.HEADS:
        return "it is damaged, or a TIFF of a kind that cannot be read; save it as 8 or 16 bits of grey or RGB"
    return "it is not an image" if head else "it is empty"
