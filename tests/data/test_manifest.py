import json

import pytest

from p2p_keras.data import manifest
from p2p_keras.data.manifest import Entry
from p2p_keras.errors import UserError

ENTRIES = [
    Entry('-a, "b"\n.x1.jpg', "train", 512, 256, 100, "ab" * 32, "0f" * 16, "120+80"),
    Entry("deep/é.jpg", "test", 512, 256, 7, "cd" * 32, "f0" * 16, "9", "shards/test-00000-of-00001.tfrecord", 116),
]


def test_lines_come_back_as_they_went(tmp_path):
    (tmp_path / "m.csv").write_text(manifest.HEAD + manifest.format_lines(ENTRIES), encoding="utf-8")
    read = manifest.read(tmp_path / "m.csv")
    assert list(read.values()) == ENTRIES
    assert list(read) == ['train/-a, "b"\n.x1.jpg', "test/deep/é.jpg"]


def test_a_last_line_cut_anywhere_is_passed_over(tmp_path):
    whole = manifest.HEAD + manifest.format_lines(ENTRIES[1:] * 2)
    first = len(manifest.HEAD + manifest.format_lines(ENTRIES[1:]))
    for end in range(first, len(whole)):
        (tmp_path / "m.csv").write_text(whole[:end], encoding="utf-8")
        assert list(manifest.read(tmp_path / "m.csv").values()) == ENTRIES[1:]


def test_a_journal_is_read_as_far_as_it_is_whole(tmp_path):
    plain = [ENTRIES[1], ENTRIES[1]._replace(pair='ö, "b".jpg', shard="", offset=0)]
    lines = manifest.format_lines(plain).encode()
    other = manifest.format_lines([ENTRIES[1]._replace(width=9)]).encode()
    for left, entries in [
        (None, []),
        (b"", []),
        (lines, plain),
        (manifest.HEAD.encode() + lines, plain),
        (lines[:-9] + lines, plain),
        (lines[:-1], plain[:1]),  # it was not finished
        (lines + other, [plain[0]._replace(width=9), plain[1]]),  # the last word counts
        (b"\x00\xff\r\n" + lines, plain),
        (manifest.format_lines(ENTRIES).encode(), plain[:1]),  # a name with a line break is not known in a journal
    ]:
        (tmp_path / "m.csv").unlink(missing_ok=True)
        if left is not None:
            (tmp_path / "m.csv").write_bytes(left)
        assert list(manifest.read_journal(tmp_path / "m.csv").values()) == entries


def test_other_files_are_errors(tmp_path):
    for text in ("a,b\n1,2\n", manifest.HEAD + "x,train,one,1,1,a,b,1,,0\n", manifest.HEAD + "x,train\n"):
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(UserError, match=r"m\.csv cannot be read"):
            manifest.read(tmp_path / "m.csv")
    (tmp_path / "d.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format must be 1, which this version knows, is 99"):
        manifest.read_description(tmp_path / "d.json")


@pytest.mark.parametrize(
    "entry",
    [
        ENTRIES[0]._replace(pair="../../other/x.jpg"),
        ENTRIES[0]._replace(pair="/etc/x.jpg"),
        ENTRIES[0]._replace(pair="a\0.jpg"),
        ENTRIES[0]._replace(split=".."),
        ENTRIES[1]._replace(shard="../shards/x.tfrecord"),
        ENTRIES[1]._replace(shard="/dev/zero"),
        ENTRIES[1]._replace(bytes=-1),
        ENTRIES[1]._replace(offset=-1),
    ],
)
def test_a_manifest_names_nothing_outside_of_its_data_set(tmp_path, entry):
    """p2p-eval writes images under these names, and p2p-prepare removes the files of an earlier manifest."""
    lines = manifest.format_lines([entry])
    (tmp_path / "m.csv").write_text(manifest.HEAD + lines)
    with pytest.raises(UserError, match=r"m\.csv cannot be read"):
        manifest.read(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text(lines)
    assert manifest.read_journal(tmp_path / "m.csv") == {}


@pytest.mark.parametrize("panels", [["../../other", "A"], ["A", "/etc"]])
def test_a_description_names_no_panels_outside_of_its_data_set(tmp_path, panels):
    (tmp_path / "d.json").write_text(json.dumps({"panels": panels}))
    with pytest.raises(UserError, match="leads out of its folder"):
        manifest.read_description(tmp_path / "d.json")
