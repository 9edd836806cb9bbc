import errno
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest
from conftest import Page, at_once, link, make_tar, quiet, raise_, tree, wait_for

from p2p_keras.errors import UserError
from p2p_keras.system import fetch

WORDS = fetch.Words("thing", "The thing", "a tar or zip archive", "get it elsewhere and give it with --thing=FILE")
FILES = {"net/saved_model.pb": b"graph" * 1000, "net/variables/a.index": b"weights", "README": b""}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


@pytest.fixture
def waits():
    """The pauses that were made, in seconds; none takes time."""
    return []


def test_the_first_place_that_gives_something_whole_counts(server, waits, tmp_path):
    archive = make_tar(tmp_path / "net.tgz", FILES)
    content = archive.read_bytes()
    server.pages = {
        "/cut": Page(content[:-100], claims=len(content)),
        "/page": Page(b"<html>log in</html>"),
        "/good": Page(content),
    }
    urls = [f"{server.url}/{name}" for name in ("missing", "cut", "page", "good?format=compressed", "never")]
    told = []
    folder = fetch.fetch(urls, tmp_path / "cache" / "net", WORDS, told.append, waits.append)
    assert server.asked == ["/missing", *["/cut"] * 5, "/page", "/good?format=compressed"]
    assert waits == [1, 2, 4, 8]
    begun = [line for line in told if "trying again" not in line]
    assert begun == [f"Downloading {url}" for url in urls[1:4]]  # the first is not there to begin with
    record = json.loads((folder / "source.json").read_text())
    assert record == {
        "url": urls[3],
        "archive_sha256": fetch.checksum(archive),
        "content_sha256": fetch.checksum(folder),
    }
    found = tree(folder)
    del found["source.json"]
    assert found == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["net"]  # nothing half-written beside it


def test_a_second_call_needs_no_server(server, tmp_path):
    server.pages = {"/net.tgz": Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())}
    folder = fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, quiet)
    assert fetch.fetch([], folder, WORDS, pytest.fail) == folder
    assert len(server.asked) == 1


def test_a_length_that_is_not_told_is_no_error(server, tmp_path):
    server.pages = {"/net.pb": Page(b"graph", claims=None)}
    folder = fetch.fetch([f"{server.url}/net.pb?download=1"], tmp_path / "net", WORDS, quiet)
    assert tree(folder).keys() == {"archive.pb", "source.json"}


def test_what_was_fetched_and_has_changed_is_an_error(server, tmp_path):
    server.pages = {"/net.tgz": Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())}
    folder = fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, quiet)
    (folder / "net" / "variables" / "a.index").write_bytes(b"weighty")
    with pytest.raises(UserError, match=rf"{folder} has changed: its sha256 was .* and is .*Remove that folder"):
        fetch.fetch([f"{server.url}/net.tgz"], folder, WORDS)


def test_a_folder_of_other_content_is_not_taken_for_what_was_fetched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"sha256 was unknown and is .*Remove that folder"):
        fetch.fetch(["http://127.0.0.1:9/net.tgz"], tmp_path, WORDS)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_where_no_place_helps_each_reason_is_named_once(server, waits, tmp_path):
    server.pages = {"/cut": Page(b"1234", claims=10), "/page": Page(b"<html>")}
    urls = [f"{server.url}/{name}" for name in ("missing", "cut", "page")]
    urls += ["http://127.0.0.1:1/closed", "gopher://other.example/net", "http://third.example:x/", urls[0]]
    with pytest.raises(UserError) as raised:
        fetch.fetch(urls, tmp_path / "cache" / "net", WORDS, quiet, waits.append)
    text = str(raised.value)
    for reason in (
        f"404 Not Found ({server.url[7:]})",
        "only 4 of 10 bytes came",
        "unknown url type: gopher (other.ex",
    ):
        assert text.count(reason) == 1, text
    assert "(third.example:x)" in text
    assert "none of 7 places" in text
    assert text.endswith("give it with --thing=FILE.")
    assert list((tmp_path / "cache").iterdir()) == []


