"""Records of JSON that tell whether they still are what was written: each with a checksum of its own.

A digit that a disk gets wrong is a number like any other, and from these records it is read which checkpoint is the
best, and what is published. A checksum that someone would have to take on purpose is no part of it: nothing here keeps
out whoever means harm.
"""

import json
import math
import zlib
from typing import Any

_SUM = "crc32"  # the checksum's name in the record


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its checksum, of what else is in it, whatever the order and the spaces."""
    return {**record, _SUM: _checksum(record)}


def unseal(record: Any) -> dict[str, Any] | None:
    """The record without its checksum; None if it is none, or another one. Earlier versions wrote none: those pass."""
    if not isinstance(record, dict):
        return None
    plain = {name: value for name, value in record.items() if name != _SUM}
    return plain if record.get(_SUM, _checksum(plain)) == _checksum(plain) else None


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a number that can be computed with: finite, and neither true nor false."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _checksum(record: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"
