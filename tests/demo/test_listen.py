import asyncio
import socket

import pytest

from p2p_keras.demo.listen import address, for_this_machine, is_loopback, listen, nothing_else, with_small_requests
from p2p_keras.errors import UserError
from p2p_keras.system.limits import MAX_REQUEST_BYTES, MAX_UPLOAD_BYTES


def test_it_listens_on_this_machine_alone_unless_told():
    with listen("127.0.0.1", 0) as listening:
        host, port = listening.getsockname()
        assert (host, address(listening)) == ("127.0.0.1", f"http://127.0.0.1:{port}/")
        socket.create_connection((host, port)).close()


def test_a_port_that_is_taken_and_a_foreign_address_are_refused_in_words():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"free. 127.0.0.1:{port} is not: Address already in use. Take another"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0 is not: "):  # of the block kept for documentation
        listen("192.0.2.1", 0)


def test_whether_only_this_machine_can_reach_it():
    with listen("127.0.0.1", 0) as here, listen("0.0.0.0", 0) as everywhere:
        assert is_loopback(here)
        assert not is_loopback(everywhere)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost:9000", "origin": "http://localhost:9000"}, 200),  # forwarded
        ({"host": "[::1]:7860"}, 200),
        ({"host": "evil.example:7860"}, 403),  # DNS rebinding
        ({"host": "127.0.0.1:7860", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1.evil.example"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "null"}, 403),  # a frame without an origin of its own
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({}, 403),
    ],
)
def test_other_sites_are_not_let_in(headers, status):
    headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert _status(for_this_machine, {"type": "http", "headers": headers}) == status


def _status(wrapper, scope: dict) -> int:
    """What is answered by an application that answers 200 to all that reaches it."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(event):
        sent.append(event)

    asyncio.run(wrapper(app)(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/config", 200),
        ("/assets/index.js", 200),
        ("/gradio_api/upload", 200),
        ("/gradio_api/file=/tmp/a.png", 200),  # gradio looks whose it is
        ("//config", 404),
        ("/config/", 404),
        ("/gradio_api/process_recording", 404),
        ("/gradio_api/component_server", 404),
        ("/gradio_api/vibe-code/", 404),
        ("/gradio_api/heartbeat/a/../../run/x", 404),
        ("/gradio_api/queue/status", 404),
        ("/gradio_api/proxy=http://localhost", 404),
        ("/openapi.json", 404),
        ("/assets/" + 300 * "a", 404),
    ],
)
def test_what_the_page_does_not_ask_for_is_not_there(path, status):
    assert _status(nothing_else, {"type": "http", "path": path}) == status


@pytest.mark.parametrize(
    ("path", "said", "sizes", "status", "seen", "read"),
    [
        ("/gradio_api/queue/join", None, [], 200, 0, 2),
        ("/gradio_api/queue/join", None, [100, MAX_REQUEST_BYTES - 100], 200, MAX_REQUEST_BYTES, 4),
        ("/gradio_api/queue/join", None, [100, MAX_REQUEST_BYTES - 99], 413, 0, 2),
        ("/gradio_api/run/predict", None, [MAX_REQUEST_BYTES] * 1000, 413, 0, 2),
        ("/gradio_api/upload", 2 * MAX_REQUEST_BYTES, [MAX_REQUEST_BYTES] * 2, 200, 2 * MAX_REQUEST_BYTES, 4),
        ("/gradio_api/upload", MAX_UPLOAD_BYTES + MAX_REQUEST_BYTES + 1, [], 413, 0, 0),
        ("/gradio_api/upload", "much", [], 413, 0, 0),
        ("/gradio_api/upload", 1, [MAX_REQUEST_BYTES] * 1000, 200, MAX_UPLOAD_BYTES + MAX_REQUEST_BYTES, 66),
    ],
)
def test_what_is_kept_in_memory_is_small(path, said, sizes, status, seen, read):
    headers = [] if said is None else [(b"content-length", str(said).encode())]
    coming = [{"type": "http.request", "body": size * b"a", "more_body": True} for size in sizes]
    coming += [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    sent, got, taken = [], [], iter(coming)

    async def receive():
        return next(taken)

    async def send(event):
        sent.append(event)

    async def app(scope, receive, send):
        while (event := await receive())["type"] == "http.request":
            got.append(event["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    asyncio.run(with_small_requests(app)({"type": "http", "path": path, "headers": headers}, receive, send))
    assert sent[0]["status"] == status
    assert len(b"".join(got)) == seen
    assert len(coming) - len(list(taken)) == read  # events: of what does not end no more is taken


def test_a_request_whose_sender_has_gone_is_not_answered():
    async def gone():
        return {"type": "http.disconnect"}

    async def never(*_):
        raise AssertionError

    asyncio.run(with_small_requests(never)({"type": "http", "path": "/"}, gone, never))
