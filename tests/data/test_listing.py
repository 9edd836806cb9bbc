"""Which files are images: hidden ones, links that lead in a circle, names that only look odd."""

import os
from pathlib import Path

import pytest

from p2p_keras.data.listing import list_images
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import sources
from p2p_keras.errors import UserError
from p2p_keras.translate import find_sources

VISIBLE = ["-a.x1.png", "0.png", "_b.png", "deep/1.JPG"]
HIDDEN = [".0.png", ".ipynb_checkpoints/0-checkpoint.png", "deep/.cache/far/1.png", ".git/2.jpg"]


def _write(root: Path, names: list[str] = VISIBLE + HIDDEN) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def _by_pairs(root: Path) -> list[str]:
    return list_images(root, "")[0]


def _by_folder(root: Path) -> list[str]:
    return sorted(source.name for source in find_sources([str(root)]))


def _by_pattern(root: Path) -> list[str]:
    found = [path for ending in ("png", "JPG", "jpg") for path in _matches(f"{root}/**/*.{ending}")]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _matches(pattern: str) -> list[Path]:
    try:
        return [source.files[0] for source in find_sources([pattern])]
    except UserError:  # there is none
        return []


@pytest.fixture(params=[_by_pairs, _by_folder, _by_pattern])
def listed(request):
    """Every way in which a folder is searched."""
    return request.param


def test_hidden_files_and_all_in_hidden_folders_are_left_out_below_the_root_only(tmp_path, listed):
    assert listed(_write(tmp_path / ".mine" / "photos")) == sorted(VISIBLE)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("deep/loop", ".."),
        ("deep/loop", "."),
        ("loop", "."),
        ("above", ".."),  # lists the folder as its own subfolder
        ("above", "../.."),
    ],
)
def test_a_link_to_a_folder_that_it_lies_in_is_not_followed(tmp_path, listed, link, target):
    root = _write(tmp_path / "up" / "photos")
    (root / link).symlink_to(target)
    assert listed(root) == sorted(VISIBLE)


def test_many_links_in_a_circle_do_not_multiply(tmp_path, listed):
    root = _write(tmp_path / "photos")
    for number in range(8):  # followed, there are 8**40 paths
        (root / f"loop{number}").symlink_to(root)
        (root / "deep" / f"loop{number}").symlink_to("..")
    assert listed(root) == sorted(VISIBLE)


def test_a_circle_that_leaves_the_folder_is_not_followed(tmp_path, listed):
    root = _write(tmp_path / "photos", ["0.png"])
    _write(tmp_path / "elsewhere", ["1.png"])
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert listed(root) == ["0.png", "more/1.png"]


def test_links_to_other_folders_are_followed(tmp_path, listed):
    root = _write(tmp_path / "photos", ["0.png"])
    _write(tmp_path / ".store" / "part", ["1.png", "deep/2.png", ".3.png"])
    (root / "one").symlink_to(tmp_path / ".store" / "part")
    (root / "two").symlink_to("one")
    (root / ".hidden").symlink_to("one")
    files = ["1.png", "deep/2.png"]
    assert listed(root) == ["0.png", *(f"one/{name}" for name in files), *(f"two/{name}" for name in files)]


def test_a_link_that_is_not_followed_is_named_and_what_is_hidden_is_not(tmp_path):
    root = _write(tmp_path / "photos")
    (root / "deep" / "loop").symlink_to("..")
    (root / ".DS_Store").write_text("")
    assert list_images(tmp_path, "photos")[1] == {"photos/deep/loop": "it is a link to a folder that it lies in"}


def test_all_layouts_of_a_data_set_follow_the_rule(tmp_path):
    for place in ("train", "A/train", "B/train", "a/streetview", "a/overhead"):
        root = _write(tmp_path / "all" / place, ["0.png", ".ipynb_checkpoints/0-checkpoint.png"])
        (root / "loop").symlink_to(".")
    everything = tmp_path / "all"
    assert find_pairs(everything).splits["train"] == ("train/0.png",)  # A/ and B/
    found = [
        sources.two_folders([everything / "A" / "train", everything / "B" / "train"], ("a", "b")),
        sources.dayton(everything),
        sources.composites(everything, ("a", "b")),
        sources.composites(everything / "train", ("a", "b")),
        sources.panel_folders(everything),
    ]
    assert [[source.name for source in one.sources] for one in found] == [["0"], ["a/0"], ["0"], ["0"], ["0"]]
    (everything / "A").rename(tmp_path / "A")
    assert find_pairs(everything).splits["train"] == ("train/0.png",)  # side by side


def test_what_is_named_is_taken_hidden_or_not(tmp_path):
    root = _write(tmp_path / "photos")
    for name in HIDDEN:
        assert find_sources([str(root / name)]) == [((root / name,), Path(name).name)]
    assert [source.name for source in find_sources([str(root / ".ipynb_checkpoints")])] == ["0-checkpoint.png"]
    assert [source.name for source in find_sources([str(root / ".git" / "*.jpg")])] == ["2.jpg"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", ["0.png", "a/1.png", "a/b/2.png", "a/b/x.txt"]),
        ("**/*.png", ["0.png", "a/1.png", "a/b/2.png"]),
        ("a/**/*.png", ["a/1.png", "a/b/2.png"]),
        ("**/b/**/*.png", ["a/b/2.png"]),
        ("*/**/[0-9].png", ["a/1.png", "a/b/2.png"]),
        ("a**/*.png", ["a/1.png"]),
        ("*.png", ["0.png"]),
        ("[]**[]/**/*.png", []),
    ],
)
def test_patterns_mean_what_they_mean_to_glob(tmp_path, monkeypatch, pattern, names):
    _write(tmp_path / "[x]", ["0.png", "a/1.png", "a/b/2.png", "a/b/x.txt"])
    monkeypatch.chdir(tmp_path / "[x]")
    assert sorted(map(str, _matches(pattern))) == names
    absolute = f"{tmp_path}/[[]x]/{pattern}"
    assert sorted(map(str, _matches(absolute))) == [str(tmp_path / "[x]" / name) for name in names]


def test_names_that_are_not_utf8_are_left_out_and_named(tmp_path):
    """No manifest can hold them, and TensorFlow cannot open them."""
    for name in (b"good.png", b"\xff.png", b"\xfe/in.png"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    images, others = list_images(tmp_path, "")
    assert images == ["good.png"]
    assert others == dict.fromkeys(["\ufffd", "\ufffd.png"], "its name is not UTF-8; rename it")
