import json

import pytest
from conftest import DEADLINE_SECS, Page

from p2p_keras.system import download
from p2p_keras.system.download import can_continue

CONTENT = bytes(range(256)) * 1000
OTHER = CONTENT[::-1]
ETAG, DATE = '"1-2-3"', "Sun, 02 Sep 2018 08:58:00 GMT"


@pytest.fixture
def url(server):
    return f"{server.url}/file"


class Downloads:
    """Calls `download`, notes what it told and how long it waited, and does something meanwhile."""

    def __init__(self, url, path):
        self.url, self.path, self.told, self.waits, self.meanwhile = url, path, [], [], lambda: None

    def __call__(self):
        return download.download(self.url, self.path, self.told.append, self.sleep)

    def sleep(self, secs):
        self.waits.append(secs)
        self.meanwhile()


@pytest.fixture
def downloads(url, tmp_path):
    return Downloads(url, tmp_path / "file")


def leave_part(downloads, server, count=1000, **page):
    """A first call that leaves so many bytes; then the server gives all, and has forgotten what it was asked."""
    server.pages["/file"] = Page(CONTENT, **{"etag": ETAG, **page, "cuts": [count, *[0] * 4]})
    assert downloads() == f"only {count} of {len(CONTENT)} bytes came"
    assert downloads.path.read_bytes() == CONTENT[:count]
    del server.asked[:], server.ranges[:], downloads.told[:], downloads.waits[:]


def assert_whole(downloads, content=CONTENT):
    assert downloads.path.read_bytes() == content
    assert can_continue(downloads.url, downloads.path)


def test_a_file_comes_at_once(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG)
    assert downloads() is None
    assert_whole(downloads)
    assert downloads.told == [f"Downloading {downloads.url}"]
    assert server.ranges == [(None, None)]


def test_a_connection_that_is_cut_goes_on_where_it_stopped(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG, cuts=[100_000, 50_000])
    assert downloads() is None
    assert_whole(downloads)
    assert server.ranges == [(None, None), ("bytes=100000-", ETAG), ("bytes=150000-", ETAG)]
    assert downloads.waits == [1, 1]  # for the second try had brought something
    assert downloads.told == [
        f"Downloading {downloads.url}",
        "only 100000 of 256000 bytes came: trying again in 1 s",
        "only 150000 of 256000 bytes came: trying again in 1 s",
    ]


def test_tries_that_bring_nothing_come_to_an_end(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG, cuts=[100_000] + [0] * 9)
    assert downloads() == "only 100000 of 256000 bytes came"
    assert downloads.waits == [1, 2, 4, 8]
    assert can_continue(downloads.url, downloads.path)


def test_a_reply_that_stops_is_cut(downloads, server, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT_SECS", 2)  # in which the first 65,536 bytes must come
    page = server.pages["/file"] = Page(CONTENT, etag=ETAG, stalls_at=100_000)

    def go_on():
        page.stalls_at = None
        monkeypatch.setattr(download, "_TIMEOUT_SECS", DEADLINE_SECS)

    downloads.meanwhile = go_on
    assert downloads() is None
    assert_whole(downloads)
    [(_, _), (wanted, _)] = server.ranges
    assert 0 < int(wanted[len("bytes=") : -1]) <= 100_000


@pytest.mark.parametrize("page", [{"etag": ETAG}, {"etag": None, "changed": DATE}])
def test_a_later_call_goes_on_from_the_part(downloads, server, page):
    leave_part(downloads, server, **page)
    assert downloads() is None
    assert_whole(downloads)
    assert server.ranges == [("bytes=1000-", page["etag"] or DATE)]
    assert downloads.told == [f"Downloading {downloads.url}, from 0.0 MB on"]


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ({"ranges": False}, 1),  # 200: it does not know Range
        ({"etag": '"4"'}, 1),  # 200: it has another file now
        ({"etag": '"4"', "blindly": True}, 2),  # 206 of another file, for it does not know If-Range
        ({"content_range": "bytes 999-255999/256000"}, 2),
        ({"content_range": "bytes 1000-255999/256001"}, 2),
        ({"content_range": "1000-"}, 2),
        ({"content": b"short", "blindly": True}, 2),  # 416
    ],
)
def test_what_is_not_the_rest_of_the_same_file_starts_over(downloads, server, page, asked):
    leave_part(downloads, server)
    server.pages["/file"] = Page(**{"content": OTHER, "etag": ETAG, **page})
    assert downloads() is None
    assert_whole(downloads, page.get("content", OTHER))
    assert server.ranges == [("bytes=1000-", ETAG), (None, None)][:asked]
    assert downloads.told == [f"Downloading {downloads.url}"]


