"""Names the file that TensorFlow could not read while it computed: its own message does not say which one it was."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from p2p_keras.data import check
from p2p_keras.data.pairs import Files, Reading
from p2p_keras.errors import UserError


@contextlib.contextmanager
def unreadable_in_words(parts: Sequence[Files], reading: Reading) -> Iterator[None]:
    """Turns TensorFlow's error about a file into one that names it.

    The likeliest cause is one that has changed since it was checked; shards are not decoded before they are read.

    Args:
        parts: Where the pairs are that are read in the block.
        reading: How they are read.

    Raises:
        UserError: A file cannot be read.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError) as error:
        for files in parts:
            if files.offsets is not None and (shard := _find_bad_shard(files)):
                raise UserError(
                    f"A shard must be as p2p-prepare wrote it. A record of {shard} is damaged or has gone. Copy the "
                    "shard again; the same command continues."
                ) from error
            bad = {} if files.offsets is not None else check.find_bad_pairs(files.paths, reading)
            for number, problem in bad.items():
                row = files.paths[number]
                named = f"{row[0]}: {problem}" if len(row) == 1 else problem
                raise UserError(
                    f"A file has changed since the run began: {named}. Put it back; the same command continues."
                ) from error
        raise


def _find_bad_shard(files: Files) -> str | None:
    """The first shard with a record that cannot be read; None if there is none."""
    for (shard,) in dict.fromkeys(files.paths):
        try:
            for _ in tf.data.TFRecordDataset(shard):
                pass
        except tf.errors.OpError:
            return shard
    return None
