import io
import json
import re
import shutil

import pytest
from conftest import Page, link, make_tar
from PIL import Image

from p2p_keras.data import archives
from p2p_keras.data.archives import ARCHIVES, fetch_archive
from p2p_keras.data.pairs import SPLITS, find_pairs
from p2p_keras.errors import UserError


def image():
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG")
    return file.getvalue()


def files_of(counts, top="facades/"):
    return {f"{top}{split}/{i}.jpg": image() for split, count in counts.items() for i in range(1, count + 1)}


COUNTS = {"train": 3, "val": 2, "test": 1}


@pytest.fixture
def told():
    return []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "p2p_keras" / "datasets"


@pytest.fixture
def publish(server, cache, tmp_path, monkeypatch):
    """Puts an archive on the server in place of facades, its bytes up to `end`; `page` is how it is served."""

    def publish(files, counts=COUNTS, extra=(), end=None, **page):
        urls = (f"{server.url}/facades.tar.gz",)
        monkeypatch.setitem(ARCHIVES, "facades", ARCHIVES["facades"]._replace(urls=urls, counts=counts))
        content = make_tar(tmp_path / "facades.tar.gz", files, extra=extra).read_bytes()[:end]
        server.pages["/facades.tar.gz"] = Page(content, **page)

    return publish


def test_a_data_set_is_downloaded_once(publish, server, cache, told):
    publish(files_of(COUNTS))
    root = fetch_archive("facades", told.append)
    assert root == cache / "facades" / "facades"
    assert told == [
        f"facades is about 29 MB, downloaded once into {cache / 'facades'}",
        f"Downloading {server.url}/facades.tar.gz",
    ]
    assert {split: len(names) for split, names in find_pairs(root).splits.items()} == COUNTS
    assert json.loads((cache / "facades" / "source.json").read_text())["url"] == f"{server.url}/facades.tar.gz"
    assert fetch_archive("facades", pytest.fail) == root
    assert len(server.asked) == 1


def test_train_may_lie_at_the_top(publish, cache, told):
    publish(files_of(COUNTS, top=""))
    assert fetch_archive("facades", told.append) == cache / "facades"


def test_a_download_is_resumed(publish, server, told, monkeypatch):
    monkeypatch.setattr("p2p_keras.system.download.PAUSES_SECS", ())
    publish(files_of(COUNTS), etag='"1"', cuts=[200])
    with pytest.raises(UserError, match="what has come so far is kept"):
        fetch_archive("facades", told.append)
    fetch_archive("facades", told.append)
    assert server.ranges == [(None, None), ("bytes=200-", '"1"')]


def test_fewer_than_published_are_told(publish, told):
    others = {"facades/train/Thumbs.db": b"", "facades/train/more/x.PNG": b""}  # the second counts as the third image
    publish({**files_of({"train": 2, "val": 2}), **others}, {**COUNTS, "val": None})
    root = fetch_archive("facades", told.append)
    assert told[2:] == [f"facades was published with 1 images in test/, but {root}/test holds 0"]


def test_more_than_published_is_told_too(publish, told):
    publish(files_of({"train": 4}), {"train": 3})
    root = fetch_archive("facades", told.append)
    assert told[2:] == [f"facades was published with 3 images in train/, but {root}/train holds 4"]


def test_without_a_connection_the_way_out_is_a_folder(cache, told, monkeypatch):
    urls = ("http://127.0.0.1:1/facades.tar.gz", "http://127.0.0.1:1/older/facades.tar.gz")
    monkeypatch.setitem(ARCHIVES, "facades", ARCHIVES["facades"]._replace(urls=urls))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError) as raised:
        fetch_archive("facades", told.append)
    assert re.fullmatch(
        r"The data set facades is downloaded once, and that failed \(addresses tried: 2\): .*Connection refused "
        r"\(127.0.0.1:1\). Try again with a connection, or download http://127.0.0.1:1/facades.tar.gz elsewhere, "
        r"unpack it and give the folder with p2p-prepare --composites=FOLDER --source_panels=photo,labels\.",
        str(raised.value),
    )
    assert list(cache.iterdir()) == []


def test_an_unknown_name_is_an_error(cache):
    with pytest.raises(UserError, match=r"are facades, maps, .*, night2photos\. Received town\. Name one of them"):
        fetch_archive("town", pytest.fail)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["../x", "facades/../../x", "/tmp/p2p_keras_x"])
def test_nothing_is_written_outside(publish, cache, told, name):
    publish({**files_of(COUNTS), name: b"evil"})
    with pytest.raises(UserError, match=rf"it would write outside its folder, to {name}"):
        fetch_archive("facades", told.append)
    assert list(cache.iterdir()) == []


def test_nothing_is_written_through_a_link(publish, cache, told, tmp_path):
    publish(files_of(COUNTS), extra=[link("facades", str(tmp_path)), link("facades/train", "..")])
    root = fetch_archive("facades", told.append)
    assert not any(path.is_symlink() for path in (cache / "facades").rglob("*"))
    assert len(list((root / "train").iterdir())) == 3
    assert not (tmp_path / "train").exists()


def test_a_truncated_archive_is_an_error(publish, cache, told):
    publish(files_of(COUNTS), end=-20)
    with pytest.raises(UserError, match=r"The data set facades .* and that failed \(addresses tried: 1\)"):
        fetch_archive("facades", told.append)
    assert list(cache.iterdir()) == []


def test_an_archive_of_something_else_is_an_error(publish, cache, told):
    publish({"other/readme.txt": b"hello"})
    with pytest.raises(UserError, match=rf"must hold a folder train/.*{cache}/facades holds other\. Remove it"):
        fetch_archive("facades", told.append)


def test_a_cache_that_cannot_be_written_is_an_error(publish, cache, told):
    publish(files_of(COUNTS))
    cache.parent.mkdir(parents=True)
    cache.write_text("")
    with pytest.raises(UserError, match=r"A data set is unpacked into the cache, but .* could not be written"):
        fetch_archive("facades", told.append)


def test_another_data_set_of_the_same_name_is_refused(publish, cache, told):
    publish(files_of(COUNTS))
    fetch_archive("facades", told.append)
    shutil.rmtree(cache)
    publish(files_of({"train": 1}))
    with pytest.raises(
        UserError, match=rf"A data set must stay .* but facades has changed.* from {cache.parent}/check"
    ):
        fetch_archive("facades", told.append)
    assert list(cache.iterdir()) == []


def test_every_archive_is_described():
    names = ["facades", "maps", "cityscapes", "edges2shoes", "edges2handbags", "night2day", "night2photos"]
    assert list(ARCHIVES) == names
    for name, archive in ARCHIVES.items():
        published = "night2day" if name == "night2photos" else name
        assert all(url.endswith(f"/{published}.tar.gz") for url in archive.urls)
        assert all(url.startswith("https://") for url in archive.urls)
        assert archive.urls[0].startswith("https://efrosgans.eecs.berkeley.edu/")
        assert len(set(archive.panels)) == 2
        assert "train" in archive.counts
        assert set(archive.counts) <= set(SPLITS)
        assert archive.size_mb > 0


def test_the_real_facades_have_the_published_counts(shared_data):
    """They lie here without val."""
    counts = {split: ARCHIVES["facades"].counts[split] for split in ("train", "test")}
    assert list(archives._differences(shared_data / "facades", "facades", counts)) == []
