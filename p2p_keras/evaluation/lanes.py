"""Who computes what of an evaluation: every device a batch at a time, every host whole batches of its own.

Each image is generated and scored by itself, and results are put together in the order of the images: the numbers are
those of one device.
"""

import collections
import concurrent.futures
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics.inception import Extractor
from p2p_keras.system.hosts import Hosts

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Lane(NamedTuple):
    """A device, and what was built on it."""

    generate: Callable[[tf.Tensor], tf.Tensor] | None  # float32 (B, H, W, C) in [-1, 1] -> (B, H, W, K)
    extractor: Extractor | None = None  # None leaves features out
    device: str | None = None  # None is where TensorFlow computes by default


def each_in_order(
    lanes: Sequence[Lane], work: Callable[[Lane, Batch], Result], batches: Iterable[Batch]
) -> Iterator[Result]:
    """Does the work of each batch on whichever lane is free, and yields what came of it in the order of the batches.

    Args:
        lanes: Each does one batch at a time, in a thread of its own.
        work: Called with a lane, on its device, and a batch.
        batches: Taken as they are needed: some more are begun than there are lanes.
    """
    free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def do(batch: Batch) -> Result:
        lane = free.get()
        try:
            with tf.device(lane.device):
                return work(lane, batch)
        finally:
            free.put(lane)

    begun: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        try:
            for batch in batches:
                begun.append(pool.submit(do, batch))
                if len(begun) > len(lanes):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:  # one has failed, or nobody wants the rest
            pool.shutdown(cancel_futures=True)


def own_rows(hosts: Hosts, count: int, batch_size: int) -> range:
    """Which images of `count` this host computes, in batches of which all but the last are of `batch_size`.

    Raises:
        UserError: There are fewer batches than hosts.
    """
    batches = -(-count // batch_size)
    if batches < hosts.count:
        raise UserError(
            f"Each host scores a batch or more. There are {hosts.count} hosts, and {count} images in batches of "
            f"{batch_size}. Lower --batch_size, or score on one host, with TF_CONFIG unset."
        )
    first, end = (batches * host // hosts.count * batch_size for host in (hosts.index, hosts.index + 1))
    return range(first, min(end, count))


def gather(hosts: Hosts, mine: np.ndarray, rows: range, count: int) -> np.ndarray:
    """Puts together, in order, what each host has of its rows: (len(rows), ...) -> (count, ...), on all hosts.

    Raises:
        tf.errors.OpError: One of `hosts.ENDED`; another host has gone.
    """
    if hosts.count == 1:
        return mine
    everything = np.zeros((count, *mine.shape[1:]), mine.dtype)
    everything[rows.start : rows.stop] = mine
    return hosts.total(everything)  # of each row one host has other than zeros, so that nothing is rounded
