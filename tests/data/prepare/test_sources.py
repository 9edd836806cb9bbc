import json
from pathlib import Path

import pytest
from conftest import write_pairs
from PIL import Image

from p2p_keras.data.listing import list_images
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import sources
from p2p_keras.errors import UserError


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def _names(found):
    return [source.name for source in found.sources]


def test_pairs_by_path_without_extension_and_what_is_left(tmp_path):
    for name in (
        "s/-a b.x1.y2.jpg",
        "s/deep/é.png",
        "s/twice.jpg",
        "s/twice.png",
        "s/alone.JPG",
        "s/notes.txt",
        "s/.x.jpg",
    ):
        _touch(tmp_path / name)
    for name in ("a/-a b.x1.y2.png", "a/deep/é.jpeg", "a/twice.jpg", "a/other.jpg"):
        _touch(tmp_path / name)
    found = sources.two_folders([tmp_path / "s", tmp_path / "a"])
    assert found.panels == ("s", "a")
    assert _names(found) == ["-a b.x1.y2", "deep/é"]
    assert found.sources[0].files == (str(tmp_path / "s/-a b.x1.y2.jpg"), str(tmp_path / "a/-a b.x1.y2.png"))
    reasons = {name.removeprefix(f"{tmp_path}/"): why for name, why in found.unmatched.items()}
    assert reasons == {
        "s/notes.txt": "it is not a .jpg, .png, .webp, .bmp or .tif",
        "s/alone.JPG": "it has no partner",
        "a/other.jpg": "it has no partner",
        "s/twice.jpg": "several files have that name",
        "s/twice.png": "several files have that name",
        "a/twice.jpg": "several files have that name",
    }


def test_dayton_is_found_below_its_folder_in_both_orders(tmp_path):
    for part in ("dayton", "more/part2"):
        for view in ("streetview", "overhead"):
            _touch(tmp_path / part / view / "-x.x1.y2.a-3.jpg")
    _touch(tmp_path / "readme.jpg")
    found = sources.dayton(tmp_path)
    assert found.panels == ("street", "aerial")
    assert _names(found) == ["dayton/-x.x1.y2.a-3", "more/part2/-x.x1.y2.a-3"]
    assert [file.rpartition("/")[0].rpartition("/")[2] for file in found.sources[0].files] == ["streetview", "overhead"]
    assert list(found.unmatched) == ["readme.jpg"]
    turned = sources.dayton(tmp_path, ("aerial", "street"))
    assert turned.sources[0].files == found.sources[0].files[::-1]
    with pytest.raises(UserError, match="street,aerial or aerial,street"):
        sources.dayton(tmp_path, ("a", "b"))
    with pytest.raises(UserError, match="streetview/ and overhead/"):
        sources.dayton(tmp_path / "dayton" / "overhead")


def test_composites_pick_and_reorder_panels(tmp_path):
    write_pairs(tmp_path / "train", 2)
    write_pairs(tmp_path / "test", 1)
    with pytest.raises(UserError, match="--source_panels"):
        sources.composites(tmp_path)
    found = sources.composites(tmp_path, ("aerial", "street", "map"), ("street", "aerial"))
    assert found.panels == ("street", "aerial")
    assert [(s.name, s.split, s.cut, s.chosen) for s in found.sources] == [
        ("000", "train", 3, (1, 0)),
        ("001", "train", 3, (1, 0)),
        ("000", "test", 3, (1, 0)),
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"panels": ["left", "right"]}))
    assert sources.composites(tmp_path).sources[0].chosen == (0, 1)
    with pytest.raises(UserError, match=r"left,right\. It has no up"):
        sources.composites(tmp_path, panels=("up", "left"))
    flat = sources.composites(tmp_path / "train", panels=("a", "b"))
    assert [source.split for source in flat.sources] == ["", ""]


@pytest.mark.parametrize("pattern", ["{p}/{s}", "{s}/{p}", "{s}_{p}", "{s}{p}"])
def test_folders_for_each_panel_in_all_layouts(tmp_path, pattern):
    for split, names in (("train", "ab"), ("test", "c")):
        for panel in "AB":
            for name in names:
                path = tmp_path / pattern.format(p=panel, s=split) / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4)).save(path)
    found = sources.panel_folders(tmp_path)
    assert [(s.name, s.split, len(s.files)) for s in found.sources] == [
        ("a", "train", 2),
        ("b", "train", 2),
        ("c", "test", 2),
    ]


