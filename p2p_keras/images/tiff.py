"""What is in a TIFF, which can hold far more kinds of images than are trained on. No TensorFlow."""

from PIL import Image

from p2p_keras.system.limits import MAX_PAGES, MAX_PIXELS

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # a TIFF begins with one of them, of little or big end, small or big
_KIND_OF_PAGE, _BITS, _MEANING = 254, 258, 262  # tags: NewSubfileType, BitsPerSample, PhotometricInterpretation
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # tags
_SMALLER = 1  # the bit of NewSubfileType that says: a smaller version of another page
_WHITE_IS_ZERO = 0


def problem(image: Image.Image) -> str | None:
    """Why a TIFF that was opened, but not decoded, cannot be used, in a few words; None if it can or is no TIFF.

    Of several pages nobody says which one is meant. Those that are smaller versions of the first, as maps and slides
    have, are no others.
    """
    if image.format != "TIFF":
        return None
    pages = _count_pages(image)
    if pages > MAX_PAGES:
        return f"it has more than {MAX_PAGES} pages; one is needed"
    if others := sum(not _is_smaller(image, page) for page in range(1, pages)):
        return f"it has {others + 1} pages; one is needed"
    image.seek(0)
    width, height = image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_HEIGHT, 0)
    if width * height > MAX_PIXELS:  # however small the image is
        return f"its tiles are of {width}x{height}, more than {MAX_PIXELS // 10**6} megapixels"
    if image.mode == "F":
        return "its pixels are floating-point numbers; 8 or 16 bits are needed"
    if image.mode == "I":
        return "its pixels have 32 bits or a sign; 8 or 16 bits without one are needed"
    if max(_bits(image)) not in (1, 2, 4, 8, 16):  # of 12, for one, Pillow makes a dark image of 16
        return f"its pixels have {max(_bits(image))} bits; 8 or 16 are needed"
    return None


def stored_bits(image: Image.Image) -> int:
    """Bits of each number in it."""
    return max(_bits(image))


def is_negative(image: Image.Image) -> bool:
    """Whether it is one of 16 bits whose zero is white, which Pillow, unlike with 8 bits, leaves as it is."""
    return image.format == "TIFF" and stored_bits(image) == 16 and image.tag_v2.get(_MEANING) == _WHITE_IS_ZERO


def _count_pages(image: Image.Image) -> int:
    """As `n_frames`, but no further than is needed: of 200,000 pages, in 25 MB, that takes minutes."""
    for page in range(1, MAX_PAGES + 1):
        try:
            image.seek(page)
        except EOFError:
            return page
    return MAX_PAGES + 1


def _bits(image: Image.Image) -> tuple[int, ...]:
    return image.tag_v2.get(_BITS, (1,))


def _is_smaller(image: Image.Image, page: int) -> bool:
    image.seek(page)
    return bool(image.tag_v2.get(_KIND_OF_PAGE, 0) & _SMALLER)