def archive_of(tmp_path, size=300_000):
    """A compressed archive of about `size` bytes, since noise does not get smaller."""
    return make_tar(tmp_path / "net.tgz", {"net/noise": random.Random(0).randbytes(size)}).read_bytes()


def test_a_download_that_was_cut_off_is_kept_and_gone_on_from(server, waits, tmp_path):
    content = archive_of(tmp_path)
    page = server.pages["/net.tgz"] = Page(content, etag='"1"', cuts=[100_000, *[0] * 4])
    with pytest.raises(UserError, match=r"with a connection \(what has come so far is kept\), or get it elsewhere"):
        fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, quiet, waits.append)
    [place] = [path for path in (tmp_path / ".net.part").iterdir() if path.is_dir()]
    assert (place / "archive.tgz").read_bytes() == content[:100_000]
    assert json.loads((place / "archive.tgz.json").read_text()) == {
        "url": f"{server.url}/net.tgz",
        "validator": page.etag,
        "length": len(content),
    }
    del server.ranges[:]
    told = []
    folder = fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, told.append)
    assert server.ranges == [("bytes=100000-", '"1"')]
    assert told == [f"Downloading {server.url}/net.tgz, from 0.1 MB on"]
    assert json.loads((folder / "source.json").read_text())["archive_sha256"] == fetch.checksum(tmp_path / "net.tgz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_the_place_of_which_a_part_is_here_is_asked_first(server, waits, tmp_path):
    content = archive_of(tmp_path)
    server.pages["/b.tgz"] = Page(content, etag='"1"', cuts=[100_000, *[0] * 4])
    urls = [f"{server.url}/{name}.tgz" for name in "abc"]
    with pytest.raises(UserError):
        fetch.fetch(urls, tmp_path / "net", WORDS, quiet, waits.append)
    server.pages["/a.tgz"] = Page(content)
    del server.asked[:]
    fetch.fetch(urls, tmp_path / "net", WORDS, quiet)
    assert server.asked == ["/b.tgz"]


def test_a_killed_process_leaves_a_part_that_is_gone_on_from(server, tmp_path):
    content = archive_of(tmp_path)
    server.pages["/net.tgz"] = Page(content, etag='"1"', stalls_at=200_000)
    code = (
        "import sys, pathlib; from p2p_keras.system.fetch import *\n"
        "fetch([sys.argv[1]], pathlib.Path(sys.argv[2]), Words('', '', '', ''))"
    )
    url, part = f"{server.url}/net.tgz", tmp_path / ".net.part"
    command = [sys.executable, "-c", code, url, str(tmp_path / "net")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: any(path.stat().st_size > 100_000 for path in part.glob("*/archive.tgz")), process)
        process.kill()
    server.pages["/net.tgz"].stalls_at = None
    fetch.fetch([url], tmp_path / "net", WORDS, quiet)
    [_, (wanted, condition)] = server.ranges
    assert 100_000 < int(wanted[len("bytes=") : -1]) <= 200_000
    assert condition == '"1"'
    assert not part.exists()


def test_an_archive_that_had_come_whole_is_not_asked_for_again(server, tmp_path, monkeypatch):
    server.pages["/net.tgz"] = Page(archive_of(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(fetch.shutil, "copyfileobj", lambda *args: raise_(full))
    with pytest.raises(UserError, match=r"A thing is unpacked .*/net could not be written: No space left.*Make room"):
        fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, quiet)
    monkeypatch.undo()
    fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, pytest.fail)
    assert len(server.asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_a_damaged_archive_is_not_kept(server, tmp_path):
    content = archive_of(tmp_path)
    server.pages["/net.tgz"] = Page(content[:-10_000], etag='"1"')
    for _ in range(2):
        with pytest.raises(UserError, match="Try again with a connection, or get"):
            fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, quiet)
    assert server.ranges == [(None, None)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["net.tgz"]


def test_a_compressed_archives_own_checksum_is_compared(tmp_path):
    """A stored block shows damage nowhere else: the numbers are plain bytes in the file."""
    path = tmp_path / "net.tgz"
    with gzip.open(path, "wb", compresslevel=0) as file:
        file.write(make_tar(tmp_path / "net.tar", {"a": b"0123456789" * 10}, "w").read_bytes())
    content = path.read_bytes()
    assert content.count(b"0123456789") == 10
    path.write_bytes(content.replace(b"0123456789", b"0123456780", 1))
    with pytest.raises(UserError, match=r"net.tgz: CRC check failed"):
        fetch.unpack(path, tmp_path / "out", WORDS)


class Told(list):
    """What was reported; `all_others_wait` is set when so many have said that they wait for another."""

    def __init__(self, others):
        super().__init__()
        self.others, self.all_others_wait = others, threading.Event()

    def append(self, line):
        super().append(line)
        if sum(line.startswith("Another process") for line in self) == self.others:
            self.all_others_wait.set()


def test_of_two_at_once_one_downloads_and_the_other_waits(server, tmp_path):
    told = Told(others=2)
    server.pages["/net.tgz"] = Page(archive_of(tmp_path), gate=told.all_others_wait)

    def work():
        return fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, told.append)

    assert at_once(work, work, work) == [tmp_path / "net"] * 3
    assert server.asked == ["/net.tgz"]
    assert sorted(told) == [
        "Another process is fetching this thing; waiting for it",
        "Another process is fetching this thing; waiting for it",
        f"Downloading {server.url}/net.tgz",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_who_waited_in_vain_goes_on_from_what_has_come(server, waits, tmp_path):
    content, told = archive_of(tmp_path), Told(others=1)
    server.pages["/net.tgz"] = Page(content, etag='"1"', cuts=[100_000, *[0] * 4], gate=told.all_others_wait)

    def work():
        return fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, told.append, waits.append)

    failed, folder = sorted(at_once(work, work), key=lambda result: not isinstance(result, UserError))
    assert "what has come so far is kept" in str(failed)
    assert folder == tmp_path / "net"
    assert server.ranges == [(None, None), *[("bytes=100000-", '"1"')] * 5]


def test_many_at_once_share_one_lock_though_it_comes_and_goes(tmp_path):
    """Every turn removes the folder with the lock in it, while others already wait for that very file."""
    inside, most = [], []

    def work():
        for _ in range(20):
            with fetch._part_of(tmp_path / "net", WORDS) as part:
                inside.append(part)
                most.append(len(inside))
                (part / "place").mkdir()
                time.sleep(0.0005)
                (part / "place").rmdir()
                inside.pop()

    assert at_once(*[work] * 6) == [None] * 6
    assert most == [1] * 120
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_when_the_name_is_given_stays(server, tmp_path, monkeypatch):
    """Only where locks do nothing, as on some network file systems."""
    server.pages = {"/net.tgz": Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())}
    folder, rename = tmp_path / "net", os.rename

    def other_was_first(source, target):
        shutil.copytree(source, target)
        record = json.loads((target / "source.json").read_text())
        (target / "source.json").write_text(json.dumps({**record, "url": "theirs"}))
        rename(source, target)

    monkeypatch.setattr(fetch.os, "rename", other_was_first)
    assert fetch.fetch([f"{server.url}/net.tgz"], folder, WORDS, quiet) == folder
    assert json.loads((folder / "source.json").read_text())["url"] == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_an_archive_is_installed_once(tmp_path):
    archive = make_tar(tmp_path / "net.tgz", FILES)
    for _ in range(2):
        fetch.install(archive, tmp_path / "net", WORDS)
    assert fetch.is_cached(tmp_path / "net", WORDS)
    assert json.loads((tmp_path / "net" / "source.json").read_text())["url"] == str(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/net could not be written: .*XDG_CACHE_HOME"):
        fetch.fetch(["http://127.0.0.1:1/net.tgz"], tmp_path / "file" / "net", WORDS)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_are_unpacked(tmp_path, mode):
    fetch.unpack(make_tar(tmp_path / "archive", FILES, mode), tmp_path / "out", WORDS)
    assert tree(tmp_path / "out") == FILES


def test_zip_archives_are_unpacked(tmp_path):
    fetch.unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "out", WORDS)
    assert tree(tmp_path / "out") == FILES


