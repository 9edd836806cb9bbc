"""One pair: read, checked, resized, stacked side by side, written whole."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from p2p_keras.data.check import bit_depth
from p2p_keras.data.manifest import Entry
from p2p_keras.data.picture import FORMATS, ImageError, open_image
from p2p_keras.data.prepare.sources import Source
from p2p_keras.images import tiff
from p2p_keras.images.files import eight_bits, orientation_of
from p2p_keras.sizes import Size
from p2p_keras.system.files import write_whole
from p2p_keras.system.limits import MAX_PIXELS
from p2p_keras.system.urls import file_size

FILTER = "bicubic, antialiased (Pillow)"
NATIVE = "native"  # the panels keep the size that they have
_FORMATS = (*FORMATS, "WEBP", "BMP", "TIFF")
_JPEGS_LONGEST = 65_500  # pixels of a side; libjpeg writes no more
_MODES = {(1, 8): "L", (2, 8): "LA", (3, 8): "RGB", (4, 8): "RGBA", (1, 16): "I;16"}


class Form(NamedTuple):
    """What composites are like.

    Attributes:
        image_size: Of each panel; None leaves each pair the size that it has.
        format: `jpeg` or `png`.
        quality: JPEG quality, 1 to 100.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        bits: 8 or, of grey, 16.
    """

    image_size: Size | None = Size(256, 256)
    format: str = "jpeg"
    quality: int = 95
    channels: int = 3
    bits: int = 8

    @property
    def extension(self) -> str:
        """Extension of the files."""
        return ".jpg" if self.format == "jpeg" else ".png"

    @property
    def settings(self) -> dict[str, Any]:
        """As `dataset.json` has it."""
        return {**self._asdict(), "image_size": self.image_size.plain if self.image_size else NATIVE}

    @property
    def mode(self) -> str | None:
        """Pillow's name for such pixels; None if it has none."""
        return _MODES.get((self.channels, self.bits))


def entry_name(source: Source, split: str, form: Form) -> str:
    """The path of a pair's composite in the data set."""
    return f"{split}/{source.name}{form.extension}"


def make_pair(source: Source, split: str, output: Path, form: Form, known: Entry | None = None) -> Entry:
    """Makes one composite, unless it is there already.

    A composite that is already in the form that is wanted, all of its panels in their order, is copied byte by byte: to
    decode and encode a JPEG once more would only lose.

    Args:
        source: What from.
        split: Where to.
        output: The data set's folder.
        form: What it is to be like.
        known: What an earlier call returned; if source and file are still as they were then, nothing is made.

    Raises:
        ImageError: A source image cannot be used.
        OSError: It cannot be written.
    """
    path = output / entry_name(source, split, form)
    source_bytes = source_sizes(source.files)
    if known and same_sizes(known.source_bytes, source_bytes) and _checksum(path) == known.sha256:
        return known._replace(source_bytes=source_bytes)
    panels, content = _read(source, form)
    if content is None:
        panels = _to_one_size(panels, form.image_size)
        content = _encode(_stack(panels, form), form)
    width, height = panels[0].size
    _write(path, content)
    return Entry(
        pair=f"{source.name}{form.extension}",
        split=split,
        width=len(panels) * width,
        height=height,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        perceptual_hash="".join(difference_hash(panel) for panel in panels),
        source_bytes=source_bytes,
    )


