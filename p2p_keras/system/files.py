"""Files that are whole or not there: written beside and renamed, locked, synced, listed, hashed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from p2p_keras.system.limits import MAX_JSON_BYTES

_PART = ".part"  # ends the hidden names under which files are written
_FOLDER = ".part-"  # begins those of folders
_CHUNK = 1 << 20
_DAY_SECS = 86_400
# EBADF: NFS makes of a lock one of the file's bytes, which it does not give on what is open for reading, as a folder.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EBADF)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets the system's errors name a file: those of reading, writing and syncing do not, and some a hidden name.

    Raises:
        OSError: Of the same kind, with `path`.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def whole_path(path: Path, sync: bool = True) -> Iterator[Path]:
    """Gives a hidden file to be filled, which gets its name when the block ends, and never if the block fails.

    It is in the same folder and of its own, so that two processes that write the same file never touch each other's:
    the last one to finish is the one whose content stays. It is locked meanwhile: see `remove_leftovers`.

    Args:
        path: Its name. What was there before is replaced.
        sync: Make the disk keep it before it gets its name. Without, a power cut may leave an empty file.

    Raises:
        OSError: It cannot be written; names `path`, and what was there before stays.
    """
    with naming(path), _created(lambda: _new_file(path.parent)) as beside:
        try:
            yield beside
            if sync:
                sync_path(beside)
            os.replace(beside, path)
            if sync:
                sync_path(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """The same with the file opened for writing, in bytes."""
    with whole_path(path, sync) as beside, open(beside, "wb") as file:
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
    with naming(path):
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


@contextlib.contextmanager
def hidden_folder(place: Path) -> Iterator[Path]:
    """Makes a hidden folder in another one, and removes it when the block ends, with all that is in it still.

    What killed processes have left of the kind goes first, see `remove_leftovers`.

    Raises:
        OSError: It cannot be made.
    """
    for path in place.glob(f"{_FOLDER}*"):
        with _held(path, _DAY_SECS) as is_left:
            if is_left:
                shutil.rmtree(path, ignore_errors=True)
    with _created(lambda: Path(tempfile.mkdtemp(prefix=_FOLDER, dir=place))) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder at once: after a kill it is whole or has gone, but for a hidden `.NAME.part`.

    Raises:
        OSError: It cannot be removed.
    """
    hidden = path.with_name(f".{path.name}{_PART}")
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(path, hidden)
    shutil.rmtree(hidden)


def remove_leftovers(folder: Path, older_than_secs: float = 0, beneath: bool = False) -> None:
    """Removes the hidden files that killed processes were writing in a folder.

    What a living process is writing it keeps locked, and that stays.

    Args:
        folder: The folder.
        older_than_secs: Where the file system knows no locks, leave what was changed since. If another process may be
            writing there, give longer than it takes for one file; 0 removes all.
        beneath: And in the folders beneath it.

    Raises:
        OSError: One cannot be removed.
    """
    for place in (Path(place) for place, _, _ in os.walk(folder)) if beneath else (folder,):
        for path in place.glob(f".*{_PART}"):
            if path.is_file():
                with _held(path, older_than_secs) as is_left:
                    if is_left:
                        path.unlink(missing_ok=True)


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
    descriptor = _open_to_lock(path, os.O_CREAT)
    try:
        _lock(descriptor, wait, shared)
        yield descriptor
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Makes the disk keep a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
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
    with naming(path), open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
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
    with naming(path), open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _new_file(place: Path) -> Path:
    path = place / f".{secrets.token_hex(8)}{_PART}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return path


@contextlib.contextmanager
def _created(create: Callable[[], Path]) -> Iterator[Path]:
    """Makes something hidden, and keeps it locked until the block ends."""
    with contextlib.ExitStack() as stack:
        while True:
            path = create()
            try:
                descriptor = _open_to_lock(path)
            except FileNotFoundError:
                continue  # another process took it for a leftover before it was locked
            stack.callback(os.close, descriptor)
            _lock(descriptor, wait=True)
            if path.exists():
                break
        yield path


@contextlib.contextmanager
def _held(path: Path, older_than_secs: float) -> Iterator[bool]:
    """Locks what may be a leftover; whether it is one."""
    try:
        descriptor = _open_to_lock(path)
    except FileNotFoundError:  # its process has just given it its name
        yield False
        return
    try:
        try:
            knows_locks = _lock(descriptor, wait=False)
        except BlockingIOError:
            yield False
        else:
            age = time.time() - os.fstat(descriptor).st_mtime
            yield path.exists() and (knows_locks or not older_than_secs or age > older_than_secs)
    finally:
        os.close(descriptor)


def _open_to_lock(path: Path, more: int = 0) -> int:
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | more, 0o666)


def _lock(descriptor: int, wait: bool, shared: bool = False) -> bool:
    """Locks a file or folder; whether the file system knows locks.

    Raises:
        BlockingIOError: It is locked already, and `wait` is false.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
