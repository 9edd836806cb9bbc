import gzip
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest

from p2p_keras import fetch
from p2p_keras.errors import UserError

WORDS = fetch.Words("thing", "The thing", "a tar or zip archive", "get it elsewhere and give it with --thing=FILE")
FILES = {"net/saved_model.pb": b"graph" * 1000, "net/variables/a.index": b"weights", "README": b""}


def make_tar(path, files, mode="w:gz", extra=()):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def server(monkeypatch):
    """Serves `pages`: path -> content, or (content, the Content-Length it claims). Counts what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            page = server.pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
                return
            content, length = page if isinstance(page, tuple) else (page, len(page))
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_first_place_that_gives_something_whole_counts(server, tmp_path):
    archive = make_tar(tmp_path / "net.tgz", FILES)
    content = archive.read_bytes()
    server.pages = {"/cut": (content[:-100], len(content)), "/page": b"<html>log in</html>", "/good": content}
    urls = [f"{server.url}/{name}" for name in ("missing", "cut", "page", "good?format=compressed", "never")]
    told = []
    folder = fetch.fetch(urls, tmp_path / "cache" / "net", WORDS, told.append)
    assert server.asked == ["/missing", "/cut", "/page", "/good?format=compressed"]
    assert told == [f"Downloading {url}" for url in urls[1:4]]  # the first is not there to begin with
    record = json.loads((folder / "source.json").read_text())
    assert record == {
        "url": urls[3],
        "archive_sha256": fetch.checksum(archive),
        "content_sha256": fetch.checksum(folder),
    }
    found = read_all(folder)
    del found["source.json"]
    assert found == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["net"]  # nothing half-written beside it


def test_a_second_call_needs_no_server(server, tmp_path):
    server.pages = {"/net.tgz": make_tar(tmp_path / "net.tgz", FILES).read_bytes()}
    folder = fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, lambda line: None)
    assert fetch.fetch([], folder, WORDS, pytest.fail) == folder
    assert len(server.asked) == 1


def test_a_length_that_is_not_told_is_no_error(server, tmp_path):
    server.pages = {"/net.pb": (b"graph", None)}
    folder = fetch.fetch([f"{server.url}/net.pb?download=1"], tmp_path / "net", WORDS, lambda line: None)
    assert read_all(folder).keys() == {"archive.pb", "source.json"}


def test_what_was_fetched_and_has_changed_is_an_error(server, tmp_path):
    server.pages = {"/net.tgz": make_tar(tmp_path / "net.tgz", FILES).read_bytes()}
    folder = fetch.fetch([f"{server.url}/net.tgz"], tmp_path / "net", WORDS, lambda line: None)
    (folder / "net" / "variables" / "a.index").write_bytes(b"weighty")
    with pytest.raises(UserError, match=rf"{folder} has changed: its sha256 was .* and is .*Remove that folder"):
        fetch.fetch([f"{server.url}/net.tgz"], folder, WORDS)


def test_a_folder_of_other_content_is_not_taken_for_what_was_fetched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"sha256 was unknown and is .*Remove that folder"):
        fetch.fetch(["http://127.0.0.1:9/net.tgz"], tmp_path, WORDS)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_where_no_place_helps_each_reason_is_named_once(server, tmp_path):
    server.pages = {"/cut": (b"1234", 10), "/page": b"<html>"}
    urls = [f"{server.url}/{name}" for name in ("missing", "cut", "page")]
    urls += ["http://127.0.0.1:1/closed", "gopher://other.example/net", "http://third.example:x/", urls[0]]
    with pytest.raises(UserError) as raised:
        fetch.fetch(urls, tmp_path / "cache" / "net", WORDS, lambda line: None)
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


def test_of_two_processes_the_first_one_wins(server, tmp_path, monkeypatch):
    server.pages = {"/net.tgz": make_tar(tmp_path / "net.tgz", FILES).read_bytes()}
    folder, rename = tmp_path / "net", fetch.os.rename

    def other_was_first(source, target):
        monkeypatch.setattr(fetch.os, "rename", rename)
        fetch.install(tmp_path / "net.tgz", folder, WORDS)
        rename(source, target)

    monkeypatch.setattr(fetch.os, "rename", other_was_first)
    assert fetch.fetch([f"{server.url}/net.tgz"], folder, WORDS, lambda line: None) == folder
    assert json.loads((folder / "source.json").read_text())["url"] == str(tmp_path / "net.tgz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.tgz"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/net could not be written: .*XDG_CACHE_HOME"):
        fetch.fetch(["http://127.0.0.1:1/net.tgz"], tmp_path / "file" / "net", WORDS)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_are_unpacked(tmp_path, mode):
    fetch.unpack(make_tar(tmp_path / "archive", FILES, mode), tmp_path / "out", WORDS)
    assert read_all(tmp_path / "out") == FILES


def test_zip_archives_are_unpacked(tmp_path):
    fetch.unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "out", WORDS)
    assert read_all(tmp_path / "out") == FILES


def test_a_frozen_graph_is_copied(tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"graph")
    fetch.unpack(tmp_path / "graph.pb", tmp_path / "out", WORDS)
    assert read_all(tmp_path / "out") == {"graph.pb": b"graph"}


@pytest.mark.parametrize("name", ["../outside", "net/../../outside", "/tmp/p2p_keras_outside"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_nothing_is_written_outside_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"inside": b"", name: b"evil"})
    with pytest.raises(UserError, match=rf"{archive}: it would write outside its folder, to {name}\. Download it"):
        fetch.unpack(archive, tmp_path / "deep" / "out", WORDS)
    assert set(read_all(tmp_path)) == {"archive", "deep/out/inside"}


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
    path = tmp_path / "archive"
    with tarfile.open(path, "w") as tar:
        tar.addfile(link("net", str(tmp_path)))
        info = tarfile.TarInfo("net/evil")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    fetch.unpack(path, tmp_path / "out", WORDS)
    assert read_all(tmp_path / "out") == {"net/evil": b"evil"}
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