def difference_hash(panel: Image.Image) -> str:
    """64 bits, 16 hexadecimal digits: whether each of 8x8 cells is brighter than its right neighbour (dHash).

    It survives resizing and recompression, so that images of equal content differ in a few bits only. Brighter means
    by more than two levels: where an image is plain, noise should decide nothing.
    """
    cells = np.asarray(eight_bits(panel).convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return np.packbits(cells[:, :-1] > cells[:, 1:] + 2).tobytes().hex()


def _read(source: Source, form: Form) -> tuple[list[Image.Image], bytes | None]:
    """The panels, in the form's mode; and the file's own bytes if they can stay as they are."""
    if source.cut is None:
        return [_open(file, form) for file in source.files], None
    (file,) = source.files
    with open_image(file, source.cut, rotated=True, formats=_FORMATS) as image:
        size = Size(image.height, image.width // source.cut)
        as_it_is = (
            source.chosen == tuple(range(source.cut))
            and size == (form.image_size or size)
            and (image.format, image.mode) == (form.format.upper(), form.mode)
            and orientation_of(image) == 1
            and bit_depth(file) == form.bits
        )
        whole = _convert(image, form, source.cut)
    width = whole.width // source.cut
    panels = [whole.crop((i * width, 0, (i + 1) * width, whole.height)) for i in source.chosen]
    return panels, Path(file).read_bytes() if as_it_is else None


def _open(file: str, form: Form) -> Image.Image:
    try:
        with open_image(file, rotated=True, formats=_FORMATS) as image:
            return _convert(image, form)
    except ImageError as problem:
        raise ImageError(f"{file}: {problem}") from problem


def _convert(image: Image.Image, form: Form, panel_count: int = 1) -> Image.Image:
    """The image upright, in the form's mode."""
    upright = image if orientation_of(image) == 1 else ImageOps.exif_transpose(image)
    if upright.width % panel_count:
        raise ImageError(f"turned upright its width {upright.width} is not divisible by {panel_count} panels")
    if image.mode in ("I;16", "I;16B", "I"):
        levels = np.asarray(upright).astype(np.uint16)
        upright = Image.fromarray(65535 - levels if tiff.is_negative(image) else levels)
        if form.bits == 16:
            return upright
    if form.bits == 16:
        if (tiff.stored_bits(image) if image.format == "TIFF" else bit_depth(image.filename)) == 16:
            raise ImageError("it has 16 bits of colour, of which only 8 can be read; make it grey")
        return Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) * np.uint16(257))
    upright = eight_bits(upright)
    return upright.convert(form.mode) if upright.mode != form.mode else upright


def _to_one_size(panels: list[Image.Image], size: Size | None) -> list[Image.Image]:
    if size:
        return [_to_size(panel, size) for panel in panels]
    sizes = [Size(panel.height, panel.width) for panel in panels]
    if len(set(sizes)) > 1:
        raise ImageError(
            f"its panels are of {', '.join(map(str, sizes))} (height x width), but stand side by side in one size; "
            f"with --image_size={sizes[0]}, for one, they are brought to it"
        )
    return panels


def _to_size(panel: Image.Image, size: Size) -> Image.Image:
    width_and_height = size[::-1]
    if panel.size == width_and_height:
        return panel
    if panel.mode != "I;16":
        return panel.resize(width_and_height, Image.Resampling.BICUBIC)
    # As floats, for Pillow has no antialiasing filters for 16 bits.
    floats = Image.fromarray(np.asarray(panel, np.float32)).resize(width_and_height, Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.rint(np.asarray(floats)), 0, 65535).astype(np.uint16))


def _stack(panels: list[Image.Image], form: Form) -> Image.Image:
    width, height = panels[0].size
    if len(panels) * width * height > MAX_PIXELS:
        raise ImageError(f"the pair would have more than {MAX_PIXELS // 10**6} megapixels; give a smaller --image_size")
    if form.format == "jpeg" and max(len(panels) * width, height) > _JPEGS_LONGEST:
        raise ImageError(f"the pair would be wider or higher than the {_JPEGS_LONGEST} pixels of a JPEG")
    if form.bits == 16:
        return Image.fromarray(np.concatenate([np.asarray(panel) for panel in panels], axis=1))
    composite = Image.new(form.mode, (len(panels) * width, height))
    for number, panel in enumerate(panels):
        composite.paste(panel, (number * width, 0))
    return composite


def _encode(composite: Image.Image, form: Form) -> bytes:
    buffer = io.BytesIO()
    if form.format == "jpeg":
        composite.save(buffer, "JPEG", quality=form.quality)
    else:
        composite.save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Writes a composite. It is left to the end of the run to make the disk keep everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, sync=False)


def source_sizes(files: Sequence[str]) -> str:
    """Bytes of each file in order, as "123+456"; -1 of one that is not there."""
    return "+".join(str(file_size(file)) for file in files)


def same_sizes(recorded: str, now: str) -> bool:
    """Whether a source still has the sizes that were recorded; of those by earlier versions only the sum is known."""
    return recorded in (now, str(sum(map(int, now.split("+")))))


def _checksum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
