import gzip
import tarfile
import zipfile

import pytest
from conftest import link, make_tar

from p2p_keras.system import limits
from p2p_keras.system.unpack import unpack

FILES = {"net/saved_model.pb": b"graph" * 1000, "net/variables/a.index": b"weights", "README": b""}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_are_unpacked(tmp_path, mode):
    assert unpack(make_tar(tmp_path / "archive", FILES, mode), tmp_path / "out") is None
    assert read_all(tmp_path / "out") == FILES


def test_zip_archives_are_unpacked(tmp_path):
    unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "out")
    assert read_all(tmp_path / "out") == FILES


def test_a_frozen_graph_is_copied(tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"graph")
    unpack(tmp_path / "graph.pb", tmp_path / "out")
    assert read_all(tmp_path / "out") == {"graph.pb": b"graph"}


@pytest.mark.parametrize("name", ["../outside", "net/../../outside", "/tmp/p2p_keras_outside"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_nothing_is_written_outside_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"inside": b"", name: b"evil"})
    assert unpack(archive, tmp_path / "deep" / "out") == f"it would write outside its folder, to {name}"
    assert set(read_all(tmp_path)) == {"archive", "deep/out/inside"}


def test_links_are_passed_over(tmp_path):
    links = [link("to_parent", ".."), link("hard", "/etc/passwd", tarfile.LNKTYPE), link("pipe", "", tarfile.FIFOTYPE)]
    unpack(make_tar(tmp_path / "tar", {"inside": b""}, extra=links), tmp_path / "out")
    zip_link = zipfile.ZipInfo("to_parent")
    zip_link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(make_zip(tmp_path / "zip", {"inside": b""}), "a") as zipped:
        zipped.writestr(zip_link, "..")
    unpack(tmp_path / "zip", tmp_path / "out_zip")
    for folder in ("out", "out_zip"):
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["inside"]


def test_nothing_is_written_through_a_link(tmp_path):
    """The name lies inside, but by way of a link of the same archive it would not."""
    archive = make_tar(tmp_path / "archive", {"net/evil": b"evil"}, extra=[link("net", str(tmp_path))])
    unpack(archive, tmp_path / "out")
    assert read_all(tmp_path / "out") == {"net/evil": b"evil"}
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b" + b"x" * 600])
def test_no_archive_is_an_error(tmp_path, content):
    (tmp_path / "net.tgz").write_bytes(content)
    assert unpack(tmp_path / "net.tgz", tmp_path / "out") == "it is no archive"


def test_a_damaged_archive_is_an_error(tmp_path):
    content = make_tar(tmp_path / "net.tgz", {"a": bytes(range(256)) * 4000}).read_bytes()
    (tmp_path / "net.tgz").write_bytes(content[: len(content) // 2])
    assert "end-of-stream" in unpack(tmp_path / "net.tgz", tmp_path / "out")


def test_an_archive_without_files_is_an_error(tmp_path):
    assert unpack(make_tar(tmp_path / "net.tgz", {}), tmp_path / "out") == "there is no file in it"


def test_a_compressed_archives_own_checksum_is_compared(tmp_path):
    """A stored block shows damage nowhere else: the numbers are plain bytes in the file."""
    path = tmp_path / "net.tgz"
    with gzip.open(path, "wb", compresslevel=0) as file:
        file.write(make_tar(tmp_path / "net.tar", {"a": b"0123456789" * 10}, "w").read_bytes())
    content = path.read_bytes()
    assert content.count(b"0123456789") == 10
    path.write_bytes(content.replace(b"0123456789", b"0123456780", 1))
    assert unpack(path, tmp_path / "out").startswith("CRC check failed")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_what_is_out_of_proportion_to_the_archive_is_not_unpacked(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(limits, "FREE_EXPANSION_BYTES", 100_000)
    archive = make_tar(tmp_path / "archive", {"a": bytes(200_000)}, mode)
    assert "out of proportion" in unpack(archive, tmp_path / "out")
    assert read_all(tmp_path / "out") == {}


def test_a_zip_out_of_proportion_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE_EXPANSION_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in "abc":  # the third goes beyond
            zipped.writestr(name, bytes(40_000))
    assert "out of proportion" in unpack(tmp_path / "archive", tmp_path / "out")
    assert sorted(read_all(tmp_path / "out")) == ["a", "b"]


def test_a_sparse_file_of_a_terabyte_is_not_unpacked(tmp_path):
    """Two kilobytes, without any compression."""
    header = bytearray(tarfile.TarInfo("sparse").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    (tmp_path / "archive").write_bytes(_with_sum(header) + bytes(1024))
    assert "out of proportion" in unpack(tmp_path / "archive", tmp_path / "out")
    assert read_all(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_any_length_is_not_read(tmp_path, monkeypatch, kind):
    """tarfile reads it as a whole: two gigabytes of memory for an archive of nine megabytes."""
    monkeypatch.setattr("p2p_keras.system.unpack.MAX_READ_BYTES", 10_000)
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 20_000
    (tmp_path / "archive").write_bytes(gzip.compress(header.tobuf() + bytes(20_480 + 1024)))
    assert "list of files is larger" in unpack(tmp_path / "archive", tmp_path / "out")


def test_a_zip_with_a_list_of_any_length_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("p2p_keras.system.unpack.MAX_READ_BYTES", 100_000)  # more than the end of a zip, 64 kB
    archive = make_zip(tmp_path / "archive", {f"{number:050d}": b"" for number in range(1500)})
    assert "list of files is larger" in unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_an_archive_of_too_many_files_is_not_unpacked(tmp_path, monkeypatch, make):
    monkeypatch.setattr("p2p_keras.system.unpack.MAX_FILES", 3)
    archive = make(tmp_path / "three", dict.fromkeys("abc", b""))
    assert unpack(archive, tmp_path / "out") is None
    archive = make(tmp_path / "four", dict.fromkeys("abcd", b""))
    assert unpack(archive, tmp_path / "more") == "it holds more than 3 files"


def test_a_tar_of_too_many_folders_comes_to_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("p2p_keras.system.unpack.MAX_FILES", 3)
    folders = [link(f"folder{number}", "", tarfile.DIRTYPE) for number in range(7)]
    assert "more than 6 names" in unpack(make_tar(tmp_path / "tar", {}, extra=folders), tmp_path / "out")


def test_a_tar_that_leads_back_comes_to_an_end(tmp_path):
    """CVE-2025-8194: with a negative size tarfile reads the same header for ever."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-512 & 0xFFFF).to_bytes(2, "big")
    (tmp_path / "archive").write_bytes(_with_sum(header) + bytes(1024))
    assert unpack(tmp_path / "archive", tmp_path / "out")
    assert read_all(tmp_path / "out") == {}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_compressed_by_deflate(tmp_path, method):
    """Of the others zipfile keeps in memory all that what it has read at once becomes."""
    with zipfile.ZipFile(tmp_path / "archive", "w", method) as zipped:
        zipped.writestr("a", b"1")
    assert unpack(tmp_path / "archive", tmp_path / "out") == "a is compressed otherwise than by deflate"


def _with_sum(header: bytearray) -> bytes:
    """A tar header with its own checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
