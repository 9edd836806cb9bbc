"""Getting an archive to disk: download, compare, unpack, and only then give it its name."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from p2p_keras.errors import UserError
from p2p_keras.system import files
from p2p_keras.system.download import can_continue, download, forget
from p2p_keras.system.https import is_safe
from p2p_keras.system.pins import Pin, compare, record
from p2p_keras.system.unpack import unpack

RECORD = "source.json"  # in a cached folder: where it came from, and the checksums it came with


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


def fetch(
    urls: Sequence[str],
    folder: Path,
    words: Words,
    report: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
    pins: Mapping[str, Pin] | None = None,
    name: str | None = None,
) -> Path:
    """Downloads and unpacks the first of several places that gives something whole; once, for later calls find it.

    All comes by https, or from this machine. Where a sha256 was published, a place that gives something else is
    skipped. The sum of what is found is recorded for good (`system.pins`): whatever else comes later is refused.

    A download that was cut off is kept, with what it is a part of, in a hidden folder `.NAME.part` beside `folder`, and
    the next call resumes it. That folder is gone after success. One process at a time works in it: a second one
    waits, rather than download the same gigabytes again beside the first, and then finds the content, or resumes the
    download itself.

    Args:
        urls: Places of the same archive (or `.pb` file), tried in turn; those first of which a part is here.
        folder: Holds the content afterwards, and `source.json` with `url`, `archive_sha256` and `content_sha256`. It
            appears with one rename.
        words: What to call it in messages.
        report: Called with one line for each download that begins, is tried again, or is waited for.
        sleep: Waits for so many seconds, before a connection that was cut is tried again.
        pins: The published sums, by URL.
        name: Under which the sum is recorded, if all places are to give the same; None records it under its URL.

    Returns:
        `folder`.

    Raises:
        UserError: A URL is not of https, no place gave anything whole, what was fetched earlier has changed or is
            another now, or the folder cannot be written.
    """
    _refuse_plain(urls, words)
    if _is_fetched(folder, words, name):
        return folder
    with _part_of(folder, words, report) as part:
        if _is_fetched(folder, words, name):  # by the process that was waited for
            return folder
        problems: dict[str, list[str]] = {}  # what went wrong -> hosts
        archives = {
            url: part / short_hash(url) / f"archive{PurePosixPath(url.partition('?')[0]).suffix}" for url in urls
        }
        for url in sorted(urls, key=lambda url: not can_continue(url, archives[url])):
            archives[url].parent.mkdir(exist_ok=True)
            files.remove_leftovers(archives[url].parent)
            problem = download(url, archives[url], report, sleep)
            if problem is None:
                problem = _take(archives[url], part / "content", (pins or {}).get(url), report)
                if problem is None:
                    source = _source_of(part / "content", url, archives[url])
                    _record(name or url, source["content_sha256"], archives[url], words)
                    _give_name(part / "content", folder, source, words)
                    return folder
                forget(archives[url])
            problems.setdefault(problem, []).append(urllib.parse.urlsplit(url).netloc)
        kept = any(can_continue(url, archive) for url, archive in archives.items())
    listed = "; ".join(f"{problem} ({', '.join(dict.fromkeys(hosts))})" for problem, hosts in problems.items())
    raise UserError(
        f"{words.subject} is downloaded once, and that failed (addresses tried: {len(urls)}): {listed}. "
        f"Try again with a connection{' (what has come so far is kept)' if kept else ''}, or {words.way_out}."
    )


def install(archive: Path, folder: Path, words: Words) -> None:
    """Unpacks an archive that is here already into a folder that `is_cached` from then on.

    Raises:
        UserError: It is no archive, or the folder cannot be written.
    """
    with _part_of(folder, words) as part:
        if not is_cached(folder, words):
            problem = unpack(archive, part / "content")
            if problem:
                raise UserError(
                    f"A {words.noun} comes as {words.formats}. Received {archive}: {problem}. "
                    "Download it again or name another file."
                )
            _give_name(part / "content", folder, _source_of(part / "content", str(archive), archive), words)


def is_cached(folder: Path, words: Words) -> bool:
    """Whether a folder holds what `fetch` or `install` once put there.

    Raises:
        UserError: There is something else in it.
    """
    if not folder.exists():
        return False
    try:
        recorded = files.read_json(folder / RECORD)["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        recorded = "unknown"
    found = content_checksum(folder)
    if found != recorded:
        raise UserError(
            f"A cached {words.noun} must be as it was fetched, but {folder} has changed: its sha256 was "
            f"{recorded[:12]} and is {found[:12]}. Remove that folder, then it is fetched again."
        )
    return True


def _refuse_plain(urls: Iterable[str], words: Words) -> None:
    for url in urls:
        if not is_safe(url):
            raise UserError(
                f"A {words.noun} is fetched by https, for what comes by http anybody on the line can change; http is "
                f"for this machine itself (localhost, 127.0.0.1, [::1]). Received {url}. Give an https URL, or "
                f"{words.way_out}."
            )


def _is_fetched(folder: Path, words: Words, name: str | None) -> bool:
    """As `is_cached`, for what `fetch` put there: it must have come by https, and have the recorded sum if any."""
    if not is_cached(folder, words):
        return False
    source = files.read_json(folder / RECORD)
    url = source.get("url", "an unknown place")
    if not is_safe(url):
        raise UserError(
            f"A {words.noun} must have come by https, but {folder} came from {url}. Remove that folder, then it is "
            "fetched again."
        )
    compare(name or url, source["content_sha256"], words.noun)
    with contextlib.suppress(OSError):  # a cache that cannot be written is still good to read
        record(name or url, source["content_sha256"], words.noun)  # which earlier versions did not
    return True


def _take(archive: Path, content: Path, pin: Pin | None, report: Callable[[str], None]) -> str | None:
    """Unpacks, and compares with the published sum if there is one. Returns what is wrong in a few words, or None."""
    shutil.rmtree(content, ignore_errors=True)  # what another place gave before it failed
    if pin is None:
        return unpack(archive, content)
    if pin.file:
        problem = unpack(archive, content, pin.file)
        if problem:
            return problem
    found = content_checksum(content / pin.file if pin.file else archive)
    if found != pin.sha256:
        problem = f"its sha256 is {found[:12]}, but {pin.sha256[:12]} was published"
        report(f"Skipped this place: {problem}")
        return problem
    return None if pin.file else unpack(archive, content)


def _source_of(content: Path, url: str, archive: Path) -> dict[str, str]:
    return {"url": url, "archive_sha256": content_checksum(archive), "content_sha256": content_checksum(content)}


def _record(name: str, sha256: str, archive: Path, words: Words) -> None:
    """Records the content's sum. What is not as recorded is not kept."""
    try:
        record(name, sha256, words.noun)
    except UserError:
        forget(archive)
        raise


