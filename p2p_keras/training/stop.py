"""What stops a run: after the step that is under way, and with a checkpoint. And how it lets go of its data."""

import contextlib
import errno
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_signals(stop: list[int]) -> Iterator[None]:
    """Collects the first SIGINT, SIGTERM or SIGHUP in a list instead of dying of it.

    A second SIGINT or SIGTERM acts as usual. SIGHUP means that the terminal has gone, as when ssh is closed: both the
    shell and the kernel send it, so further ones are ignored, and so is all of it if it was ignored before (nohup).

    Args:
        stop: Gets the number of the signal.

    In a thread other than the main one, where Python lets nobody catch signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def stop_when_unread(report: Callable[[str], None], stop: list[int]) -> Callable[[str], None]:
    """The same report, but silent where nobody can read it any longer: no reason to lose what has been trained.

    A pipe whose reader has gone, as `tee` when ssh is closed, is all that some runs get to know of it. It stops the run
    as a signal does. A terminal that has gone sends SIGHUP, or the run was told to outlive it.

    Args:
        report: Prints a line.
        stop: Gets SIGPIPE.
    """
    gone = False

    def report_if_possible(line: str) -> None:
        nonlocal gone
        if gone:
            return
        try:
            report(line)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):  # as on a full disk
                raise
            gone = True
            if error.errno == errno.EPIPE:
                stop.append(signal.SIGPIPE)

    return report_if_possible


@contextlib.contextmanager
def dropped_in_background(held: list) -> Iterator[None]:
    """Empties a list at the end, in a thread that nobody waits for but the end of the interpreter.

    TensorFlow 2.21 waits for up to a minute where it drops an iterator that is not read to its end: the thread that
    tunes the pipeline sleeps that long, and may miss being woken. The thread is no daemon: Python ends those wherever
    they are, and inside TensorFlow's C++ that aborts the process.

    Args:
        held: Has the only reference to what is to be dropped.
    """
    try:
        yield
    finally:
        threading.Thread(target=held.clear).start()


def _write_to_no_terminal() -> None:
    """Sends what would be printed on a terminal nowhere: on one that has gone, it would be an error before the save."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)
