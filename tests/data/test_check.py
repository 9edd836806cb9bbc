import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import as_file, draw_pair, hidden_size_png, many_scans, png_of, write_bomb, write_pairs
from PIL import Image

from p2p_keras.data import check
from p2p_keras.data.pairs import Reading, find_pairs
from p2p_keras.errors import UserError
from p2p_keras.images.kinds import Kind


def _save(path, size=(64, 32), mode="RGB", **options):
    Image.new(mode, size).save(path, **options)


def _truncated_jpeg(path):
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 128, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def _rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "make", "problem"),
    [
        ("a.jpg", lambda path: path.write_bytes(b""), "empty"),
        ("a.jpg", lambda path: path.write_text("text"), "not an image"),
        ("a.jpg", _truncated_jpeg, "cannot be decoded"),
        ("a.png", lambda path: _save(path, (65, 32)), "width 65 is not divisible by 2"),
        ("a.jpg", _rotated, "EXIF orientation"),
        ("a.png", write_bomb, "13000x13000 is more than 64 megapixels"),
        ("a.jpg", lambda path: _save(path, mode="CMYK", format="JPEG"), "CMYK"),
        ("a.png", lambda path: _save(path, format="GIF"), "GIF"),
        ("a.png", lambda path: path.write_bytes(hidden_size_png(64, 32)), "header is not the first chunk"),
        ("a.jpg", lambda path: path.write_bytes(many_scans(np.zeros((32, 64, 3), np.uint8), 1001)), "1,000 scans"),
        ("a.jpg", os.mkfifo, "not a file"),
    ],
)
def test_each_kind_of_bad_file_is_told_by_its_problem(tmp_path, name, make, problem):
    make(tmp_path / name)
    assert problem in check.find_bad_pairs([(str(tmp_path / name),)], Reading())[0]


def test_a_file_alone_is_checked_for_the_classes_of_one_panel(tmp_path):
    path, kind = tmp_path / "a.png", Kind(3, labels=True)
    Image.fromarray(np.array([[0, 2, 0, 3]], np.uint8)).save(path)  # two panels of two pixels
    assert check.file_problem(str(path), 2, panel=0, kind=kind) is None
    assert check.file_problem(str(path), 2, panel=1, kind=kind) == "it has class 3; with 3 classes the highest is 2"
    assert check.file_problem(str(path), kind=kind) == "it has class 3; with 3 classes the highest is 2"
    assert check.file_problem(str(path)) is None  # an image
    Image.new("RGB", (4, 4)).save(path)
    assert check.file_problem(str(path), kind=kind).startswith("its pixels are RGB; a label map is")


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_classes_are_the_numbers_in_the_file_whatever_its_depth(tmp_path, bits, indexed):
    path, highest = tmp_path / "a.png", 2**bits - 1
    path.write_bytes(png_of(np.array([[0, highest]]), bits, indexed))
    assert check.file_problem(str(path), kind=Kind(highest + 1, labels=True)) is None
    assert check.file_problem(str(path), kind=Kind(highest, labels=True)) == (
        f"it has class {highest}; with {highest} classes the highest is {highest - 1}"
    )


def test_what_earlier_versions_remember_of_label_maps_is_not_believed(tmp_path):
    """They took class 3 of a file of 4 bits for class 51."""
    for number in range(2):
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "train" / f"{number}.png").write_bytes(png_of(np.array([[0, 3]]), 4))
    pairs, reading = find_pairs(tmp_path / "data"), Reading(input_kinds=(Kind(4, labels=True),))
    digest = hashlib.sha256(f"{check.MAX_PIXELS} {(2, *reading.input_kinds)}\n".encode())
    for name, (path,) in zip(pairs.splits["train"], pairs.files("train").paths, strict=True):
        status = Path(path).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    memory = {"files": digest.hexdigest()[:16], "bad": dict.fromkeys(pairs.splits["train"], "it has class 51")}
    (tmp_path / "memory.json").write_text(json.dumps(memory))
    assert check.checked(pairs, reading, 0, tmp_path / "memory.json") == (pairs, {})


def test_what_is_remembered_is_of_the_panels_that_were_checked(tmp_path):
    """A map taken for the input, or a panel of another size: the next start, with the right panels, is not refused."""
    for panel, mode, size in (("A", "L", (40, 32)), ("B", "RGB", (64, 32)), ("C", "RGB", (64, 32))):
        (tmp_path / panel / "train").mkdir(parents=True)
        for number in range(2):
            Image.new(mode, size).save(tmp_path / panel / "train" / f"{number}.png")
    kind, pairs = Kind(3, labels=True), find_pairs(tmp_path, ("A", "B", "C"))
    for wrong, right in (
        (Reading(3, (1,), 0, input_kinds=(kind,)), Reading(3, (0,), 1, input_kinds=(kind,))),
        (Reading(3, (1,), 0, input_kinds=(kind,)), Reading(3, (1,), 0, target_kind=kind)),
        (Reading(3, (0,), 1, native=True), Reading(3, (2,), 1, native=True)),
    ):
        with pytest.raises(UserError, match="2 cannot be used"):
            check.checked(pairs, wrong, 0, tmp_path / "memory.json")
        assert check.checked(pairs, right, 0, tmp_path / "memory.json") == (pairs, {})
        with pytest.raises(UserError, match="2 cannot be used"):
            check.checked(pairs, wrong, 0, tmp_path / "memory.json")


