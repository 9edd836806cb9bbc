"""What the numbers of an image are: colours or grey of 8 or 16 bits, or classes. No TensorFlow."""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of image. The networks see float32 (H, W, channels) in [-1, 1], whatever it is.

    Attributes:
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; of a label map the number of its classes.
        bits: 8 or 16, of each number in a file. A file of the other depth is converted, 8 to 16 without loss.
        labels: Whether the numbers are classes from 0: then the networks see -1, and 1 in the channel of the class.
    """

    channels: int = 3
    bits: int = 8
    labels: bool = False

    @property
    def levels(self) -> int:
        """The highest number in a file, 255 or 65535."""
        return 2**self.bits - 1

    @property
    def depth(self) -> int:
        """Numbers for each pixel in a file: the channels, or the one class."""
        return 1 if self.labels else self.channels

    @property
    def dtype(self) -> str:
        """What holds a number of a file, `uint8` or `uint16`."""
        return f"uint{self.bits}"

    @property
    def fits_jpeg(self) -> bool:
        """Whether a JPEG can hold it: grey or RGB of 8 bits. All else needs a PNG."""
        return self.channels in (1, 3) and self.bits == 8 and not self.labels


RGB = Kind()
