from pathlib import Path

import pytest

from p2p_keras.data.prepare import splits
from p2p_keras.data.prepare.sources import Source
from p2p_keras.errors import UserError

SHARES = splits.Shares(70, 10, 20)


def _sources(count, folder=""):
    return [Source(f"{folder}{i:05d}.x1.y2", ("a", "b")) for i in range(count)]


def test_hashed_shares_come_out_and_the_seed_decides():
    parts = splits.by_hash(_sources(20_000), SHARES)
    counts = splits.count(parts.split_of)
    for split, share in zip(("train", "val", "test"), SHARES, strict=True):
        assert counts[split] / 200 == pytest.approx(share, abs=1.2)  # four standard deviations of a draw of 20,000
    other = splits.by_hash(_sources(20_000), SHARES, seed=1)
    assert other.split_of != parts.split_of


def test_nobody_moves_when_files_are_added_and_val_never_touches_test():
    small = splits.by_hash(_sources(500), SHARES).split_of
    large = splits.by_hash(_sources(1000), SHARES).split_of
    assert {source: large[source] for source in small} == small
    without = splits.by_hash(_sources(1000), splits.Shares(80, 0, 20)).split_of
    assert {s for s, part in without.items() if part == "test"} == {s for s, part in large.items() if part == "test"}


def test_lists_decide_and_what_they_leave_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("00000.x1.y2.jpg\n00001.x1.y2\n\ndeep/00002.x1.y2.png\n00001.x1.y2.jpg\n")
    (tmp_path / "test.txt").write_text("00003.x1.y2.jpg\nnobody.jpg\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    found = [*_sources(5)[:2], *_sources(5, "deep/")[2:]]
    parts = splits.by_lists(found, lists)
    assert {source.name: part for source, part in parts.split_of.items()} == {
        "00000.x1.y2": "train",
        "00001.x1.y2": "train",
        "deep/00002.x1.y2": "train",
        "deep/00003.x1.y2": "test",
    }
    assert parts.left_out == {
        "deep/00004.x1.y2": "it is in no list",
        "nobody": "it is in a list, but there is no such pair",
    }
    assert parts.remarks == [f"{tmp_path / 'train.txt'} names 1 pairs twice"]


def test_val_is_carved_out_of_train_only(tmp_path):
    found = _sources(1000)
    (tmp_path / "train.txt").write_text("\n".join(source.name for source in found[:800]))
    (tmp_path / "test.txt").write_text("\n".join(source.name for source in found[800:]))
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    counts = splits.count(splits.by_lists(found, lists, splits.Shares(80, 20, 0)).split_of)
    assert counts["test"] == 200
    assert counts["val"] == pytest.approx(160, abs=45)  # four standard deviations
    foldered = [source._replace(split="train") for source in found]
    assert splits.count(splits.by_folders(foldered).split_of) == {"train": 1000, "val": 0, "test": 0}
    assert splits.count(splits.by_folders(foldered, splits.Shares(80, 20, 0)).split_of)["val"] > 100


def test_what_cannot_be_right_is_an_error(tmp_path):
    for text in ("90,5", "90,5,6", "a,b,c", "-10,10,100", "0,50,50"):
        with pytest.raises(UserError, match="together 100"):
            splits.parse_shares(text)
    assert splits.parse_shares("98,0,2") == (98, 0, 2)
    (tmp_path / "a.txt").write_text("x.jpg\n")
    with pytest.raises(UserError, match="x is in the lists of train and of test"):
        splits.by_lists(_sources(1), {"train": tmp_path / "a.txt", "test": tmp_path / "a.txt"})
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        splits.by_lists(_sources(1), {"train": tmp_path / "none.txt"})


def test_the_official_dayton_lists_have_the_official_counts(shared_data: Path):
    names = {
        split: [line.strip() for line in (shared_data / "dayton" / f"{split}_split.txt").read_text().splitlines()]
        for split in ("train", "test")
    }
    found = [Source(name.removesuffix(".jpg"), ("a", "b")) for part in names.values() for name in part]
    assert len(found) == 76_048
    lists = {split: shared_data / "dayton" / f"{split}_split.txt" for split in names}
    parts = splits.by_lists(found, lists)
    assert splits.count(parts.split_of) == {"train": 55_000, "val": 0, "test": 21_048}
    assert not parts.left_out
    assert not parts.remarks
