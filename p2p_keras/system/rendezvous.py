"""Hosts wait for each other before TensorFlow connects them.

TensorFlow waits without end, says nothing, and takes no Ctrl-C while it does. So each host listens at its own address
first, tries those of the others, and goes on when it has reached them all.
"""

import contextlib
import errno
import faulthandler
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from p2p_keras.errors import HostLostError, UserError

WAIT_SECS = 600  # for hosts that are being started: machines are got, images are pulled
CONNECT_SECS = 300  # for TensorFlow, when all are there: a host that dies just then would be waited for without end
_SAY_AFTER_SECS = 10
_PAUSE_SECS = 0.2


def wait_for_all(
    own: str, others: Sequence[str], report: Callable[[str], None] = print, wait_secs: float = WAIT_SECS
) -> None:
    """Returns when each of the others could be reached.

    Args:
        own: This host's `address:port`, at which the others look for it.
        others: Theirs.
        report: Called with a line that names who is waited for, if it takes some time.
        wait_secs: After so long it gives up.

    Raises:
        HostLostError: One of them could not be reached.
        UserError: The own port is taken, or an address has none.
    """
    missing, began, said = list(others), time.monotonic(), False
    with _listening(_split(own)[1]):
        while missing := [address for address in missing if not _reached(address)]:
            waited = time.monotonic() - began
            if waited > wait_secs:
                raise HostLostError(
                    f"All hosts of a cluster are started at about the same time. {', '.join(missing)} could not be "
                    f"reached in {wait_secs:.0f} seconds. Start the same command there, or look whether that address "
                    "is the right one and its port open."
                )
            if waited > _SAY_AFTER_SECS and not said:
                report(f"Waiting for {', '.join(missing)}")
                said = True
            time.sleep(_PAUSE_SECS)


@contextlib.contextmanager
def ended_if_stuck(secs: float = CONNECT_SECS) -> Iterator[None]:
    """Ends the process, with status 1, if the block takes longer, also where it lets no other Python run meanwhile."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(secs, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"A host of a cluster is named as host:port. Received: {address}. For one: host0:2222")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _reached(address: str) -> bool:
    try:
        socket.create_connection(_split(address), timeout=2).close()
    except OSError:  # also of a name that is not known yet
        return False
    return True


@contextlib.contextmanager
def _listening(port: int) -> Iterator[None]:
    """So that others find somebody there. Nothing is read: that they could connect is enough."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_listen(port))
        except OSError as error:
            raise UserError(
                f"This host listens at the port that the cluster names for it, {port}. {os.strerror(error.errno)}. End "
                "what is there already, or name another port for it, on all hosts."
            ) from error
        yield


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=4096, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port), backlog=4096)
