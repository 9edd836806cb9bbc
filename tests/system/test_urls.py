"""Files by URL, on TensorFlow's file system in memory."""

import importlib
import os
import secrets
from pathlib import Path

import pytest
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.system import urls
from p2p_keras.system.urls import Url


@pytest.fixture
def folder() -> Url:
    """`ram://.../data`, which holds `a.txt`."""
    root = f"ram://{secrets.token_hex(8)}/data"
    tf.io.gfile.makedirs(root)
    with tf.io.gfile.GFile(f"{root}/a.txt", "wb") as file:
        file.write("grün\n".encode())
    return Url(root)


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("gs://bucket/data", True),
        ("S3://bucket", True),
        ("file:///tmp", True),
        ("hdfs+x.y-z://a", True),
        ("gs:/bucket", False),
        ("data", False),
        ("/tmp/gs://x", False),
        ("C:\\data", False),
        ("://x", False),
        ("", False),
    ],
)
def test_a_url_begins_with_a_scheme(place, is_one):
    assert urls.is_url(place) == is_one
    assert isinstance(urls.to_folder(place), Url if is_one else Path)
    assert str(urls.to_folder(place)) == (place if is_one else str(Path(place)))  # gs:// keeps both of its slashes
    assert urls.absolute(place) == (place if is_one else str(Path.cwd() / place))
    if not is_one:
        urls.refuse_url("--output", place)
        return
    with pytest.raises(UserError, match=f"--output is a path on a disk; .* Received: {urls.re.escape(place)}. Name"):
        urls.refuse_url("--output", place)


def test_it_is_looked_at_and_read_as_a_path_is(folder, tmp_path):
    (tmp_path / "a.txt").write_bytes("grün\n".encode())
    for root in (folder, Url(f"{folder}/"), Url(f"file://{tmp_path}"), tmp_path):
        assert (root / "a.txt").read_bytes() == "grün\n".encode()
        assert [(root / name).exists() for name in ("a.txt", "b.txt")] == [True, False]
        assert [(root / name).is_file() for name in ("a.txt", "b.txt")] == [True, False]
        assert [path.is_dir() for path in (root, root / "a.txt", root / "b.txt")] == [True, False, False]
        assert root.is_file() is False
        assert [urls.file_size(root / name) for name in ("a.txt", "b.txt")] == [6, -1]
        with urls.open_file(str(root / "a.txt")) as file:
            file.seek(2)
            assert file.read(3) == "ün".encode()
        with pytest.raises(FileNotFoundError, match=r"b\.txt"):
            (root / "b.txt").read_bytes()
        with pytest.raises(FileNotFoundError, match=r"b\.txt"), urls.open_file(str(root / "b.txt")) as file:
            file.read()
    os.utime(tmp_path / "a.txt", (7, 7))  # TensorFlow tells whole seconds
    assert urls.changed_at(f"file://{tmp_path}/a.txt") == urls.changed_at(str(tmp_path / "a.txt")) == 7 * 10**9


def test_an_unknown_scheme_is_refused_after_tensorflow_io_had_its_chance(monkeypatch):
    asked = []

    def absent(name: str):
        asked.append(name)
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match=r"begin with file://, gs://, .*ram://.* Received: nix://a/b\. Install it, or"):
        Url("nix://a/b").exists()
    assert asked == ["tensorflow_io"]


def test_a_scheme_that_tensorflow_io_brings_is_read(monkeypatch, folder):
    known = ["", "file"]
    monkeypatch.setattr(tf.io.gfile, "get_registered_schemes", lambda: list(known))
    monkeypatch.setattr(importlib, "import_module", lambda name: known.append("ram"))
    assert (folder / "a.txt").is_file()


def test_what_keeps_from_looking_is_said_in_one_line(monkeypatch, folder):
    def denied(path: str):
        raise tf.errors.PermissionDeniedError(None, None, "403:\n\t no access")

    monkeypatch.setattr(tf.io.gfile, "stat", denied)
    for look in (folder.exists, folder.is_dir, folder.is_file, lambda: urls.file_size(folder)):
        with pytest.raises(UserError, match=f"{folder}: 403: no access. Look at its spelling, the credentials and"):
            look()
