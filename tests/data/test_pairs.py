import json

import numpy as np
import pytest
from conftest import draw_pair, prepare_folders, write_pairs
from PIL import Image

from p2p_keras.data import manifest, pipeline
from p2p_keras.data.pairs import Reading, find_pairs, fingerprint, select_panels
from p2p_keras.data.stems import match_stems, stem
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size


def test_lists_images_sorted_with_folders_beneath_and_says_what_it_left_out(pairs_dir):
    write_pairs(pairs_dir / "train" / "more", 1)
    (pairs_dir / "train" / "-a b\u00e9.PNG").write_bytes((pairs_dir / "train" / "000.png").read_bytes())
    (pairs_dir / "train" / "notes.txt").write_text("no image")
    (pairs_dir / "train" / ".DS_Store").write_text("hidden")
    pairs = find_pairs(pairs_dir)
    assert pairs.splits["train"][0] == "train/-a b\u00e9.PNG"
    assert pairs.splits["train"][-1] == "train/more/000.png"
    assert list(pairs.splits["train"]) == sorted(pairs.splits["train"])
    assert [len(pairs.splits[split]) for split in ("train", "val", "test")] == [14, 3, 0]
    assert pairs.ignored == {"train/notes.txt": "it is not a .jpg or .png"}


def test_dataset_json_names_the_panels_and_the_flag_overrides_it(pairs_dir):
    (pairs_dir / "dataset.json").write_text(json.dumps({"panels": ["street", "aerial"], "image_size": 64}))
    pairs = find_pairs(pairs_dir)
    assert (pairs.panels, pairs.image_size, pairs.panel_count) == (("street", "aerial"), (64, 64), 2)
    assert find_pairs(pairs_dir, ("a", "b", "c")).panel_count == 3


