import asyncio
import socket

import pytest

from p2p_keras.demo.listen import address, for_this_machine, is_loopback, listen
from p2p_keras.errors import UserError


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
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []

    async def send(event):
        sent.append(event)

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(for_this_machine(app)(scope, None, send))
    assert sent[0]["status"] == status
