"""Signals that stop a run: after the step that is under way, and with a checkpoint."""

import contextlib
import os
import signal
import stat
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects the first SIGINT, SIGTERM or SIGHUP in a list instead of dying of it.

    A second SIGINT or SIGTERM acts as usual. SIGHUP means that the terminal has gone, as when ssh is closed: both the
    shell and the kernel send it, so further ones are ignored, and so is all of it if it was ignored before (nohup).
    """
    stop: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN or number == signal.SIGINT]

    def remember(number: int, frame: object) -> None:
        stop.append(number)
        if number == signal.SIGHUP:
            _write_to_no_terminal()
        for other in taken:
            signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else before[other])

    for number in taken:
        signal.signal(number, remember)
    try:
        yield stop
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _write_to_no_terminal() -> None:
    """Sends what would be printed on a terminal nowhere: on one that has gone, it would be an error before the save."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)
