"""The server of a page: for this machine alone, and made anew only when something has changed."""

import http.client
import threading
from collections.abc import Iterator

import pytest
from conftest import DEADLINE_SECS, quiet

from p2p_keras.errors import UserError
from p2p_keras.report.follow import make_server


class Followed:
    """A served page whose state and content a test can change."""

    def __init__(self) -> None:
        self.state, self.made, self.problem, self.told = "one", [], None, []
        self.server = make_server(0, lambda: self.state, self._make, self.told.append)

    def _make(self, version: str) -> bytes:
        if self.problem:
            raise self.problem
        self.made.append(version)
        return f"page {len(self.made)}".encode()

    def get(self, path: str, host: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=DEADLINE_SECS)
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content


@pytest.fixture
def followed() -> Iterator[Followed]:
    followed = Followed()
    thread = threading.Thread(target=followed.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield followed
    followed.server.shutdown()
    followed.server.server_close()
    thread.join(DEADLINE_SECS)


def test_the_page_is_made_anew_when_the_state_has_changed(followed):
    assert [followed.get("/") for _ in range(2)] == [(200, b"page 1")] * 2
    assert followed.get("/version") == (200, followed.made[0].encode())
    followed.state = "two"
    assert followed.get("/version")[1].decode() not in followed.made
    assert followed.get("/") == (200, b"page 2")
    assert followed.get("/version") == (200, followed.made[1].encode())


def test_there_is_nothing_else(followed):
    for path in ("/config.json", "/../config.json", "/?"):
        assert followed.get(path)[0] == 404


def test_it_answers_no_page_of_another_site(followed):
    """Whose name was made to lead to 127.0.0.1."""
    port = followed.server.server_port
    assert followed.get("/", f"localhost:{port}")[0] == 200
    for host in (f"evil.example:{port}", "127.0.0.1", ""):
        assert followed.get("/", host)[0] == 403
    assert followed.server.server_address[0] == "127.0.0.1"


def test_a_page_that_cannot_be_made_now_is_said_and_asked_for_again(followed):
    followed.problem = UserError("config.json is damaged")
    assert followed.get("/") == (503, b"config.json is damaged\n")
    assert followed.told == ["The page cannot be made now: config.json is damaged"]
    followed.problem = None
    assert followed.get("/") == (200, b"page 1")


def test_a_port_that_is_taken_is_said(followed):
    with pytest.raises(UserError, match="Take another one"):
        make_server(followed.server.server_port, lambda: "", lambda version: b"", quiet)
