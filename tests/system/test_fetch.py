import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest
from conftest import Page, Redirect, at_once, make_tar, names, quiet, raise_, tree, wait_for

from p2p_keras.errors import UserError
from p2p_keras.system import fetch

WORDS = fetch.Words("thing", "The thing", "a tar or zip archive", "get it elsewhere and give it with --thing=FILE")
FILES = {"net/saved_model.pb": b"graph" * 1000, "net/variables/a.index": b"weights", "README": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The user's cache folder, in which the sums of what is fetched are recorded."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "p2p_keras"


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
        "archive_sha256": fetch.content_checksum(archive),
        "content_sha256": fetch.content_checksum(folder),
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
    urls += ["http://127.0.0.1:1/closed", "https://third.example:x/", urls[0]]
    with pytest.raises(UserError) as raised:
        fetch.fetch(urls, tmp_path / "cache" / "net", WORDS, quiet, waits.append)
    text = str(raised.value)
    for reason in (
        f"404 Not Found ({server.url[7:]})",
        "only 4 of 10 bytes came",
    ):
        assert text.count(reason) == 1, text
    assert "(third.example:x)" in text
    assert "(addresses tried: 6)" in text
    assert text.endswith("give it with --thing=FILE.")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_damaged_archive_held_is_not_mixed_with_the_next_places_content(server, tmp_path):
    evil = make_tar(
        tmp_path / "evil.tgz", {"net/extra": b"x", "noise": random.Random(0).randbytes(300_000)}
    ).read_bytes()
    good = make_tar(tmp_path / "net.tgz", FILES).read_bytes()
    server.pages = {"/evil.tgz": Page(evil[:-1000]), "/good.tgz": Page(good)}
    urls = [f"{server.url}/evil.tgz", f"{server.url}/good.tgz"]
    folder = fetch.fetch(urls, tmp_path / "net", WORDS, lambda line: None)
    assert tree(folder).keys() == {*FILES, "source.json"}


def archive_of(tmp_path, size=300_000):
    """A compressed archive of about `size` bytes, since noise does not get smaller."""
    return make_tar(tmp_path / "net.tgz", {"net/noise": random.Random(0).randbytes(size)}).read_bytes()


def test_a_download_that_was_cut_off_is_kept_and_resumed(server, waits, tmp_path):
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
    assert json.loads((folder / "source.json").read_text())["archive_sha256"] == fetch.content_checksum(
        tmp_path / "net.tgz"
    )
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


def test_a_killed_process_leaves_a_part_that_is_resumed(server, tmp_path):
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
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(fetch.shutil, "copyfileobj", lambda *args: raise_(full))
        with pytest.raises(
            UserError, match=r"A thing is unpacked .*/net could not be written: No space left.*Make room"
        ):
            fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, lambda line: None)
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


@pytest.mark.parametrize(
    ("content", "problem"), [(b"<html>", "it is no archive"), (None, "it would write outside its")]
)
def test_what_cannot_be_installed_is_an_error(tmp_path, content, problem):
    archive = make_tar(tmp_path / "net.tgz", {"../x": b"evil"})
    if content:
        archive.write_bytes(content)
    with pytest.raises(UserError, match=rf"as a tar or zip archive. Received {archive}: {problem}.*\. Download it"):
        fetch.install(archive, tmp_path / "net", WORDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.tgz"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/net could not be written: .*XDG_CACHE_HOME"):
        fetch.fetch(["http://127.0.0.1:1/net.tgz"], tmp_path / "file" / "net", WORDS)


