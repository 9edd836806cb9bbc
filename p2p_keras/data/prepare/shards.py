"""Pairs packed into a few large TFRecord files, for disks where many small ones are slow."""

import errno
from collections.abc import Sequence
from pathlib import Path

from p2p_keras.data.manifest import FRAME, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.system.files import whole_path
from p2p_keras.system.progress import ProgressLine

FOLDER = "shards"


def write_shards(root: Path, entries: Sequence[Entry], count: int) -> tuple[list[Entry], dict[str, int]]:
    """Packs the encoded composites, byte by byte as they are, in the order of the manifest.

    A shard appears whole, with one rename. What an interrupted call left is not believed, but written anew.

    Args:
        root: The data set's folder, with the loose composites.
        entries: All pairs, sorted.
        count: Shards of all splits together; every split has at least one of its own.

    Returns:
        The entries with shard and offset; and shard -> its size in bytes.
    """
    for left in (root / FOLDER).glob("*"):
        left.unlink()
    placed, sizes = [], {}
    progress = ProgressLine(len(entries), "pairs")
    for split, number, of, part in _deal_out(entries, count):
        shard = f"{FOLDER}/{split}-{number:05d}-of-{of:05d}.tfrecord"
        offset = 0
        for entry in part:
            placed.append(entry._replace(shard=shard, offset=offset))
            offset += entry.bytes + FRAME
        sizes[shard] = offset
        _write_shard(root, shard, part)
        progress.update(len(placed), "packing")
    progress.clear()
    return placed, sizes


def _deal_out(entries: Sequence[Entry], count: int) -> list[tuple[str, int, int, list[Entry]]]:
    """(split, number, how many the split has, pairs), the shards of nearly equal size in bytes."""
    total = sum(entry.bytes for entry in entries)
    dealt = []
    for split in SPLITS:
        part = [entry for entry in entries if entry.split == split]
        size = sum(entry.bytes for entry in part)
        of = min(len(part), max(1, round(count * size / total))) if part else 0
        shards, done = [[] for _ in range(of)], 0
        for entry in part:
            shards[min(of - 1, done * of // size)].append(entry)
            done += entry.bytes
        dealt += [(split, number, of, shard) for number, shard in enumerate(shards) if shard]
    return dealt


def _write_shard(root: Path, shard: str, part: Sequence[Entry]) -> None:
    """Writes one shard. It is left to the end of the run to make the disk keep everything.

    Raises:
        OSError: It cannot be written; names the shard.
    """
    import tensorflow as tf  # here, so that preparing without shards does without

    path = root / shard
    path.parent.mkdir(exist_ok=True)
    with whole_path(path, sync=False) as beside:
        try:
            with tf.io.TFRecordWriter(str(beside)) as file:
                for entry in part:
                    file.write((root / entry.name).read_bytes())
        except tf.errors.OpError as error:  # how TensorFlow reports a full disk: "PATH; No space left on device"
            raise OSError(errno.EIO, error.message.rpartition("; ")[2]) from error