def content_checksum(path: Path) -> str:
    """sha256 (hex) of a file, or of the names and contents of all files in a folder but its `source.json`."""
    if path.is_file():
        return files.checksum(path)
    digest = hashlib.sha256()
    content = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(content.keys() - {RECORD}):
        digest.update(f"{files.checksum(content[name])} {name}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _part_of(folder: Path, words: Words, report: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """The hidden folder for what becomes `folder`, on the same file system, for this process alone.

    Afterwards downloads that can be resumed stay in it; with nothing of the kind it is removed.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        with _lock(part, words, report):
            try:
                yield part
            finally:
                _tidy(part, done=folder.exists())
    except OSError as error:
        raise _not_writable(folder, words, error) from error


def _lock(part: Path, words: Words, report: Callable[[str], None]) -> contextlib.ExitStack:
    """Makes the folder and waits for its lock, which lasts until the stack is closed."""
    wait = False
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.suppress(FileExistsError):  # not exist_ok, which fails if the folder goes at that moment
            part.mkdir()
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(files.locked(part / "lock", wait))
                # Whoever held it may have removed it with the folder: then it keeps nobody out any more.
                if os.path.samestat(os.fstat(descriptor), os.stat(part / "lock")):
                    return stack.pop_all()
            except BlockingIOError:
                report(f"Another process is fetching this {words.noun}; waiting for it")
                wait = True
            except FileNotFoundError:  # it went with the folder
                pass


def _tidy(part: Path, done: bool) -> None:
    """Removes what is of no more use. The lock goes last, for without it another process may be at work at once."""
    for path in part.iterdir():
        if path.is_dir() and (done or path.name == "content" or not any(path.iterdir())):
            shutil.rmtree(path, ignore_errors=True)
    if not any(path.is_dir() for path in part.iterdir()):
        (part / "lock").unlink()
        with contextlib.suppress(OSError):
            part.rmdir()


def _give_name(content: Path, folder: Path, source: dict[str, str], words: Words) -> None:
    """Adds where it is from and renames `content` to `folder`; if another process was first, its result stays."""
    try:
        files.write_whole(content / RECORD, json.dumps(source, indent=2) + "\n")
        os.rename(content, folder)
        files.sync_path(folder.parent)
    except OSError as error:
        if not is_cached(folder, words):
            raise _not_writable(folder, words, error) from error


def short_hash(text: str) -> str:
    """Part of a folder's name that stands for a URL or a path."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _not_writable(folder: Path, words: Words, error: OSError) -> UserError:
    return UserError(
        f"A {words.noun} is unpacked into the cache, but {folder} could not be written: {error.strerror}. "
        "Make room there, or set XDG_CACHE_HOME to another folder."
    )
