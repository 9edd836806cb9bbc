"""Archives of five formats -> files on disk, synced; nothing is written outside the folder, or beyond the limits."""

import concurrent.futures
import errno
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from p2p_keras.system import files
from p2p_keras.system.limits import MAX_FILES, MAX_READ_BYTES, unpacked_bytes
from p2p_keras.system.progress import ProgressLine

_MB = 1 << 20


class _TooLargeError(Exception):
    """An archive goes beyond a limit."""

    def __init__(self, most: int) -> None:
        super().__init__(f"it would unpack to more than {most // _MB:,} MB, which is out of proportion to its size")


class _Limited:
    """A stream of which no more is read than is allowed, at once and in all; for tarfile and zipfile.

    tarfile reads a name, and zipfile the list of all files, as large as the archive says they are.

    Args:
        stream: As it is decompressed.
        most: Bytes of it.
    """

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most = stream, most
        self.tell, self.seekable = stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(min(size, MAX_READ_BYTES + 1) if size >= 0 else MAX_READ_BYTES + 1)
        if len(content) > MAX_READ_BYTES:
            raise ValueError(f"its list of files is larger than {MAX_READ_BYTES // _MB} MB")
        if self._stream.tell() > self._most:
            raise _TooLargeError(self._most)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset > self._most:
            raise _TooLargeError(self._most)
        return self._stream.seek(offset, whence)


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
        lacks the wanted one, or goes beyond `system.limits`.

    Raises:
        OSError: The disk is full.
    """
    size = archive.stat().st_size
    written, done, line = [], 0, ProgressLine(size // _MB, "MB")
    most = size if archive.suffix == ".pb" else unpacked_bytes(size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(archive, "rb") as raw:
            for number, (name, bytes_, content) in enumerate(_files_of(raw, archive, most)):
                if files.leads_out(name):
                    return f"it would write outside its folder, to {name}"
                if number == MAX_FILES:
                    return f"it holds more than {MAX_FILES:,} files"
                if only is not None and PurePosixPath(name) != PurePosixPath(only):
                    continue
                done += bytes_
                if done > most:  # a sparse file may be of any size
                    raise _TooLargeError(most)
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
        for _ in threads.map(files.sync_path, written):
            pass
    return None if written else f"there is no {only or 'file'} in it"


def _files_of(raw: IO[bytes], archive: Path, most: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size in bytes and content of each regular file; the folders follow from the names."""
    if archive.suffix == ".pb":
        yield archive.name, most, raw
    elif tar := _open_tar(raw, most):
        yield from _files_of_tar(tar)
    elif zipfile.is_zipfile(raw):
        yield from _files_of_zip(raw, most)
    else:
        raise ValueError("it is no archive")


def _open_tar(raw: IO[bytes], most: int) -> tarfile.TarFile | None:
    """None if it is no tar archive, however compressed."""
    try:
        return tarfile.open(fileobj=_Limited(_decompressed(raw), most), mode="r:")
    except (tarfile.ReadError, EOFError, OSError):
        raw.seek(0)
        return None


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    """The stream in a compressed file, or the file itself. tarfile's own way leaves no room for a limit."""
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=raw)
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(raw)
    if head.startswith((b"\xfd7zXZ\0", b"]\0\0")):
        import lzma

        return lzma.LZMAFile(raw)
    return raw


def _files_of_tar(tar: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    names = 0
    while member := tar.next():
        tar.members.clear()  # of which it would remember each
        names += 1
        if names > 2 * MAX_FILES or member.size < 0:  # with folders and links; a negative one would lead back for ever
            raise ValueError(f"it holds more than {2 * MAX_FILES:,} names" if member.size >= 0 else "it is damaged")
        if member.isreg():
            yield member.name, member.size, tar.extractfile(member)
    # tarfile stops at the archive's end mark, and takes a damaged name for one; a compressed file's own
    # checksum comes after that, and is compared by whoever reads so far.
    while tar.fileobj.read(_MB):
        pass


def _files_of_zip(raw: IO[bytes], most: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(_Limited(raw, most)) as zipped:
        for info in zipped.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Of the others Python decodes all that it has read at once, however large that becomes.
                raise ValueError(f"{info.filename} is compressed otherwise than by deflate")
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                with zipped.open(info) as file:
                    yield info.filename, info.file_size, file
