"""Getting an archive to disk: download, compare, unpack, and only then give it its name."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from p2p_keras.errors import UserError
from p2p_keras.progress import ProgressLine

RECORD = "source.json"  # in a cached folder: where it came from, and the checksums it came with
_TIMEOUT_SECS = 20
_MB = 1 << 20


class Words(NamedTuple):
    """How messages speak of what is fetched: a caller knows what it is for, and what else its user can do.

    Attributes:
        noun: As in "A network must be ...".
        subject: As in "It is downloaded once".
        formats: As in "A network comes as ...".
        way_out: What to do where the download fails, as in "download URL elsewhere and give it with --flag=FILE".
    """

    noun: str
    subject: str
    formats: str
    way_out: str


def fetch(urls: Sequence[str], folder: Path, words: Words, report: Callable[[str], None] = print) -> Path:
    """Downloads and unpacks the first of several places that gives something whole; once, for later calls find it.

    Args:
        urls: Places of the same archive (or `.pb` file), tried in turn.
        folder: Holds the content afterwards, and `source.json` with `url`, `archive_sha256` and `content_sha256`. It
            appears with one rename; of two processes at work at once one wins, and both are served.
        words: What to call it in messages.
        report: Told in one line of every download that begins.

    Returns:
        `folder`.

    Raises:
        UserError: No place gave anything whole, what was fetched earlier has changed, or the folder cannot be written.
    """
    if is_cached(folder, words):
        return folder
    problems: dict[str, list[str]] = {}  # what went wrong -> hosts
    for url in urls:
        with _part_beside(folder, words) as part:
            archive = part / f"archive{PurePosixPath(url.partition('?')[0]).suffix}"
            problem = _download(url, archive, report) or _unpack(archive, part / "content")
            if problem is None:
                _give_name(part / "content", folder, url, checksum(archive), words)
                return folder
        problems.setdefault(problem, []).append(urllib.parse.urlsplit(url).netloc)
    listed = "; ".join(f"{problem} ({', '.join(dict.fromkeys(hosts))})" for problem, hosts in problems.items())
    raise UserError(
        f"{words.subject} is downloaded once, but none of {len(urls)} places gave it: {listed}. "
        f"Try again with a connection, or {words.way_out}."
    )


def install(archive: Path, folder: Path, words: Words) -> None:
    """Unpacks an archive that is here already into a folder that `is_cached` from then on.

    Raises:
        UserError: It is no archive, or the folder cannot be written.
    """
    with _part_beside(folder, words) as part:
        unpack(archive, part / "content", words)
        _give_name(part / "content", folder, str(archive), checksum(archive), words)


def is_cached(folder: Path, words: Words) -> bool:
    """Whether a folder holds what `fetch` or `install` once put there.

    Raises:
        UserError: There is something else in it.
    """
    if not folder.exists():
        return False
    try:
        recorded = json.loads((folder / RECORD).read_text())["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        recorded = "unknown"
    found = checksum(folder)
    if found != recorded:
        raise UserError(
            f"A cached {words.noun} must be as it was fetched, but {folder} has changed: its sha256 was "
            f"{recorded[:12]} and is {found[:12]}. Remove that folder, then it is fetched again."
        )
    return True


def unpack(archive: Path, folder: Path, words: Words) -> None:
    """Unpacks a tar archive (however compressed) or a zip; a `.pb` file is copied.

    Only regular files are written. Links are passed over, so that nothing can be written through them. It is our own
    loop because `tarfile`'s `filter` is missing in some Python 3.10 and 3.11.

    Args:
        archive: The file.
        folder: Made if need be. After an error it may hold a part.
        words: What to call it in messages.

    Raises:
        UserError: It is no archive, is damaged, or names a file outside the folder.
    """
    problem = _unpack(archive, folder)
    if problem:
        raise UserError(
            f"A {words.noun} comes as {words.formats}. Received {archive}: {problem}. "
            "Download it again or name another file."
        )


def checksum(path: Path) -> str:
    """sha256 (hex) of a file, or of the names and contents of all files in a folder but its `source.json`."""
    digest = hashlib.sha256()
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        for name in sorted(files.keys() - {RECORD}):
            digest.update(f"{checksum(files[name])} {name}\n".encode())
    else:
        with open(path, "rb") as file:
            while chunk := file.read(_MB):
                digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, path: Path, report: Callable[[str], None]) -> str | None:
    """Streams a URL to a file. Returns what went wrong in a few words, or None."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECS) as reply, open(path, "wb") as file:
            report(f"Downloading {url}")
            length = int(reply.headers.get("Content-Length", -1))
            received = _copy(reply, file, ProgressLine(length // _MB, "MB") if length > 0 else None)
    except urllib.error.HTTPError as error:
        error.close()
        return f"{error.code} {error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", None) or error) or type(error).__name__
    # urllib itself takes a connection that was cut for the end of the file.
    return f"only {received} of {length} bytes came" if 0 <= length != received else None


