"""One file from one URL, taken up again where it was cut off.

Beside the part stands in JSON what it is a part of. The server is asked for the rest on the condition that the file is
still the same (RFC 9110, sections 13.1.5 and 14). Whoever calls must see to it that no other process writes the part.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, NamedTuple

from p2p_keras.system import files
from p2p_keras.system.https import open_url
from p2p_keras.system.progress import ProgressLine

PAUSES_SECS = (1, 2, 4, 8)  # before each further try, after a connection that was cut
_TIMEOUT_SECS = 20
_CHUNK = 1 << 16  # bytes read at once, which is what a connection that breaks can lose of what has come
_MB = 1 << 20


class _Source(NamedTuple):
    """What a part is a part of: the URL, what If-Range may name of it, and the whole's length in bytes."""

    url: str
    validator: str | None
    length: int | None


class _NoReplyError(Exception):
    """The server cannot be reached or does not give the file."""


class _CutError(Exception):
    """The file was on its way, but did not come to its end."""


def download(
    url: str, path: Path, report: Callable[[str], None] = print, sleep: Callable[[float], None] = time.sleep
) -> str | None:
    """Brings a file to `path`, from where an earlier call left off if the server allows that.

    A connection that is cut is tried again after each of `PAUSES_SECS`, as many times in a row as bring nothing new.

    Args:
        url: Where it is: by https, or on this machine.
        path: The file. Until None is returned it is only a part.
        report: Called with one line when the download begins or is resumed, and for each further try.
        sleep: Waits for so many seconds.

    Returns:
        None if the file is whole, as far as the server says its length. Otherwise what went wrong in a few words; then
        the part stays if a later call can go on from it.

    Raises:
        OSError: `path` cannot be written. The part stays.
    """
    most, failures, begun = 0, 0, False
    while not _is_whole(url, path):
        try:
            _add_rest(url, path, _ignore if begun else report)
            return None
        except _NoReplyError as error:
            problem, failures = str(error), failures + 1
        except _CutError as error:
            problem, begun = str(error), True
            failures = 1 if _size(path) > most else failures + 1
            most = max(most, _size(path))
        if not begun or failures > len(PAUSES_SECS):  # what a server refuses to begin with it will refuse again
            if not can_continue(url, path):
                forget(path)
            return problem
        pause = PAUSES_SECS[failures - 1]
        report(f"{problem}: trying again in {pause} s")
        sleep(pause)
    return None


def can_continue(url: str, path: Path) -> bool:
    """Whether there is a part (or all) of a URL's file that `download` would not have to fetch again."""
    source = _read_source(url, path)
    return _is_whole(url, path) or (source is not None and _usable_bytes(source, path) > 0)


def forget(path: Path) -> None:
    """Removes a part and what stands beside it."""
    path.unlink(missing_ok=True)
    _source_path(path).unlink(missing_ok=True)


def _add_rest(url: str, path: Path, report: Callable[[str], None]) -> None:
    """Fetches what is missing: the end, or everything if there is nothing that can be continued."""
    source = _read_source(url, path) or _Source(url, None, None)
    reply, done = _ask(source, _usable_bytes(source, path))
    with reply:
        length = source.length
        if not done:
            length = getattr(reply, "length", None)  # None also if it comes in chunks
        with open(path, "ab" if done else "wb") as file:
            if not done:  # only now, when the file is empty: nothing may stand beside a part of something else
                _write_source(_Source(url, _validator(reply.headers), length), path)
            report(f"Downloading {url}" + (f", from {done / _MB:.1f} MB on" if done else ""))
            done = _copy(reply, file, done, length)
    # http.client itself takes a connection that was cut for the end of the file.
    if length is not None and done != length:
        raise _CutError(f"only {done} of {length} bytes came")


def _ask(source: _Source, done: int) -> tuple[http.client.HTTPResponse, int]:
    """The server's reply, and at which byte of the file it begins: at `done`, or at 0 if the rest is not to be had."""
    headers = {"Range": f"bytes={done}-", "If-Range": source.validator} if done else {}
    try:
        reply = open_url(urllib.request.Request(source.url, headers=headers), timeout=_TIMEOUT_SECS)
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _ask(source, 0)
        raise _NoReplyError(f"{error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _NoReplyError(_in_words(error)) from error
    if reply.status != http.HTTPStatus.PARTIAL_CONTENT:
        return reply, 0
    if done and _fits(reply.headers, source, done):
        return reply, done
    reply.close()
    if not done:
        raise _NoReplyError("a part came, though all was asked for")
    return _ask(source, 0)


def _fits(headers: Message, source: _Source, done: int) -> bool:
    """Whether a reply is the rest of this very file. A server may know Range but not If-Range, so all is compared."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    return (
        match is not None
        and int(match[1]) == done
        and match[2] in ("*", f"{source.length}")
        and _validator(headers) in (None, source.validator)
    )


def _validator(headers: Message) -> str | None:
    """What If-Range may name: an ETag, but not a weak one; without any ETag the date of the last change.

    The date is exact to the second only, so a file that is replaced twice a second may deceive it; then the archive's
    own checksums tell.
    """
    etag = headers.get("ETag")
    if etag is None:
        return headers.get("Last-Modified")
    return None if etag.startswith("W/") else etag


def _copy(reply: IO[bytes], file: IO[bytes], done: int, length: int | None) -> int:
    """Appends all that comes and syncs. Returns the number of bytes there are then."""
    line = ProgressLine(length // _MB, "MB", done // _MB) if length else None
    try:
        while chunk := _read(reply):
            file.write(chunk)
            done += len(chunk)
            if line:
                line.update(done // _MB)
    finally:
        if line:
            line.clear()
    file.flush()
    os.fsync(file.fileno())
    return done


def _read(reply: IO[bytes]) -> bytes:
    try:
        return reply.read(_CHUNK)
    except http.client.IncompleteRead as error:
        raise _CutError("the connection was cut") from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_in_words(error)) from error


def _usable_bytes(source: _Source, path: Path) -> int:
    """How many bytes of a part can be resumed; 0 if it can only be fetched anew."""
    size = _size(path)
    return size if source.validator and source.length is not None and size < source.length else 0


def _is_whole(url: str, path: Path) -> bool:
    """All has come, though an earlier call may have been stopped before it was put to use."""
    source = _read_source(url, path)
    return source is not None and source.length is not None and _size(path) == source.length


def _read_source(url: str, path: Path) -> _Source | None:
    try:
        source = _Source(**files.read_json(_source_path(path)))
    except (OSError, ValueError, TypeError):
        return None
    return source if source.url == url else None


def _write_source(source: _Source, path: Path) -> None:
    files.write_whole(_source_path(path), json.dumps(source._asdict()) + "\n", sync=False)


def _source_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _in_words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _ignore(line: str) -> None:
    pass