def test_folders_that_are_none_are_errors(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        sources.two_folders([tmp_path / "x", tmp_path / "y"])
    write_pairs(tmp_path / "train", 1)
    with pytest.raises(UserError, match="--composites"):
        sources.panel_folders(tmp_path)
    (tmp_path / "same").mkdir()
    with pytest.raises(UserError, match="Both folders are called same"):
        sources.two_folders([tmp_path / "same", tmp_path / "same"])


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["/raw/street", "/raw/aerial"], "street, aerial"),
        (["/raw/aerial", "/elsewhere/street"], "aerial, street"),
        (["/raw/street/train", "/raw/aerial/train"], "street/train, aerial/train"),
        (["raw/a/x/train", "raw/b/x/train"], "a/x/train, b/x/train"),
        (["/raw", "/raw/aerial"], "raw, aerial"),
        (["/raw/raw", "/raw"], "raw/raw, /raw"),
        (["/raw/street", "/raw/aerial", "/raw/map"], "street, aerial, map"),
        (["/raw", "/raw"], "/raw, /raw"),
        (["/raw, of May/street", "/raw, of May/aerial"], "street, aerial"),
    ],
)
def test_folders_are_known_by_the_ends_of_their_paths(folders, names):
    assert sources.made_from("a folder for each panel", folders) == f"the folders {names}"


def test_other_sources_are_known_by_what_their_panels_show(tmp_path):
    write_pairs(tmp_path / "train", 1)
    found = sources.composites(tmp_path, ("aerial", "street"), ("street", "aerial"))
    assert sources.made_from(found.kind, found.folders) == "composites of aerial,street"


def test_what_pairs_are_made_from_does_not_depend_on_commas_and_the_working_directory(tmp_path, monkeypatch):
    folders = [tmp_path / "raw, of May" / name for name in ("street", "aerial")]
    for folder in folders:
        _touch(folder / "0.png")
    found = sources.two_folders(folders)
    assert sources.made_from(found.kind, found.folders) == "the folders street, aerial"
    assert found.origin == {"kind": "a folder for each panel", "folders": ", ".join(map(str, folders))}


def test_a_folder_is_named_by_its_place_if_need_be_and_no_panel_is_nameless(tmp_path, monkeypatch):
    for name in ("street", "aerial"):
        _touch(tmp_path / name / "0.png")
    monkeypatch.chdir(tmp_path / "street")
    found = sources.two_folders([Path("."), Path("../aerial")])
    assert found.panels == ("street", "aerial")
    (tmp_path / "left").symlink_to("street")
    assert sources.two_folders([tmp_path / "left", tmp_path / "aerial"]).panels == ("left", "aerial")
    with pytest.raises(UserError, match="A panel needs a name"):
        sources.two_folders([Path("/"), Path("../aerial")])


def test_every_kind_of_source_knows_webp_bmp_and_tiff(tmp_path):
    names = ("a.tif", "b.TIFF", "c.webp", "d.bmp")
    for name in names:
        for place in ("street", "overhead", "both/train", "each/A/train"):
            _touch(tmp_path / place / name)
        _touch(tmp_path / "each/B/train" / f"{Path(name).stem}.jpg")
    stems = ["a", "b", "c", "d"]
    assert _names(sources.two_folders([tmp_path / "street", tmp_path / "overhead"])) == stems
    assert _names(sources.dayton(tmp_path / "street" / "..")) == stems
    assert _names(sources.composites(tmp_path / "both", ("a", "b"))) == stems
    found = sources.panel_folders(tmp_path / "each")
    assert [(source.name, source.split) for source in found.sources] == [(name, "train") for name in stems]
    with pytest.raises(
        UserError, match=r"4 others, train/a\.tif for one: it .*p2p-prepare makes one of it$"
    ):  # p2p-train takes none of them
        find_pairs(tmp_path / "both")
    reason = "it is not a .jpg or .png; p2p-prepare makes one of it"
    assert list_images(tmp_path / "street", "") == ([], dict.fromkeys(names, reason))


def test_files_of_one_name_and_several_formats_are_left_out(tmp_path):
    for name in ("s/a.tif", "s/a.png", "s/b.bmp", "t/a.png", "t/b.webp"):
        _touch(tmp_path / name)
    found = sources.two_folders([tmp_path / "s", tmp_path / "t"])
    assert _names(found) == ["b"]
    assert set(found.unmatched.values()) == {"several files have that name"}
    assert len(found.unmatched) == 3
