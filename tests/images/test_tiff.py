"""What can be read of a TIFF, and what is refused with the reason."""

import struct

import numpy as np
import pytest
from conftest import as_file
from PIL import Image, TiffImagePlugin

from p2p_keras.data.picture import ImageError, open_image
from p2p_keras.images import tiff

GREY16 = (np.arange(48, dtype=np.uint16) * 1300 + 7).reshape(6, 8)
RGB = np.dstack([GREY16 >> 8] * 2 + [255 - (GREY16 >> 8)]).astype(np.uint8)
RGB_FILE = as_file(RGB, "TIFF")


def _with_tag(content: bytes, tag: int, value: int) -> bytes:
    """The same little-endian file with another value in a tag of one short number, of which the pixels know nothing."""
    at = content.index(struct.pack("<HHI", tag, 3, 1)) + 8
    return content[:at] + struct.pack("<H", value) + content[at + 2 :]


def _pages(*images: np.ndarray, second: int) -> bytes:
    """Several pages, of which all but the first have this NewSubfileType."""
    first, *others = (Image.fromarray(image) for image in images)
    for other in others:
        other.encoderinfo = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}
        other.encoderinfo["tiffinfo"][254] = second
    return as_file(first, "TIFF", save_all=True, append_images=others)


def _tiled(side: int) -> bytes:
    """An LZW file of 16x16 grey pixels whose one tile is said to be as large as that."""
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (as_file(np.ones((6, 8), np.float32), "TIFF"), "its pixels are floating-point numbers; 8 or"),
        (as_file(np.ones((6, 8), np.int32), "TIFF"), "its pixels have 32 bits or a sign"),
        (_with_tag(as_file(GREY16, "TIFF"), 258, 12), "its pixels have 12 bits; 8 or 16 are needed"),
        (as_file(Image.new("CMYK", (8, 6)), "TIFF"), "its pixels are CMYK; RGB or grey is needed"),
        (_pages(RGB, RGB, RGB, second=0), "it has 3 pages; one is needed"),
        (_pages(RGB, RGB, second=2), "it has 2 pages; one is needed"),  # a page of a document
        (_pages(*[RGB[:1, :1]] * 101, second=1), "it has more than 100 pages; one is needed"),
        (_tiled(40_000), "its tiles are of 40000x40000, more than 64 megapixels"),  # which was 1.5 GB of memory
        (_with_tag(as_file(GREY16, "TIFF"), 258, 13), "a TIFF of a kind that cannot be read"),
        (RGB_FILE[: len(RGB_FILE) // 2], "cannot be (read|decoded)"),
        (RGB_FILE[:9], "cannot be (read|decoded)"),
        (as_file(Image.new("RGB", (8, 6)), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 6), "red")]),
         "it is an animation of 2 images; one is needed"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged tags; p2p-prepare silences them
def test_what_is_refused(tmp_path, content, problem):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ImageError, match=problem):
        open_image(str(tmp_path / "x"), rotated=True, formats=("JPEG", "WEBP", "TIFF"))


@pytest.mark.parametrize("content", [RGB_FILE, _pages(RGB, RGB[::2, ::2], RGB[::3, ::3], second=1)])
def test_smaller_versions_of_a_page_are_no_pages(tmp_path, content):
    """As GeoTIFFs and scans of slides have them; what is read is the first."""
    (tmp_path / "x").write_bytes(content)
    with open_image(str(tmp_path / "x"), rotated=True, formats=("TIFF",)) as image:
        np.testing.assert_array_equal(np.asarray(image), RGB)


def test_16_bits_whose_zero_is_white_are_known(tmp_path):
    for meaning, negative in ((0, True), (1, False)):
        (tmp_path / "x").write_bytes(_with_tag(as_file(GREY16, "TIFF"), 262, meaning))
        with Image.open(tmp_path / "x") as image:
            assert (tiff.stored_bits(image), tiff.is_negative(image)) == (16, negative)
            np.testing.assert_array_equal(np.asarray(image), GREY16)  # what Pillow makes of both
    (tmp_path / "x").write_bytes(_with_tag(as_file(RGB[..., 0], "TIFF"), 262, 0))
    with Image.open(tmp_path / "x") as image:
        assert not tiff.is_negative(image)
        np.testing.assert_array_equal(np.asarray(image), 255 - RGB[..., 0])  # which Pillow turns itself


def test_training_reads_none(tmp_path):
    (tmp_path / "x.png").write_bytes(RGB_FILE)
    with pytest.raises(ImageError, match="it is a TIFF, not a JPEG or PNG"):
        open_image(str(tmp_path / "x.png"))
