"""How the parsers are fuzzed: how many examples, and what is fed to them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from p2p_keras.errors import UserError

# The one place that says how many: a test with `examples` runs once in the default suite and once in the slow one.
many = pytest.mark.parametrize("examples", [200, pytest.param(10_000, marks=pytest.mark.slow)])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, 1.5, 1e308, float("nan"), float("inf"), ""]),
    st.floats(),
    st.text(max_size=20),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


class _Huge(bytes):
    """Bytes that hypothesis shows in few words."""

    def __repr__(self) -> str:
        return f"{bytes(self[:5])!r} and so on, {len(self)} bytes"


garbage = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{}", _Huge(b"9" * 5000)]),
    st.sampled_from([_Huge(b"[" * 100_000), _Huge(b'{"a":' * 100_000), _Huge(b'"' * 200_001), _Huge(b"x" * 200_000)]),
)


def run_examples(examples: int, check: Callable, *strategies: st.SearchStrategy) -> None:
    """Calls a check with that many examples, the same ones every time; nothing is remembered between runs."""
    decorated = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(check))
    decorated()


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file's content after it was damaged: bytes flipped, cut off, taken out, put in or doubled."""
    place = st.integers(0, len(content))

    def apply(steps: list[tuple[str, int, int, bytes]]) -> bytes:
        found = content
        for kind, start, length, more in steps:
            end = min(start + length, len(found))
            if kind == "flip" and start < len(found):
                found = found[:start] + bytes([found[start] ^ (1 << length % 8)]) + found[start + 1 :]
            elif kind == "cut":
                found = found[:start]
            elif kind == "out":
                found = found[:start] + found[end:]
            elif kind == "in":
                found = found[:start] + more + found[start:]
            elif kind == "double":
                found = found[:end] + found[start:]
        return found

    kinds = st.sampled_from(["flip", "flip", "cut", "out", "in", "double"])
    steps = st.tuples(kinds, place, st.integers(0, 40), st.binary(max_size=8))
    return st.lists(steps, min_size=1, max_size=3).map(apply)


def changed_json(value: Any) -> st.SearchStrategy[bytes]:
    """JSON in which one of the values, at whatever depth, is another one, or has gone, or has another name."""
    paths = list(_paths(value))

    def apply(path: tuple, kind: str, other: Any) -> bytes:
        changed = copy.deepcopy(value)
        if not path:
            return json.dumps(other).encode()
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        if kind == "value":
            holder[path[-1]] = other
        else:
            gone = holder.pop(path[-1])
            if kind == "name" and isinstance(holder, dict):
                holder[f"{path[-1]}_"] = gone
        return json.dumps(changed).encode()

    kinds = st.sampled_from(["value", "value", "value", "gone", "name"])
    return st.builds(apply, st.sampled_from(paths), kinds, json_values)


def value_or_refusal(read: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """What is read of a file with that content; None if it was refused as it must be, in one line that names it."""
    path.write_bytes(content)
    return or_refusal(lambda: read(path), path)


def or_refusal(read: Callable[[], Any], path: Path) -> Any:
    """What is read; None if it was refused in one line that names the path."""
    try:
        return read()
    except UserError as error:
        message = " ".join(str(error).split())
    assert str(path) in message, message
    assert len(message) < 3000, message  # a line for a person, not the file itself
    return None


def _paths(value: Any, path: tuple = ()) -> list[tuple]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in inside for found in _paths(inner, (*path, key)))]
