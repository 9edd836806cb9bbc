"""Archives of five formats -> files on disk, synced; nothing is written outside the folder."""

import concurrent.futures
import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from p2p_keras.system import files
from p2p_keras.system.progress import ProgressLine

_MB = 1 << 20


def unpack(archive: Path, folder: Path, only: str | None = None) -> str | None:
    """Unpacks a tar archive (however compressed) or a zip; a `.pb` file is copied.

    Only regular files are written. Links are skipped, so that nothing can be written through them. It is our own
    loop because `tarfile`'s `filter` is missing in some Python 3.10 and 3.11.

    Args:
        archive: The file.
        folder: Made if need be. After an error it may hold some of the files.
        only: The one file that is wanted; None for all.

    Returns:
        None, or what is wrong with the archive in a few words: it is none, is damaged, names a file outside the folder,
        or lacks the wanted one.

    Raises:
        OSError: The disk is full.
    """
    written, line = [], ProgressLine(archive.stat().st_size // _MB, "MB")
    try:
        with open(archive, "rb") as raw:
            for name, content in _files_of(raw, archive):
                if files.leads_out(name):
                    return f"it would write outside its folder, to {name}"
                if only is not None and PurePosixPath(name) != PurePosixPath(only):
                    continue
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    shutil.copyfileobj(content, file, _MB)
                written.append(path)
                line.update(raw.tell() // _MB, "unpacking")
    except Exception as error:  # the decoders of five formats raise as many kinds, and one may be missing from Python
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return str(error) or type(error).__name__
    finally:
        line.clear()
    # Together at the end, for one after the other a hundred thousand files take minutes, on a turning disk an hour.
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(files.sync_path, written))
    return None if written else f"there is no {only or 'file'} in it"


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