def test_a_folders_checksum_is_of_names_and_contents(tmp_path):
    def checksum(files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return fetch.content_checksum(folder)

    known = checksum({"a": b"1", "b/c": b"2"})
    assert known == checksum({"b/c": b"2", "a": b"1", "source.json": b"{}"})
    assert known != checksum({"a": b"2", "b/c": b"1"})
    assert known != checksum({"a": b"1", "b/d": b"2"})
    assert known != checksum({"a": b"1"})


def test_a_files_checksum_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4's own example
    assert (
        fetch.content_checksum(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_what_does_not_come_by_https_is_refused(server, tmp_path):
    server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())
    plain = f"http://0.0.0.0:{server.server_port}/net.tgz"  # this very server, by an address that others have as well
    for urls in ([plain], [f"{server.url}/net.tgz", plain], ["ftp://a.example/net.tgz"]):
        with pytest.raises(UserError) as raised:
            fetch.fetch(urls, tmp_path / "net", WORDS, pytest.fail)
        assert str(raised.value) == (
            "A thing is fetched by https, for what comes by http anybody on the line can change; http is for this "
            f"machine itself (localhost, 127.0.0.1, [::1]). Received {urls[-1]}. Give an https URL, or get it "
            "elsewhere and give it with --thing=FILE."
        )
    assert server.asked == []
    assert names(tmp_path) == ["net.tgz"]


def test_what_an_earlier_version_fetched_by_http_is_refused(server, tmp_path):
    server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())
    urls = [f"{server.url}/net.tgz"]
    folder = fetch.fetch(urls, tmp_path / "net", WORDS, lambda line: None)
    record = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps({**record, "url": "http://a.example/net.tgz"}))
    with pytest.raises(UserError, match=rf"by https, but {folder} came from http://a.example/net.tgz. Remove that"):
        fetch.fetch(urls, folder, WORDS, pytest.fail)


def test_a_redirect_to_plain_http_is_no_place(server, tmp_path):
    plain = f"http://0.0.0.0:{server.server_port}/net.tgz"
    content = make_tar(tmp_path / "net.tgz", FILES).read_bytes()
    server.pages = {"/moved": Redirect(plain), "/net.tgz": Page(content)}
    with pytest.raises(
        UserError, match=r"and that failed \(addresses tried: 1\): it redirects to http://0.0.0.0:\d+, which is not h"
    ):
        fetch.fetch([f"{server.url}/moved"], tmp_path / "net", WORDS, pytest.fail)
    assert server.asked == ["/moved"]


def test_other_content_at_a_url_is_refused_though_the_first_is_gone(server, cache, tmp_path):
    url, folder = f"{server.url}/net.tgz", tmp_path / "net"
    server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", FILES).read_bytes())
    fetch.fetch([url], folder, WORDS, lambda line: None)
    known = fetch.content_checksum(folder)
    shutil.rmtree(folder)
    server.pages["/net.tgz"] = Page(
        make_tar(tmp_path / "net.tgz", {**FILES, "README": b"evil"}).read_bytes(), etag='"1"'
    )
    for _ in range(2):
        with pytest.raises(UserError, match=rf"A thing must stay .*: its sha256 was {known[:12]} and is .* {cache}/"):
            fetch.fetch([url], folder, WORDS, lambda line: None)
        assert names(tmp_path) == ["net.tgz"]  # nothing is kept of it
    server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", FILES, "w:xz").read_bytes())  # packed anew
    assert fetch.content_checksum(fetch.fetch([url], folder, WORDS, lambda line: None)) == known


def test_a_change_that_is_wanted_is_fetched_once_its_entry_is_gone(server, cache, tmp_path):
    url, folder = f"{server.url}/net.pb", tmp_path / "net"
    server.pages["/net.pb"] = Page(b"graph")
    fetch.fetch([url], folder, WORDS, lambda line: None)
    shutil.rmtree(folder)
    server.pages["/net.pb"] = Page(b"better graph")
    (cache / "checksums.json").unlink()
    fetch.fetch([url], folder, WORDS, lambda line: None)
    assert (folder / "archive.pb").read_bytes() == b"better graph"


def test_mirrors_of_one_name_must_give_the_same(server, tmp_path):
    server.pages = {"/a.pb": Page(b"graph"), "/b.pb": Page(b"evil")}
    urls = [f"{server.url}/a.pb", f"{server.url}/b.pb"]
    shutil.rmtree(fetch.fetch(urls, tmp_path / "net", WORDS, lambda line: None, name="net"))
    del server.pages["/a.pb"]
    with pytest.raises(UserError, match="but net has changed"):
        fetch.fetch(urls, tmp_path / "net", WORDS, lambda line: None, name="net")


