"""Files that are whole or not there: written beside and renamed, locked, synced, listed, hashed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from p2p_keras.system.limits import MAX_JSON_BYTES

_PART = ".part"  # ends the hidden names under which files are written
_CHUNK = 1 << 20


@contextlib.contextmanager
def whole_path(path: Path, sync: bool = True) -> Iterator[Path]:
    """Gives a hidden path to write a file to, which gets its name when the block ends, and never if the block fails.

    It is in the same folder and of its own, so that two processes that write the same file never touch each other's:
    the last one to finish is the one whose content stays.

    Args:
        path: Its name. What was there before is replaced.
        sync: Make the disk keep it before it gets its name. Without, a power cut may leave an empty file.

    Raises:
        OSError: It cannot be written; names `path`, and what was there before stays.
    """
    beside = path.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        yield beside
        if sync:
            sync_path(beside)
        os.replace(beside, path)
        if sync:
            sync_path(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error  # not the hidden name
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """The same with the file opened for writing, in bytes."""
    with whole_path(path, sync) as beside, open(beside, "xb") as file:
        yield file


def write_whole(path: Path, content: bytes | str, sync: bool = True) -> None:
    """Writes a file by `whole_file`; text as UTF-8."""
    with whole_file(path, sync) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a text file and makes the disk keep it. A last line that was cut short is ended first.

    Raises:
        OSError: It cannot be written; names `path`.
    """
    try:
        with open(path, "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not end:
            sync_path(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def remove_leftovers(folder: Path, older_than_secs: float = 0) -> None:
    """Removes what killed processes were writing in a folder.

    Args:
        folder: The folder, not those beneath it.
        older_than_secs: Leave what was changed since. Where another process may be writing, give longer than it takes
            for one file; 0 removes all.

    Raises:
        OSError: One cannot be removed.
    """
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(FileNotFoundError):  # its process has just given it its name
            old = not older_than_secs or time.time() - path.stat().st_mtime > older_than_secs
            if old and path.is_file():
                path.unlink()


@contextlib.contextmanager
def locked(path: Path, wait: bool, shared: bool = False) -> Iterator[int]:
    """Keeps other processes that lock the same path out, until the block ends; a killed process leaves no lock behind.

    Args:
        path: A folder, or a file, which is made if need be.
        wait: For its turn; without, a path that is locked already is an error at once.
        shared: With all others that share it; only those that do not are kept out.

    Yields:
        The descriptor of what is locked, by which to see whether it still is what the path names.

    Raises:
        BlockingIOError: It is locked already, and `wait` is false.
        OSError: It cannot be opened. Where the file system knows no locks, none is taken.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
                raise
        yield descriptor
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Makes the disk keep a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes the disk keep a folder and all that is in it."""
    for path in [*folder.rglob("*"), folder]:
        sync_path(path)


def read_json(path: Path) -> Any:
    """What a JSON file in UTF-8 holds, with a byte order mark or without.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or larger or deeper than any of ours.
    """
    # Without O_NONBLOCK a pipe of that name would be waited for for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return parse_json(file)


def parse_json(file: IO[bytes]) -> Any:
    """The same of a file that is open."""
    content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MB")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def leads_out(name: str) -> bool:
    """Whether a path that is to lie in a folder would lie outside of it, or is none at all. Links are not looked at."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\0" in name


def checksum(path: Path) -> str:
    """sha256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