def test_a_truncated_png_is_found(tmp_path):
    write_pairs(tmp_path, 1)
    content = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(content[: len(content) // 2])
    assert check.find_bad_pairs([(str(tmp_path / "000.png"),)], Reading())


def test_good_files_have_no_problem(pairs_dir):
    assert check.find_bad_pairs(find_pairs(pairs_dir).files("train").paths, Reading()) == {}


def test_bad_files_stop_the_start_unless_they_may_be_left_out(pairs_dir, tmp_path):
    (pairs_dir / "train" / "001.png").write_text("text")
    (pairs_dir / "val" / "000.png").write_bytes(b"")
    pairs = find_pairs(pairs_dir)
    with pytest.raises(
        UserError, match=r"Of 15 pairs .* 2 cannot .*train/001\.png: it is not an image.*--max_bad_files=2"
    ):
        check.checked(pairs, Reading(), 1, tmp_path / "memory.json")
    kept, bad = check.checked(pairs, Reading(), 2, tmp_path / "memory.json")
    assert list(bad) == ["train/001.png", "val/000.png"]
    assert len(kept.splits["train"]) == 11
    assert "train/001.png" not in kept.splits["train"]


def test_a_link_to_nowhere_is_one_bad_file_even_if_it_comes_first(pairs_dir, tmp_path):
    (pairs_dir / "train" / "000.png").unlink()
    (pairs_dir / "train" / "000.png").symlink_to(tmp_path / "nowhere.png")
    pairs = find_pairs(pairs_dir)
    assert check.bit_depths(pairs, "train", (0, 1)) == (8, 8)
    _, bad = check.checked(pairs, Reading(), 1, tmp_path / "memory.json")
    assert bad == {"train/000.png": "it is not there"}


def test_when_all_are_bad_leaving_them_out_is_no_way_out(pairs_dir, tmp_path):
    with pytest.raises(UserError, match=r"images? of 3 panels.*15 cannot be used.*not divisible by 3") as error:
        check.checked(find_pairs(pairs_dir, ("a", "b", "c")), Reading(3), 0, tmp_path / "memory.json")
    assert "--max_bad_files" not in str(error.value)


def test_the_same_files_are_decoded_once_and_changed_ones_again(pairs_dir, tmp_path):
    read = []
    memory = tmp_path / "memory.json"
    check.checked(find_pairs(pairs_dir), Reading(), 0, memory, lambda done, total: read.append(done))
    assert read == list(range(1, 16))
    check.checked(find_pairs(pairs_dir), Reading(), 0, memory, lambda done, total: read.append(done))
    assert len(read) == 15
    for edited in (5, []):  # by whomever
        memory.write_text(json.dumps({**json.loads(memory.read_text()), "bad": edited}))
        assert check.checked(find_pairs(pairs_dir), Reading(), 0, memory)[1] == {}
    (pairs_dir / "train" / "000.png").write_text("changed")
    with pytest.raises(UserError, match=r"000\.png"):
        check.checked(find_pairs(pairs_dir), Reading(), 0, memory, lambda done, total: read.append(done))


def test_files_that_may_be_read_again_are_no_longer_bad(pairs_dir, tmp_path, monkeypatch):
    """As after chmod, which changes neither size nor time."""
    pairs, memory = find_pairs(pairs_dir), tmp_path / "memory.json"

    def refuse(files: tuple[str, ...], reading: Reading) -> str | None:
        return "Permission denied" if files[0].endswith("train/001.png") else None

    monkeypatch.setattr("p2p_keras.data.check.pair_problem", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        check.checked(pairs, Reading(), 0, memory)
    assert check.checked(pairs, Reading(), 1, memory)[1] != {}  # which a run leaves out stay left out
    monkeypatch.undo()
    assert check.checked(pairs, Reading(), 0, memory)[1] == {}
    assert check.checked(pairs, Reading(), 0, memory)[1] == {}


def test_a_png_whose_checksums_are_wrong_is_refused(tmp_path):
    """Pillow makes an image of it, TensorFlow an error: it would be found in the middle of a run, and not named."""
    content = bytearray(as_file(draw_pair(0)[0]))
    content[-13] ^= 1  # the end of the pixels' checksum
    (tmp_path / "a.png").write_bytes(content)
    assert check.file_problem(str(tmp_path / "a.png")) == "it is damaged: the checksum of a part of it, IDAT, is wrong"
    content[-13] ^= 1
    (tmp_path / "a.png").write_bytes(content + b"what some programs add")
    assert check.file_problem(str(tmp_path / "a.png")) is None
    (tmp_path / "a.png").write_bytes(content[:-12])
    assert check.file_problem(str(tmp_path / "a.png")) == "it is cut short"
