import socket

import pytest

from p2p_keras.demo.listen import address, listen
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