def test_a_file_that_changes_between_two_tries_is_not_mixed(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG, cuts=[100_000])
    changed = Page(OTHER, etag='"new"', cuts=[50_000])
    downloads.meanwhile = lambda: server.pages.update({"/file": changed})
    assert downloads() is None
    assert_whole(downloads, OTHER)
    assert [condition for _, condition in server.ranges] == [None, ETAG, '"new"']


@pytest.mark.parametrize("page", [{"etag": None}, {"etag": 'W/"1"'}, {"etag": 'W/"1"', "changed": DATE}])
def test_without_a_mark_of_the_same_file_each_try_starts_over_and_nothing_is_kept(downloads, server, page):
    server.pages["/file"] = Page(CONTENT, cuts=[100_000] * 5, **page)
    assert downloads() == "only 100000 of 256000 bytes came"
    assert server.ranges == [(None, None)] * 5
    assert list(downloads.path.parent.iterdir()) == []


def test_of_unknown_length_nothing_is_kept(downloads, server):
    """Only the end of the connection ends it, so nobody can say whether it is whole: it counts as such, once."""
    server.pages["/file"] = Page(CONTENT, claims=None, etag=ETAG, cuts=[1000])
    assert downloads() is None
    assert downloads.path.read_bytes() == CONTENT[:1000]
    assert not can_continue(downloads.url, downloads.path)


def test_all_that_had_come_is_not_asked_for_again(downloads, server):
    server.pages["/file"] = Page(CONTENT)
    assert downloads() is None
    assert downloads() is None
    assert len(server.asked) == 1


def test_a_part_of_another_url_counts_for_nothing(downloads, server):
    leave_part(downloads, server)
    server.pages["/other"] = Page(OTHER, etag=ETAG)
    other = Downloads(downloads.url.replace("/file", "/other"), downloads.path)
    assert not can_continue(other.url, other.path)
    assert other() is None
    assert_whole(other, OTHER)
    assert server.ranges == [(None, None)]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"url": 1', '{"url": "x", "validator": null, "length": 9, "b": 1}'])
def test_a_part_of_unknown_origin_counts_for_nothing(downloads, server, text):
    leave_part(downloads, server)
    (downloads.path.parent / "file.json").write_text(text)
    assert downloads() is None
    assert_whole(downloads)
    assert server.ranges == [(None, None)]


def test_a_part_longer_than_the_file_counts_for_nothing(downloads, server):
    leave_part(downloads, server)
    downloads.path.write_bytes(CONTENT + b"more")
    assert downloads() is None
    assert_whole(downloads)
    assert server.ranges == [(None, None)]


def test_without_a_connection_the_part_stays(downloads, server):
    leave_part(downloads, server)
    record = (downloads.path.parent / "file.json").read_text()
    nowhere = downloads.url.replace(str(server.server_port), "1")
    (downloads.path.parent / "file.json").write_text(json.dumps({**json.loads(record), "url": nowhere}))
    assert "Connection refused" in download.download(nowhere, downloads.path, pytest.fail, pytest.fail)
    assert downloads.path.read_bytes() == CONTENT[:1000]
    assert can_continue(nowhere, downloads.path)


def test_what_is_refused_to_begin_with_is_not_tried_again(downloads, server):
    assert downloads() == "404 Not Found"
    assert len(server.asked) == 1
    assert downloads.waits == downloads.told == []
    assert list(downloads.path.parent.iterdir()) == []


def test_a_server_that_is_away_for_a_while_after_a_cut_is_waited_for(downloads, server):
    server.pages["/file"] = page = Page(CONTENT, etag=ETAG, cuts=[100_000])
    downloads.meanwhile = lambda: setattr(server, "pages", {} if len(downloads.waits) < 3 else {"/file": page})
    assert downloads() is None
    assert_whole(downloads)
    assert downloads.waits == [1, 2, 4]


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_connection(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG)
    downloads.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        downloads()
    assert downloads.waits == []


def test_a_part_that_nobody_asked_for_is_no_file(downloads, server):
    server.pages["/file"] = Page(CONTENT, etag=ETAG, status=206)
    assert downloads() == "a part came, though all was asked for"
    assert list(downloads.path.parent.iterdir()) == []
