"""The lists beside a data set: what was rejected, has no place, is alike, seems misaligned. None if there is none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from p2p_keras.data.prepare.duplicates import Alike
from p2p_keras.data.prepare.misaligned import Misaligned
from p2p_keras.data.prepare.work import Rejected
from p2p_keras.system.files import naming, write_whole
from p2p_keras.system.spreadsheets import as_cell, from_cell
from p2p_keras.system.tables import format_rows, parse_rows

REJECTED, UNMATCHED, DUPLICATES, MISALIGNED = "rejected.csv", "unmatched.csv", "near_duplicates.csv", "misaligned.csv"


def write_lists(
    output: Path,
    rejected: Sequence[Rejected],
    unmatched: dict[str, str],
    alike: Sequence[Alike],
    misaligned: Sequence[Misaligned] = (),
) -> None:
    """Writes the lists, or removes those that would be empty.

    Args:
        output: The data set's folder.
        rejected: Pairs that could not be made.
        unmatched: Files or names that belong to no pair -> why.
        alike: Pairs that look like one of another split.
        misaligned: Pairs whose sides seem shifted against each other, or mirrored.
    """
    write_rejected(output, rejected)
    _write(output / UNMATCHED, ("file", "reason"), sorted(unmatched.items()))
    _write(output / DUPLICATES, Alike._fields, alike)
    _write(output / MISALIGNED, Misaligned._fields, misaligned)


def write_rejected(output: Path, rejected: Sequence[Rejected]) -> None:
    """Writes the first of them alone."""
    _write(output / REJECTED, Rejected._fields, rejected)


def read_rejected(output: Path) -> list[Rejected]:
    """What was rejected when the data set was made, as far as the file is still a table."""
    path = output / REJECTED
    if not path.exists():
        return []
    with naming(path):
        content = path.read_bytes()
    try:
        rows = parse_rows(content)[1:]
    except ValueError:
        return []
    return [Rejected(from_cell(row[0]), *row[1:]) for row in rows if len(row) == len(Rejected._fields)]


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    rows = [[as_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    if rows:
        write_whole(path, format_rows([columns, *rows]))
    else:
        path.unlink(missing_ok=True)
