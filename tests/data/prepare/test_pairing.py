"""Pairs by a table: how it is read, and what of it makes no pair."""

import json
from pathlib import Path

import pytest
from conftest import draw_pair, run_prepare
from PIL import Image

from p2p_keras.data.prepare import sources
from p2p_keras.data.prepare.pairing import listed_pairs
from p2p_keras.errors import UserError


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """left/ with a to d, right/ with 1 to 4, each of a format of its own, and a table's place beside them."""
    for folder, names in (
        ("left", ["a.png", "b.tif", "deep/c.webp", "d.bmp"]),
        ("right", ["1.jpg", "2.png", "3", "4"]),
    ):
        for number, name in enumerate(names):
            path = tmp_path / folder / (name if "." in name else f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_pair(number)[folder == "right"]).save(path)
    return [tmp_path / "left", tmp_path / "right"]


def _found(folders, text, encoding="utf-8"):
    table = folders[0].parent / "pairs.csv"
    table.write_bytes(text.encode(encoding))
    return listed_pairs(table, folders)


def _pairs(found, folders):
    root = f"{folders[0].parent}/"
    return {source.name: tuple(file.removeprefix(root) for file in source.files) for source in found.sources}


ALL = {
    "a": ("left/a.png", "right/3.png"),
    "b": ("left/b.tif", "right/1.jpg"),
    "d": ("left/d.bmp", "right/4.png"),
    "deep/c": ("left/deep/c.webp", "right/2.png"),
}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a.png,3.png\nb.tif,1.jpg\ndeep/c.webp,2.png\nd.bmp,4.png\n", "utf-8"),
        ("a,3\nb,1\ndeep/c,2\nd,4", "utf-8"),  # without extensions
        ("Links;Rechts\r\na.png;3.png\r\n\r\n./b.tif;1.jpg\r\n deep//c ;2\r\nd;4\r\n", "utf-8-sig"),  # as Excel does
        ('left\tright\n"a.png"\t3.png\nb\t1\ndeep/../deep/c\t2\nd\t4\n', "utf-8"),
    ],
)
def test_a_table_is_read_as_people_write_them(folders, text, encoding):
    found = _found(folders, text, encoding)
    assert _pairs(found, folders) == ALL
    assert (found.panels, found.unmatched) == (("left", "right"), {})
    has_header = not text.startswith("a")
    assert len(found.remarks) == has_header
    assert not has_header or found.remarks[0].endswith("is taken for its header: it names no image")


def test_whole_paths_and_one_folder_for_both_sides_will_do(folders):
    root = folders[0].parent
    found = _found(folders, f"{folders[0]}/a.png,{folders[1]}/3.png\n")
    assert _pairs(found, folders) == {"a": ALL["a"]}
    (root / "pairs.csv").write_text("left/a,right/3\nleft/b,left/b\nright/1,left/a\n")
    found = listed_pairs(root / "pairs.csv", [root, root], ("x", "y"))
    assert _pairs(found, folders) == {"left/a": ALL["a"]}
    reasons = {name.removeprefix(f"{root}/"): why for name, why in found.unmatched.items()}
    assert reasons["pairs.csv, line 2"] == f"it pairs {root}/left/b.tif with itself"
    assert reasons["pairs.csv, line 3"] == f"{root}/left/a.png is in line 1 already; an image belongs to one pair"
    assert reasons["pairs.csv"] == "it is not a .jpg, .png, .webp, .bmp or .tif"
    assert reasons["left/b.tif"] == f"it is in no line of {root}/pairs.csv"
    assert "left/a.png" not in reasons


