"""Whether a PNG is whole, which Pillow does not look at: it decodes one whose checksums are wrong. No TensorFlow."""

import struct
import zlib

_SIGNATURE = 8  # bytes before the first chunk
_FRAME = 12  # bytes of a chunk around its content: length, name, checksum
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def problem(content: bytes) -> str | None:
    """Why a PNG file is damaged, in a few words; None if it is not.

    Every chunk that is needed to decode it must have its checksum, up to the last one; libpng, and so TensorFlow, takes
    no other file. What comes after that is no part of it.
    """
    place, view = _SIGNATURE, memoryview(content)
    while place + _FRAME <= len(content):
        length, name = struct.unpack(">I4s", view[place : place + 8])
        end = place + _FRAME + length
        if end > len(content):
            break
        if name in _NEEDED and zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return f"it is damaged: the checksum of a part of it, {name.decode()}, is wrong"
        if name not in _NEEDED and name[:1].isupper():
            return "it is damaged: a part of it is none that a PNG has"
        if name == b"IEND":
            return None
        place = end
    return "it is cut short"
