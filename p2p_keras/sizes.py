"""Height and width of images: how they are written, and how often they can be halved. No TensorFlow."""

from collections.abc import Sequence
from typing import NamedTuple


class Size(NamedTuple):
    """Height and width, pixels; as text `256x512`."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def plain(self) -> int | list[int]:
        """As JSON has it: one number of a square, else height and width."""
        return self.height if self.height == self.width else [self.height, self.width]

    @property
    def halvings(self) -> int:
        """How often both sides can be halved: 8 of 256x256 and of 256x512."""
        both = self.height | self.width
        return (both & -both).bit_length() - 1


def to_size(value: int | str | Sequence[int]) -> Size:
    """Reads a size: `256` is square, `256x512` height and width; so are 256 and (256, 512).

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        parts = [int(part) if part.isascii() and part.isdecimal() else 0 for part in value.strip().split("x")]
    else:
        parts = list(value) if isinstance(value, Sequence) else [value]
    parts = parts * 2 if len(parts) == 1 else parts
    if len(parts) != 2 or not all(type(part) is int and part > 0 for part in parts):
        raise ValueError(f"a size is one number or height x width, as 256 or 256x512, not {value}")
    return Size(*parts)
