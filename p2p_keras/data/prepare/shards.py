"""Pairs packed into a few large TFRecord files, for disks where many small ones are slow."""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2p_keras.data.manifest import FRAME, Entry
from p2p_keras.data.pairs import SPLITS, Files
from p2p_keras.system.files import naming, whole_file, whole_path
from p2p_keras.system.progress import ProgressLine

FOLDER = "shards"
_BEFORE = 12  # of the bytes around a record, those that come first
_CHUNK = 8 << 20  # bytes copied at a time


def write_shards(root: Path, entries: Sequence[Entry], count: int) -> tuple[list[Entry], dict[str, int]]:
    """Packs the encoded composites, byte by byte as they are, in the order of the manifest.

    A shard appears whole, with one rename. What an interrupted call left is not believed, but written anew.

    Args:
        root: The data set's folder.
        entries: All pairs, sorted. Their composites lie loose, or in the shards of parts that the entries name.
        count: Shards of all splits together; every split has at least one of its own.

    Returns:
        The entries with shard and offset; and shard -> its size in bytes.
    """
    for left in (root / FOLDER).glob("*"):
        left.unlink()
    placed, sizes = [], {}
    progress = ProgressLine(len(entries), "pairs")
    for split, number, of, share in _deal_out(entries, count):
        shard = f"{FOLDER}/{split}-{number:05d}-of-{of:05d}.tfrecord"
        there, sizes[shard] = write_shard(root, shard, share)
        placed += there
        progress.update(len(placed), "packing")
    progress.clear()
    return placed, sizes


def write_shard(root: Path, shard: str, entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Writes one shard, whole. It is left to the end of the run to make the disk keep it.

    Args:
        root: The data set's folder.
        shard: The shard's path in it.
        entries: What it is to hold, in order; where from, as in `write_shards`.

    Returns:
        The entries with shard and offset; and its size in bytes.

    Raises:
        OSError: It cannot be written; names the shard.
    """
    placed, end = [], 0
    for entry in entries:
        placed.append(entry._replace(shard=shard, offset=end))
        end += entry.bytes + FRAME
    path = root / shard
    path.parent.mkdir(exist_ok=True)
    if entries and entries[0].shard:
        _join(root, path, entries)
    else:
        _pack(root, path, entries)
    return placed, end


def files_of(root: Path, entries: Sequence[Entry]) -> Files:
    """Where the composites of pairs are, loose or in shards."""
    if not entries or not entries[0].shard:
        return Files([(str(root / entry.name),) for entry in entries])
    return Files(
        [(str(root / entry.shard),) for entry in entries],
        [entry.offset for entry in entries],
        [entry.bytes for entry in entries],
    )


def read_composite(root: Path, entry: Entry) -> bytes:
    """The encoded composite of a pair, loose or in a shard."""
    path = root / (entry.shard or entry.name)
    with naming(path), open(path, "rb") as file:
        if not entry.shard:
            return file.read()
        file.seek(entry.offset + _BEFORE)
        return file.read(entry.bytes)


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


def _pack(root: Path, path: Path, entries: Sequence[Entry]) -> None:
    """Of loose composites."""
    import tensorflow as tf  # here, so that preparing without shards does without

    with whole_path(path, sync=False) as beside:
        try:
            with tf.io.TFRecordWriter(str(beside)) as file:
                for entry in entries:
                    file.write((root / entry.name).read_bytes())
        except tf.errors.OpError as error:  # how TensorFlow reports a full disk: "PATH; No space left on device"
            raise OSError(errno.EIO, error.message.rpartition("; ")[2]) from error


def _join(root: Path, path: Path, entries: Sequence[Entry]) -> None:
    """Of records that lie in other shards: they are copied with what is around them, many that are adjacent at once."""
    with whole_file(path, sync=False) as file:
        for source, first, size in _runs(entries):
            with open(root / source, "rb") as shard:
                shard.seek(first)
                while size:
                    chunk = shard.read(min(size, _CHUNK))
                    if not chunk:
                        raise OSError(errno.EIO, f"{root / source} ends too early")
                    file.write(chunk)
                    size -= len(chunk)


def _runs(entries: Sequence[Entry]) -> Iterator[tuple[str, int, int]]:
    """Adjacent records together: the shard, where the first begins, the size of all in bytes."""
    shard, first, end = "", 0, 0
    for entry in entries:
        if (entry.shard, entry.offset) != (shard, end):
            if shard:
                yield shard, first, end - first
            shard, first = entry.shard, entry.offset
        end = entry.offset + entry.bytes + FRAME
    if shard:
        yield shard, first, end - first
