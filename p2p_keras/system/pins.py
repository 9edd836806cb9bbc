"""What was fetched stays what it was: published sha256 sums, and a record of the sums that were met first.

The record is one file in the user's cache folder. It stays when what was fetched is removed, so that the same name
never brings anything else unnoticed.
"""

import json
from pathlib import Path
from typing import NamedTuple

from p2p_keras.errors import UserError
from p2p_keras.system import files
from p2p_keras.system.cache import cache_folder


class Pin(NamedTuple):
    """A published sha256.

    Attributes:
        sha256: Hexadecimal.
        file: The one file of an archive that it is the sum of; then no other is taken from that archive. None if it is
            the sum of the archive itself.
    """

    sha256: str
    file: str | None = None


def record_path() -> Path:
    """The file with the sums that were met first."""
    return cache_folder() / "checksums.json"


def compare(name: str, sha256: str, noun: str) -> None:
    """Compares a sum with the recorded one, if there is one.

    Args:
        name: Of what was fetched, or its URL.
        sha256: Of its content.
        noun: What messages call it, as in "A network must ...".

    Raises:
        UserError: Another sum is recorded, or the record cannot be read.
    """
    known = _read().get(name, sha256)
    if known != sha256:
        raise UserError(
            f"A {noun} must stay what it was when it was fetched first, but {name} has changed: its sha256 was "
            f'{known[:12]} and is {sha256[:12]}. If you want the change, remove "{name}" from {record_path()}, then '
            "the new one is recorded."
        )


def record(name: str, sha256: str, noun: str) -> None:
    """The same, and a sum that is met for the first time is added to the record.

    Raises:
        UserError: Another sum is recorded, or the record cannot be read.
        OSError: It cannot be written.
    """
    path = record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path.parent, wait=True):  # not the file, which is replaced
        compare(name, sha256, noun)
        known = _read()
        if name not in known:
            files.write_whole(path, json.dumps({**known, name: sha256}, indent=2, sort_keys=True) + "\n")


def _read() -> dict[str, str]:
    path = record_path()
    try:
        known = files.read_json(path)
        if not all(isinstance(sum_, str) for sum_ in known.values()):
            raise ValueError("a sum is no text")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        # Not taken for an empty record: then whoever can damage it could have anything recorded.
        problem = getattr(error, "strerror", None) or error
        raise UserError(
            f"The record of what was fetched holds names and sha256 sums in JSON. {path} does not: {problem}. Mend it, "
            "or remove it: then what is fetched next is recorded anew."
        ) from error
    return known