def test_lines_that_make_no_pair_and_images_in_no_line_are_named(folders):
    root = folders[0].parent
    (folders[0] / "a.jpg").write_bytes(b"")
    (folders[0] / "e.gif").write_bytes(b"")
    found = _found(
        folders, "x.png,1.jpg\na,1.jpg\na.png,1.jpg\na.jpg,2\na.png,3\nb,1\n../right/1,4\n/etc/b,4\ne.gif,4\n"
    )
    assert _pairs(found, folders) == {"a": ("left/a.png", "right/1.jpg")}
    reasons = {name.removeprefix(f"{root}/"): why.replace(f"{root}/", "") for name, why in found.unmatched.items()}
    unused = dict.fromkeys(
        ["left/a.jpg", "left/b.tif", "left/deep/c.webp", "left/d.bmp", "right/2.png", "right/3.png", "right/4.png"],
        "it is in no line of pairs.csv",
    )
    assert reasons == unused | {
        "pairs.csv, line 1": "there is no image x.png in left",
        "pairs.csv, line 2": "several files in left have the name a; add the extension",
        "pairs.csv, line 4": "another pair has the name a",
        "pairs.csv, line 5": "left/a.png is in line 3 already; an image belongs to one pair",
        "pairs.csv, line 6": "right/1.jpg is in line 3 already; an image belongs to one pair",
        "pairs.csv, line 7": "../right/1 lies outside of left",
        "pairs.csv, line 8": "/etc/b lies outside of left",
        "pairs.csv, line 9": "there is no image e.gif in left: it is not a .jpg, .png, .webp, .bmp or .tif",
        "left/e.gif": "it is not a .jpg, .png, .webp, .bmp or .tif",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1\nb\n", r"names 2 images, one of each folder, .*Line 2 of \S+pairs.csv is: b$"),
        ("a,1,train\n", "Line 1 of .* is: a,1,train"),
        ("a,1\n,2\n", "Line 2 of .* is: ,2"),
        ("", "There is not one pair in .*lines of .*pairs.csv that name two images"),
        ("left,right\n", "There is not one pair"),
        ("x.png,y.png\n", r"There is not one pair .*the first is .*line 1: there is no image x\.png in"),
        ('a,"1\n', "cannot be read: unexpected end of data"),
    ],
)
def test_a_table_that_makes_nothing_is_refused(folders, text, message):
    with pytest.raises(UserError, match=message):
        _found(folders, text)


def test_what_cannot_be_read_is_refused(folders):
    with pytest.raises(UserError, match=r"--pairs is a CSV .*no\.csv cannot be read: .*No such file"):
        listed_pairs(folders[0] / "no.csv", folders)
    with pytest.raises(UserError, match="cannot be read: 'utf-8'"):
        _found(folders, "ä,1\n", "latin-1")
    with pytest.raises(UserError, match="There is no folder"):
        _found([*folders[:1], folders[0] / "x"], "a,1\n")


def test_the_command_continues_with_the_same_table_only(folders, tmp_path):
    """Of BMPs of one size, neither names nor sizes would tell that others are paired."""
    flags = [f"--first={folders[0]}", f"--second={folders[1]}", "--image_size=16", "--workers=1", "--format=png"]
    flags += [f"--output={tmp_path}/data", "--splits=100,0,0"]
    refused = run_prepare(*flags)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "or --pairs=FILE.csv for other names" in refused.stderr
    flags += [f"--pairs={tmp_path}/pairs.csv"]
    (tmp_path / "pairs.csv").write_text("a,3\nb,1\nx.png,2\n")
    done = run_prepare(*flags)
    assert done.returncode == 0, done.stderr
    assert f"5 files and lines belong to no pair: {tmp_path}/pairs.csv, line 3 (there is no image x.png" in done.stdout
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert described["splits"] == {"train": 2, "val": 0, "test": 0}
    with Image.open(tmp_path / "data" / "train" / "a.png") as image:
        right = Image.open(folders[1] / "3.png").resize((16, 16), Image.Resampling.BICUBIC)
        assert image.crop((16, 0, 32, 16)).tobytes() == right.tobytes()
    assert "It was finished before" in run_prepare(*flags).stdout
    (tmp_path / "pairs.csv").write_text("a,1\nb,3\nx.png,2\n")
    refused = run_prepare(*flags)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "was made from the folders left, right, by the table of sha256" in refused.stderr
    refused = run_prepare(f"--output={tmp_path}/x", f"--composites={tmp_path}", f"--pairs={tmp_path}/pairs.csv")
    assert "--pairs pairs the images of --first and --second" in refused.stderr


def test_other_kinds_of_folders_are_not_taken_for_tables():
    by_table = f"{sources.FOLDER_EACH}{sources.BY_TABLE}0123"
    assert sources.made_from(by_table, ["/raw/a", "/raw/b"]) == "the folders a, b, by the table of sha256 0123"
    kind = "a folder for each panel and split"
    assert sources.made_from(kind, ["/raw"]) == kind
