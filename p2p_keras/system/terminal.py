"""What is said to a terminal is text, and nothing that the terminal would act upon."""

import re
from typing import Any, TextIO

# Control characters but tab and line feed, those that turn the direction of writing, and bytes that are no UTF-8.
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with what a terminal would act upon written out, an escape as `\x1b`."""
    return _ACTIVE.sub(lambda found: repr(found[0])[1:-1], text)


class PlainStream:
    """A text stream that writes what is `printable`: names of files, for one, are other people's, and may be anything.

    Attributes:
        unescaped: The stream itself, for what is to move the cursor.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        """As that of the stream."""
        return self.unescaped.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)
