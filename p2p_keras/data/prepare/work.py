"""Many pairs at once: worker processes, a journal of what is done, constant memory."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from p2p_keras.data.manifest import Entry
from p2p_keras.data.picture import ImageError
from p2p_keras.data.prepare.sources import Source
from p2p_keras.data.prepare.stack import Form, make_pair, source_sizes
from p2p_keras.errors import UserError

_BATCH = 16  # pairs that travel to a worker and back together
_KEPT_BYTES = 64 << 20  # of freed memory that a worker keeps


class Task(NamedTuple):
    """One pair to be made."""

    source: Source
    split: str
    known: Entry | None = None  # what an earlier run made of it


class Rejected(NamedTuple):
    """A pair that cannot be made."""

    pair: str
    split: str
    problem: str
    source_bytes: str  # of each of its files, as `Entry` has it, so that a mended one is noticed


def make_pairs(tasks: Iterable[Task], output: Path, form: Form, workers: int) -> Iterator[list[Entry | Rejected]]:
    """Makes pairs in worker processes (in this one, if it is to be one), a few at a time, in any order.

    Never more than a few batches are under way, so memory does not grow with the number of pairs. Workers end with
    this process, however it ends.

    Raises:
        OSError: A worker could not write.
        UserError: A worker was killed.
    """
    tasks = iter(tasks)
    batches = iter(lambda: list(itertools.islice(tasks, _BATCH)), [])
    if workers == 1:
        for batch in batches:
            yield _make_batch(batch, output, form)
        return
    # glibc gives the memory of every image back to the system and asks for it again, which is a sixth of the time.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(name, str(_KEPT_BYTES))  # read when a worker starts
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin_worker) as pool:

        def submit(count: int) -> set[concurrent.futures.Future]:
            return {pool.submit(_make_batch, batch, output, form) for batch in itertools.islice(batches, count)}

        try:
            running = submit(2 * workers)
            while running:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                running |= submit(len(done))
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"Each of {workers} workers must stay alive, but one was killed, most likely for want of memory. Take "
                "fewer --workers; the same command continues."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_batch(batch: list[Task], output: Path, form: Form) -> list[Entry | Rejected]:
    results: list[Entry | Rejected] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        warnings.filterwarnings("ignore", module="PIL")  # a TIFF with odd tags: what counts is whether it is decoded
        for task in batch:
            try:
                results.append(make_pair(task.source, task.split, output, form, task.known))
            except ImageError as problem:
                results.append(Rejected(task.source.name, task.split, str(problem), source_sizes(task.source.files)))
    return results


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends when the parent is gone: killed, it cannot say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        with contextlib.suppress(Exception):
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
