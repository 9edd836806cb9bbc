"""Comma-separated tables as text, such that every cell comes back, whatever characters are in it."""

import csv
import io
from collections.abc import Iterable, Sequence


def format_rows(rows: Iterable[Sequence]) -> str:
    """Rows as lines that end in a line feed. A cell with a line end of any kind in it is quoted, as one with a comma.

    Python before 3.13 quotes those alone that are in the line's own end: a name with a carriage return in it, as files
    may have on Linux, would make two rows.
    """
    lines = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerow(row)
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def parse_rows(content: bytes) -> list[list[str]]:
    """The rows of a table in UTF-8.

    Raises:
        ValueError: It is none.
    """
    try:
        return list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from error