@pytest.mark.parametrize("text", ["{", "[1]", '{"panels": [1, 2]}', '{"panels": 3}'])
def test_a_broken_dataset_json_is_an_error(pairs_dir, text):
    (pairs_dir / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        find_pairs(pairs_dir)


def test_missing_and_empty_folders_are_errors_that_say_what_was_found(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_pairs(tmp_path / "none")
    with pytest.raises(UserError, match="holds nothing"):
        find_pairs(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="no such file"):
        find_pairs(tmp_path)
    (tmp_path / "train" / "a.tif").write_text("")
    with pytest.raises(UserError, match=r"1 others, train/a\.tif"):
        find_pairs(tmp_path)


def test_directions_by_name_and_by_position():
    first = ("street", "aerial", "street_seg", "aerial_seg")
    second = ("aerial", "street", "aerial_seg", "street_seg")
    assert select_panels("a2s", first) == (1, 0)
    assert select_panels("s2a", first) == (0, 1)
    assert select_panels("a2s", second) == (0, 1)
    assert select_panels("AtoB", ()) == (0, 1)
    assert select_panels("BtoA", first) == (1, 0)


def test_a_name_that_no_panel_has_lists_the_panels():
    with pytest.raises(UserError, match=r"needs a panel named aerial. The panels are street, map"):
        select_panels("a2s", ("street", "map"))
    with pytest.raises(UserError, match="have no names"):
        select_panels("s2a", ())


def test_fingerprint_knows_names_and_sizes_but_not_the_place(pairs_dir, tmp_path):
    before = fingerprint(find_pairs(pairs_dir))
    moved = pairs_dir.rename(tmp_path / "moved")
    assert fingerprint(find_pairs(moved)) == before
    write_pairs(moved / "val", 5)  # only training pairs decide what a run computes
    assert fingerprint(find_pairs(moved)) == before
    (moved / "train" / "000.png").rename(moved / "train" / "zzz.png")
    assert fingerprint(find_pairs(moved)) != before


def test_both_dayton_composites_come_out_the_right_way_round(shared_data, tmp_path):
    """Sky: the top of a street view is brighter and bluer than its bottom; aerial views have no such rule."""
    orders = {
        "street_first": ("street", "aerial", "street_seg", "aerial_seg"),
        "aerial_first": ("aerial", "street", "aerial_seg", "street_seg"),
    }
    for folder, panels in orders.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train").symlink_to(shared_data / "dayton" / folder)
        pairs = find_pairs(tmp_path / folder, panels)
        input_panel, target_panel = select_panels("a2s", panels)
        dataset = pipeline.inference_dataset(pairs.files("train"), Reading(4, (input_panel,), target_panel), 8)
        aerial, street = (batch.numpy() for batch in next(iter(dataset)))
        assert aerial.shape == street.shape == (8, 256, 256, 3)

        def sky_over_ground(batch):
            return batch[:, :64, :, 2].mean() - batch[:, -64:, :, 2].mean()

        assert sky_over_ground(street) > 0.2
        assert abs(sky_over_ground(aerial)) < 0.15
        composite = np.asarray(Image.open(pairs.files("train").paths[0][0]).convert("RGB"))
        left = panels.index("aerial") * 256
        np.testing.assert_allclose((aerial[0] + 1) * 127.5, composite[:, left : left + 256], atol=1e-3)


def _write_layout(root, pattern, panels=("A", "B"), splits=(("train", 3), ("test", 1))):
    for split, count in splits:
        for number, panel in enumerate(panels):
            folder = root / pattern.format(panel=panel, split=split) / "deep"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw_pair(i)[number]).save(folder / f"{i}.x{'.png' if number else '.PNG'}")


@pytest.mark.parametrize("pattern", ["{panel}/{split}", "{split}/{panel}", "{split}_{panel}", "{split}{panel}"])
def test_a_folder_for_each_panel_is_trainable_as_it_is(tmp_path, pattern):
    _write_layout(tmp_path, pattern)
    if pattern != "{split}/{panel}":
        (tmp_path / pattern.format(panel="A", split="train") / "alone.jpg").write_bytes(b"")
    pairs = find_pairs(tmp_path)
    assert pairs.splits["train"] == ("train/deep/0.x.PNG", "train/deep/1.x.PNG", "train/deep/2.x.PNG")
    assert (len(pairs.splits["val"]), len(pairs.splits["test"])) == (0, 1)
    if pattern != "{split}/{panel}":
        place = pattern.format(panel="A", split="train")
        assert pairs.ignored == {f"{place}/alone.jpg": "it has no partner"}
    dataset = pipeline.inference_dataset(pairs.files("train"), Reading(2, (1,), 0, Size(32, 32)), 3)
    input_image, target_image = (np.rint((batch + 1) * 127.5) for batch in next(iter(dataset)))
    for i in range(3):
        first, second = draw_pair(i)
        np.testing.assert_array_equal(input_image[i], second)
        np.testing.assert_array_equal(target_image[i], first)


def test_folders_may_have_the_panels_names(tmp_path):
    _write_layout(tmp_path, "{panel}/{split}", ("street", "aerial"))
    with pytest.raises(UserError, match="--panels names other folders than A and B"):
        find_pairs(tmp_path)
    pairs = find_pairs(tmp_path, ("street", "aerial"))
    assert select_panels("a2s", pairs.panels) == (1, 0)
    assert pairs.files("test").paths == [
        (f"{tmp_path}/street/test/deep/0.x.PNG", f"{tmp_path}/aerial/test/deep/0.x.png")
    ]


def test_stems_keep_their_dots():
    assert stem("a/--x.x1.y2.a-36.jpg") == "a/--x.x1.y2.a-36"
    assert stem("a.PNG") == "a"
    assert stem("a.tif") == "a"
    assert stem("a.gif") == "a.gif"
    matched, left = match_stems([["a.jpg", "b.png", "c.jpg"], ["a.png", "b.png", "b.jpg"]])
    assert matched == {"a": ("a.jpg", "a.png")}
    assert left == {
        (0, "b.png"): "several files have that name",
        (1, "b.png"): "several files have that name",
        (1, "b.jpg"): "several files have that name",
        (0, "c.jpg"): "it has no partner",
    }


@pytest.mark.parametrize(
    "change", [{"bytes": 10**12}, {"offset": 10**6}, {"shard": "shards/other.tfrecord"}, {"shard": ""}]
)
def test_records_lie_in_the_shards(raw, tmp_path, change):
    """TensorFlow made room for a record of any size, and the process was ended by the lack of it."""
    prepare_folders(raw, tmp_path / "data", shards=3)
    path = tmp_path / "data" / manifest.MANIFEST
    entries = [*manifest.read(path).values()]
    path.write_text(manifest.HEAD + manifest.format_lines([*entries[:-1], entries[-1]._replace(**change)]))
    with pytest.raises(UserError, match=r"manifest\.csv"):
        find_pairs(tmp_path / "data")
