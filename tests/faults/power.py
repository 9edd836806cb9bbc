"""A power cut in this process: from some call on that changes a file, none of them happens any more."""

import builtins
import io
import os
from collections.abc import Callable

import pytest
from conftest import Killed

_CHANGES = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link", "fsync")


class _Written:
    """A file whose every write counts, before it and with half of it done, and is on disk at once."""

    def __init__(self, file, count: Callable[[], None]) -> None:
        self._file, self._count = file, count

    def write(self, content) -> int:
        self._count()
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._count()
        self._file.write(content[half:])
        self._file.flush()
        return len(content)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str):
        return getattr(self._file, name)


def cut_power(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Raises `Killed` at a call, counted from 1, and at all later ones, so that nothing is tidied up on the way out."""
    calls, real_open = 0, builtins.open

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise Killed

    def counted(function: Callable) -> Callable:
        def call(*arguments, **more):
            count()
            return function(*arguments, **more)

        return call

    def open_counted(file, mode="r", *arguments, **more):
        if not set(mode) & set("wax+"):
            return real_open(file, mode, *arguments, **more)
        count()
        return _Written(real_open(file, mode, *arguments, **more), count)

    for name in _CHANGES:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(builtins, "open", open_counted)
    monkeypatch.setattr(io, "open", open_counted)  # pathlib's
