"""Files by URL, as gs://bucket/data/manifest.csv: read through TensorFlow's own file systems, never written.

TensorFlow is loaded by the first file that is looked at.
"""

import contextlib
import dataclasses
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from p2p_keras.errors import UserError
from p2p_keras.system import files


def is_url(place: object) -> bool:
    """Whether a text begins with a scheme, as gs://."""
    return re.match(r"[a-z][a-z0-9+.-]*://", str(place), re.IGNORECASE) is not None


@dataclasses.dataclass(frozen=True)
class Url:
    """A file or a folder by URL, with what of a `pathlib.Path` is asked of a data set.

    Everything that looks at it raises FileNotFoundError where there is nothing, and UserError where it cannot look.
    """

    text: str

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.text

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        try:
            return self.stat() is not None
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.exists() and not self.stat().is_directory

    def is_dir(self) -> bool:
        """Whether there is a folder: where there are no folders, anything whose name begins so, with a slash."""
        return self.exists() and self.stat().is_directory

    def read_bytes(self) -> bytes:
        """All of the file."""
        with self.open() as file:
            return file.read()

    def stat(self) -> Any:
        """TensorFlow's statistics: length in bytes, mtime_nsec, is_directory."""
        with self._in_words() as gfile:
            return gfile.stat(self.text)

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file, to be read."""
        with self._in_words() as gfile, gfile.GFile(self.text, "rb") as file:
            yield file

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[Any]:
        """Gives `tf.io.gfile`, and says in words what goes wrong with it."""
        import tensorflow as tf

        scheme = self.text.partition("://")[0]
        if scheme not in tf.io.gfile.get_registered_schemes():
            with contextlib.suppress(ImportError, NotImplementedError, tf.errors.OpError):
                importlib.import_module("tensorflow_io")  # which registers more, s3 among them
        known = sorted(filter(None, tf.io.gfile.get_registered_schemes()))
        if scheme not in known:
            raise UserError(
                f"TensorFlow reads URLs that begin with {', '.join(f'{name}://' for name in known)}; the package "
                f"tensorflow-io knows more. Received: {self}. Install it, or copy the data set to a disk."
            )
        try:
            yield tf.io.gfile
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(2, "No such file or folder", self.text) from error
        except tf.errors.OpError as error:
            raise UserError(
                f"What is given by URL must be readable from here. {self}: {' '.join(error.message.split())}. Look at "
                "its spelling, the credentials and the network; then run the same again."
            ) from error


@contextlib.contextmanager
def store_errors_in_words() -> Iterator[None]:
    """Says in words what goes wrong with URLs that TensorFlow's own operations read.

    Raises:
        UserError: Something given by URL could not be read.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        schemes = "|".join(re.escape(name) for name in tf.io.gfile.get_registered_schemes() if name not in ("", "file"))
        told = re.search(rf"(.*\n\s+)?.*\b({schemes})://.*", error.message)  # "no access\n\t when reading gs://x"
        if not told:
            raise
        raise UserError(
            f"What is given by URL must be readable from here. {' '.join(told[0].split())}. Look at the credentials "
            "and the network; the same command continues."
        ) from error


def to_folder(place: str | os.PathLike | Url) -> Path | Url:
    """What a user gave for a folder. A URL must not become a `Path`, which would make gs:/x of gs://x."""
    if isinstance(place, Url):
        return place
    return Url(str(place)) if is_url(place) else Path(place)


def absolute(place: str) -> str:
    """The same place, wherever the next command is started."""
    return place if is_url(place) else str(Path(place).absolute())


def open_file(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Opens a file for reading, by its path or URL."""
    return Url(path).open() if is_url(path) else open(path, "rb")


def read_json(path: Path | Url) -> Any:
    """As `files.read_json`, which see, of a path or URL."""
    if not isinstance(path, Url):
        return files.read_json(path)
    with path.open() as file:
        return files.parse_json(file)


def file_size(path: str | Path | Url) -> int:
    """In bytes, by a path or URL; -1 if it is not there."""
    try:
        return Url(str(path)).stat().length if is_url(path) else os.stat(path).st_size
    except OSError:
        return -1


def changed_at(path: str) -> int:
    """When a file was last written, in nanoseconds since 1970, by its path or URL."""
    return Url(path).stat().mtime_nsec if is_url(path) else os.stat(path).st_mtime_ns


def refuse_url(name: str, value: str | os.PathLike) -> None:
    """For what must lie on a disk.

    Args:
        name: Of the flag or argument, as the user knows it.
        value: What was given.

    Raises:
        UserError: It is a URL.
    """
    if is_url(value):
        raise UserError(
            f"{name} is a path on a disk; by URL only a data set is read, by p2p-train and p2p-eval (--data_dir). "
            f"Received: {value}. Name a path, and copy what is to be there, or what was made there."
        )