def _copy(source: IO[bytes], target: IO[bytes], line: ProgressLine | None = None) -> int:
    """Copies to the end and syncs. Returns the number of bytes."""
    received = 0
    try:
        while chunk := source.read(_MB):
            target.write(chunk)
            received += len(chunk)
            if line:
                line.update(received // _MB)
    finally:
        if line:
            line.clear()
    target.flush()
    os.fsync(target.fileno())
    return received


def _unpack(archive: Path, folder: Path) -> str | None:
    """As `unpack`. Returns what is wrong with the archive in a few words, or None."""
    files, line = [], ProgressLine(archive.stat().st_size // _MB, "MB")
    try:
        with open(archive, "rb") as raw:
            for name, content in _files_of(raw, archive):
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    return f"it would write outside its folder, to {name}"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    shutil.copyfileobj(content, file, _MB)
                files.append(path)
                line.update(raw.tell() // _MB, "unpacking")
    except Exception as error:  # the decoders of five formats raise as many kinds, and one may be missing from Python
        return str(error) or type(error).__name__
    finally:
        line.clear()
    # Together at the end, for one after the other a hundred thousand pictures take minutes, on a turning disk an hour.
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(_sync, files))
    return None if files else "there is no file in it"


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _files_of(raw: IO[bytes], archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of the regular files; the folders follow from the names."""
    if archive.suffix == ".pb":
        yield archive.name, raw
    elif tarfile.is_tarfile(raw):
        raw.seek(0)  # some Python 3.11 leave it where they looked
        with tarfile.open(fileobj=raw) as tar:
            for member in tar:
                if member.isreg():
                    yield member.name, tar.extractfile(member)
            # tarfile stops at the archive's end mark, and takes a damaged name for one; a compressed file's own
            # checksum comes after that, and is compared by whoever reads so far.
            while tar.fileobj.read(_MB):
                pass
    elif zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as zipped:
            for info in zipped.infolist():
                if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                    with zipped.open(info) as file:
                        yield info.filename, file
    else:
        raise ValueError("it is no archive")


@contextlib.contextmanager
def _part_beside(folder: Path, words: Words) -> Iterator[Path]:
    """A new folder on the same file system as the one that is to come; removed afterwards with all that is in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise _not_writable(folder, words, error) from error
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _give_name(content: Path, folder: Path, url: str, archive_sha256: str, words: Words) -> None:
    """Adds the record and renames `content` to `folder`; if another process was first, its result stays."""
    record = {"url": url, "archive_sha256": archive_sha256, "content_sha256": checksum(content)}
    try:
        with open(content / RECORD, "w") as file:
            file.write(json.dumps(record, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(content, folder)
    except OSError as error:
        if not is_cached(folder, words):
            raise _not_writable(folder, words, error) from error


def _not_writable(folder: Path, words: Words, error: OSError) -> UserError:
    return UserError(
        f"A {words.noun} is unpacked into the cache, but {folder} could not be written: {error.strerror}. "
        "Make room there, or set XDG_CACHE_HOME to another folder."
    )
