"""Shards as files: whole or not there. What is in them, test_run knows."""

import resource
import signal

import pytest

from p2p_keras.data.manifest import Entry
from p2p_keras.data.prepare.shards import write_shards


def _entries(root, count: int = 3, size: int = 100) -> list[Entry]:
    (root / "train").mkdir()
    for number in range(count):
        (root / "train" / f"{number}.jpg").write_bytes(bytes(size))
    return [Entry(f"{number}.jpg", "train", 2, 1, size, "", "", "") for number in range(count)]


def _all_files(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_disk_that_is_full_is_an_error_that_names_the_shard_and_leaves_nothing(tmp_path):
    entries = _entries(tmp_path, size=100_000)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_shards(tmp_path, entries, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path / "shards" / "train-00000-of-00001.tfrecord")
    assert _all_files(tmp_path) == ["train/0.jpg", "train/1.jpg", "train/2.jpg"]
