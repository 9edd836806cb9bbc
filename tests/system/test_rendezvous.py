"""Hosts that wait for each other."""

import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import DEADLINE_SECS, at_once, quiet

from p2p_keras.errors import HostLostError, UserError
from p2p_keras.system.rendezvous import wait_for_all


def _free_addresses(count: int) -> list[str]:
    taken = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in taken]
    for one in taken:
        one.close()
    return addresses


def test_all_go_on_when_the_last_one_is_there():
    addresses = _free_addresses(3)
    last, everybody = threading.Event(), threading.Barrier(3)

    def host(own: str) -> bool:
        if own == addresses[2]:
            time.sleep(0.5)
            last.set()
        wait_for_all(own, [other for other in addresses if other != own], quiet, wait_secs=DEADLINE_SECS)
        was_there = last.is_set()
        with socket.create_server(("", int(own.rpartition(":")[2]))):  # as TensorFlow's server then
            everybody.wait(DEADLINE_SECS)
        return was_there

    assert at_once(*(lambda own=own: host(own) for own in addresses)) == [True] * 3


def test_who_is_missing_is_named_in_the_end():
    own, there, missing = _free_addresses(3)
    with (
        socket.create_server(("localhost", int(there.rpartition(":")[2]))),
        pytest.raises(HostLostError, match=f"{missing} could not be reached in 1 seconds. Start the same") as raised,
    ):
        wait_for_all(own, (there, missing), quiet, wait_secs=1)
    assert there not in str(raised.value)
    assert raised.value.status == 75


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"names for it, {port}. Address already in use. End what"):
            wait_for_all(f"localhost:{port}", ())


@pytest.mark.parametrize("address", ["host0", "host0:", ":2222", "host0:x", "host0:99999"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(UserError, match=f"as host:port. Received: {address}\\. For one"):
        wait_for_all(address, ())


def test_a_process_that_is_stuck_is_ended():
    """In code that lets no Python run, as TensorFlow's: here a regular expression."""
    code = """
import re
from p2p_keras.system.rendezvous import ended_if_stuck
with ended_if_stuck(0.5):
    re.match("(a+)+b", "a" * 99)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE_SECS, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