def test_a_cached_folder_that_was_exchanged_with_its_record_is_refused(server, tmp_path):
    url, folder = f"{server.url}/net.pb", tmp_path / "net"
    server.pages["/net.pb"] = Page(b"graph")
    fetch.fetch([url], folder, WORDS, lambda line: None)
    (folder / "archive.pb").write_bytes(b"evil")
    record = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps({**record, "content_sha256": fetch.content_checksum(folder)}))
    with pytest.raises(UserError, match=f"but {url} has changed"):
        fetch.fetch([url], folder, WORDS, pytest.fail)


def test_a_place_with_other_content_than_was_published_is_skipped(server, tmp_path):
    good = make_tar(tmp_path / "net.tgz", FILES).read_bytes()
    evil = make_tar(tmp_path / "evil.tgz", {"a": b"evil"}).read_bytes()
    server.pages = {"/evil.tgz": Page(evil), "/good.tgz": Page(good)}
    urls, told = [f"{server.url}/evil.tgz", f"{server.url}/good.tgz"], []
    pins = dict.fromkeys(urls, fetch.Pin(fetch.content_checksum(tmp_path / "net.tgz")))
    folder = fetch.fetch(urls, tmp_path / "net", WORDS, told.append, pins=pins)
    assert json.loads((folder / "source.json").read_text())["url"] == urls[1]
    assert told[0] == f"Downloading {urls[0]}"
    assert re.fullmatch(r"Skipped this place: its sha256 is \w{12}, but \w{12} was published", told[1])
    shutil.rmtree(folder)
    del server.pages["/good.tgz"]
    with pytest.raises(
        UserError, match=r"and that failed \(addresses tried: 2\): its sha256 is \w{12}, but \w{12} was published \(127"
    ):
        fetch.fetch(urls, tmp_path / "net", WORDS, told.append, pins=pins)
    assert names(tmp_path) == ["evil.tgz", "net.tgz"]


def test_of_an_archive_with_a_published_file_only_that_file_is_taken(server, tmp_path):
    (tmp_path / "known").write_bytes(b"graph")
    pin = fetch.Pin(fetch.content_checksum(tmp_path / "known"), "graph.pb")
    url = f"{server.url}/net.tgz"
    for name in ("graph.pb", "./graph.pb"):
        files = {"saved_model.pb": b"evil", name: b"graph"}
        server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", files).read_bytes())
        folder = fetch.fetch([url], tmp_path / "net", WORDS, lambda line: None, pins={url: pin})
        assert names(folder) == ["graph.pb", "source.json"]
        shutil.rmtree(folder)
    for files in ({"graph.pb": b"evil"}, {"other.pb": b"graph"}):
        server.pages["/net.tgz"] = Page(make_tar(tmp_path / "net.tgz", files).read_bytes())
        with pytest.raises(
            UserError, match=r"its sha256 is \w{12}, but \w{12} was published|there is no graph.pb in it"
        ):
            fetch.fetch([url], tmp_path / "net", WORDS, lambda line: None, pins={url: pin})
        assert not folder.exists()


def test_what_an_earlier_version_fetched_is_recorded_when_it_is_found(server, cache, tmp_path, monkeypatch):
    url, folder = f"{server.url}/net.pb", tmp_path / "net"
    server.pages["/net.pb"] = Page(b"graph")
    fetch.fetch([url], folder, WORDS, quiet)
    (cache / "checksums.json").unlink()
    with monkeypatch.context() as read_only:
        read_only.setattr(os, "replace", lambda *_: raise_(OSError(errno.EROFS, os.strerror(errno.EROFS))))
        assert fetch.fetch([url], folder, WORDS, pytest.fail) == folder
    assert not (cache / "checksums.json").exists()
    fetch.fetch([url], folder, WORDS, pytest.fail)
    assert json.loads((cache / "checksums.json").read_text()) == {url: fetch.content_checksum(folder)}