def test_a_frozen_graph_is_copied(tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"graph")
    fetch.unpack(tmp_path / "graph.pb", tmp_path / "out", WORDS)
    assert tree(tmp_path / "out") == {"graph.pb": b"graph"}


@pytest.mark.parametrize("name", ["../outside", "net/../../outside", "/tmp/p2p_keras_outside"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_nothing_is_written_outside_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"inside": b"", name: b"evil"})
    with pytest.raises(UserError, match=rf"{archive}: it would write outside its folder, to {name}\. Download it"):
        fetch.unpack(archive, tmp_path / "deep" / "out", WORDS)
    assert set(tree(tmp_path)) == {"archive", "deep/out/inside"}


def test_links_are_passed_over(tmp_path):
    links = [link("to_parent", ".."), link("hard", "/etc/passwd", tarfile.LNKTYPE), link("pipe", "", tarfile.FIFOTYPE)]
    fetch.unpack(make_tar(tmp_path / "tar", {"inside": b""}, extra=links), tmp_path / "out", WORDS)
    zip_link = zipfile.ZipInfo("to_parent")
    zip_link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(make_zip(tmp_path / "zip", {"inside": b""}), "a") as zipped:
        zipped.writestr(zip_link, "..")
    fetch.unpack(tmp_path / "zip", tmp_path / "out_zip", WORDS)
    for folder in ("out", "out_zip"):
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["inside"]


def test_nothing_is_written_through_a_link(tmp_path):
    """The name lies inside, but by way of a link of the same archive it would not."""
    archive = make_tar(tmp_path / "archive", {"net/evil": b"evil"}, extra=[link("net", str(tmp_path))])
    fetch.unpack(archive, tmp_path / "out", WORDS)
    assert tree(tmp_path / "out") == {"net/evil": b"evil"}
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b" + b"x" * 600])
def test_no_archive_is_an_error(tmp_path, content):
    (tmp_path / "net.tgz").write_bytes(content)
    with pytest.raises(UserError, match=rf"tar or zip.*Received {tmp_path}/net.tgz: it is no archive. Download"):
        fetch.unpack(tmp_path / "net.tgz", tmp_path / "out", WORDS)


def test_a_damaged_archive_is_an_error(tmp_path):
    content = make_tar(tmp_path / "net.tgz", {"a": bytes(range(256)) * 4000}).read_bytes()
    (tmp_path / "net.tgz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"Received .*net.tgz: .*Download it again"):
        fetch.unpack(tmp_path / "net.tgz", tmp_path / "out", WORDS)


def test_an_archive_without_files_is_an_error(tmp_path):
    with pytest.raises(UserError, match="there is no file in it"):
        fetch.unpack(make_tar(tmp_path / "net.tgz", {}), tmp_path / "out", WORDS)


def test_a_folders_checksum_is_of_names_and_contents(tmp_path):
    def checksum(files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return fetch.checksum(folder)

    known = checksum({"a": b"1", "b/c": b"2"})
    assert known == checksum({"b/c": b"2", "a": b"1", "source.json": b"{}"})
    assert known != checksum({"a": b"2", "b/c": b"1"})
    assert known != checksum({"a": b"1", "b/d": b"2"})
    assert known != checksum({"a": b"1"})


def test_a_files_checksum_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4's own example
    assert fetch.checksum(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
