"""The demo data set: the same pixels everywhere, two views of one scene, and all or nothing on the disk."""

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE_SECS, ROOT, tree
from PIL import Image

from p2p_keras.data import town
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.town.compose import block, mood
from p2p_keras.data.town.render import render
from p2p_keras.data.town.scene import BEHIND, EYE, FAR, HORIZON, LENS, WINDOW, Ground, Scene, Solid
from p2p_keras.errors import UserError

# To renew after a wanted change of the drawing: raise town.VERSION and copy what
#   python -c "import sys; sys.path.insert(0, 'tests'); from data.town import test_town; test_town.print_golden()"
# prints. If they differ without such a change, an operation crept in that does not round alike everywhere.
GOLDEN = {
    (0, "train", 0): "27a91213ea60dd07",
    (0, "train", 1): "719754992c3cfe62",
    (0, "train", 5): "60632056d5c7e41d",
    (0, "val", 0): "57af8336b845386d",
    (0, "test", 3): "8a71cb9c6c49b266",
    (7, "train", 0): "b6cd97a23d28b8f8",
}
SMALL = {"train": 3, "val": 1, "test": 2}


def digest(seed: int, split: str, index: int) -> str:
    return hashlib.sha256(np.stack(town.draw_scene(seed, split, index, 32)).tobytes()).hexdigest()[:16]


def print_golden() -> None:
    scenes = [(0, "train", 0), (0, "train", 1), (0, "train", 5), (0, "val", 0), (0, "test", 3), (7, "train", 0)]
    print("GOLDEN = {" + ", ".join(f'{scene}: "{digest(*scene)}"' for scene in scenes).replace("'", '"') + "}")


def scene_with(*solids: Solid, hour: float = 0.0, side: float = 1.0) -> Scene:
    """A straight road through a spring meadow at noon, with nothing but these solids."""
    tint, light = mood(0.0, hour, side)
    lands = ((tint["lawn"], tint["lawn"]),) * 4
    beyond = 2.0 * FAR
    ground = Ground(0.0, 0.0, 3.0, beyond, 22.0, lands, (beyond, beyond), [], tint)
    return Scene(light, ground, tuple(solids))


def differing(with_solid: Scene, street: bool, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns at which a scene differs from the empty one."""
    empty = with_solid._replace(solids=())
    images = [render(scene, size, street).astype(int) for scene in (with_solid, empty)]
    return np.nonzero(np.abs(images[0] - images[1]).max(axis=-1) > 12)


def red_block(x: float, y: float, height: float = 5.0) -> Solid:
    return block(x, y, 0.0, (4.0, 4.0, height), (0.8, 0.02, 0.02))


def red_pixels(scene: Scene, street: bool, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    image = render(scene, size, street).astype(int)
    return np.nonzero(image[..., 0] > image[..., 1] + image[..., 2])


@pytest.mark.parametrize("scene", GOLDEN)
def test_pixels_are_golden(scene):
    assert digest(*scene) == GOLDEN[scene]


def test_the_first_view_is_from_above_and_the_second_has_a_sky():
    views = [town.draw_scene(0, "val", index, 16) for index in range(40)]
    assert {(view.shape, view.dtype.name) for pair in views for view in pair} == {((16, 16, 3), "uint8")}
    aerial, street = np.array(views).astype(float).mean(axis=(0, 3, 4))
    # Not in each, for at dusk the road is lit and the sky is not; in the mean over 40 scenes by some 26 levels of 255.
    assert street[:6].mean() - street[10:].mean() > 15
    assert abs(aerial[:6].mean() - aerial[10:].mean()) < 15


def test_seed_split_and_index_each_change_the_scene():
    scenes = [(0, "train", 0), (1, "train", 0), (-1, "train", 0), (0, "val", 0), (0, "test", 0), (0, "train", 1)]
    assert len({digest(*scene) for scene in scenes}) == len(scenes)
    assert digest(0, "train", 0) == digest(0, "train", 0)


@pytest.mark.parametrize("image_size", [0, -2, 14, 33])
def test_refuses_sizes_it_cannot_draw(image_size, tmp_path):
    with pytest.raises(UserError, match=f"even image size of 16 or more, got {image_size}"):
        town.draw_scene(0, "train", 0, image_size)
    with pytest.raises(UserError, match="even image size"):
        town.ensure_town(tmp_path / "cache", image_size, counts=SMALL, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("index", range(4))
def test_scene_does_not_depend_on_the_size(index):
    # Edges are sampled at other points, so single pixels on them differ, but flat areas agree to rounding.
    for small, large in zip(town.draw_scene(0, "val", index, 64), town.draw_scene(0, "val", index, 128), strict=True):
        halved = large.reshape(64, 2, 64, 2, 3).astype(float).mean(axis=(1, 3))
        error = np.abs(halved - small)
        assert error.mean() < 3.0
        assert np.median(error) <= 1.0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_both_views_show_a_thing_on_its_side(sign):
    scene = scene_with(red_block(sign * 8.0, 16.0))
    for street in (False, True):
        _, columns = red_pixels(scene, street)
        assert len(columns) > 10
        assert np.all(columns >= 32 if sign > 0 else columns < 32)


def test_aerial_view_is_to_scale():
    rows, columns = red_pixels(scene_with(red_block(8.0, 16.0)), street=False, size=96)  # 2 pixels a metre
    assert (columns.min(), columns.max() + 1) == (48 + 12, 48 + 20)
    assert (rows.min(), rows.max() + 1) == (96 - 2 * (18 + 5), 96 - 2 * (14 + 5))


def test_street_view_is_in_perspective():
    size = 128
    for y in (12.0, 24.0):
        rows, columns = red_pixels(scene_with(red_block(6.0, y)), street=True, size=size)
        front, scale = y - 2.0, 0.5 * size / LENS  # the face towards the car is seen in full, between x = 4 and 8
        assert columns.max() + 1 == pytest.approx(size / 2 + 8.0 / front * scale, abs=1.0)
        assert rows.min() == pytest.approx(size * HORIZON - (5.0 - EYE) / front * scale, abs=1.0)
        assert rows.max() + 1 == pytest.approx(size * HORIZON + EYE / front * scale, abs=1.0)


def test_nearer_things_hide_farther_ones():
    near = red_block(5.0, 12.0)
    green = block(9.0, 24.0, 0.0, (4.0, 4.0, 4.0), (0.02, 0.8, 0.02))
    images = [render(scene_with(*solids), 64, True) for solids in ((near, green), (green, near), (near,), (green,))]
    np.testing.assert_array_equal(images[0], images[1])
    rows, columns = red_pixels(scene_with(near), True)
    np.testing.assert_array_equal(images[0][rows, columns], images[2][rows, columns])
    assert (images[3][rows, columns, 1] > 1.5 * images[3][rows, columns, 0]).any()  # there is something to hide


@pytest.mark.parametrize("hour", [0.0, 1.0])
def test_shadow_tells_the_height(hour):
    def reach(height: float) -> float:
        rows, _ = differing(scene_with(red_block(-10.0, 8.0, height), hour=hour), street=False, size=96)
        return (96 - rows.min()) / 2.0 - BEHIND - 10.0  # metres beyond the back of the block

    sun = scene_with(hour=hour).light.to_sun
    assert math.hypot(*sun) == pytest.approx(1.0)
    for height in (4.0, 8.0):
        assert reach(height) == pytest.approx(-sun[1] / sun[2] * height, abs=0.6)


def test_both_views_show_the_same_shadow():
    scene = scene_with(red_block(-7.0, 10.0, 6.0), side=-1.0)  # sun on the left: the shadow falls towards the road
    empty = scene._replace(solids=())
    sun, size = scene.light.to_sun, 256
    ahead, aside = -sun[1] / sun[2] * 6.0, -sun[0] / sun[2] * 6.0  # where the top's shadow lies
    assert ahead > 3.0
    assert aside > 2.0
    for x, y, dark in ((-5.0 + aside - 0.6, 12.0 + ahead - 0.6, True), (-5.0 + aside + 0.6, 12.0 + ahead - 0.6, False)):
        street = (HORIZON + 0.5 * EYE / y / LENS, 0.5 + 0.5 * x / y / LENS)
        aerial = (1.0 - (y + BEHIND) / WINDOW, 0.5 + x / WINDOW)
        for is_street, (row, column) in ((True, street), (False, aerial)):
            pixels = [render(one, size, is_street)[int(row * size), int(column * size)] for one in (scene, empty)]
            assert (pixels[0].sum() < 0.85 * pixels[1].sum()) == dark


def test_mirrored_scene_gives_mirrored_views():
    # Training mirrors pairs, so that must give a scene that could have been drawn. Samples are not mirrored: tolerance.
    left, right = red_block(-8.0, 14.0), red_block(8.0, 14.0)
    for street in (False, True):
        image = render(scene_with(left, side=-1.0), 64, street).astype(float)
        other = render(scene_with(right, side=1.0), 64, street).astype(float)
        error, unlike = np.abs(image[:, ::-1] - other).mean(), np.abs(image - other).mean()
        assert unlike > 2.0
        assert error < 0.2 * unlike


def test_mean_colours_of_the_views_go_together():
    # What lets a small network learn: the ground of the street view is told by that of the aerial view.
    pairs = [town.draw_scene(0, "train", index, 16) for index in range(40)]
    aerial = np.array([view.mean() for view, _ in pairs])
    street = np.array([view[8:].mean() for _, view in pairs])
    assert np.corrcoef(aerial, street)[0, 1] > 0.9


def test_ensure_town_makes_the_promised_files(tmp_path):
    progress = []
    cache = tmp_path / "not" / "yet"
    folder = town.ensure_town(cache, 32, 5, SMALL, workers=1, on_progress=lambda *numbers: progress.append(numbers))
    assert folder == cache / "town-v1-32-seed5-test2-train3-val1"
    assert [path.name for path in cache.iterdir()] == [folder.name]
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    images = [f"{split}/{index:05d}.png" for split in ("test", "train", "val") for index in range(SMALL[split])]
    assert files == ["dataset.json", *images]
    assert progress == [(done, 6) for done in range(1, 7)]
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert about.pop("source")
    expected = {"format": 1, "name": "town", "panels": ["aerial", "street"], "image_size": 32, "splits": SMALL}
    assert about == expected
    with Image.open(folder / "train" / "00002.png") as image:
        assert np.array_equal(np.asarray(image), np.concatenate(town.draw_scene(5, "train", 2, 32), axis=1))


def test_a_town_is_a_data_set_to_train_on(tmp_path):
    pairs = find_pairs(town.ensure_town(tmp_path, 32, counts=SMALL, workers=1))
    assert (pairs.panels, pairs.image_size) == (("aerial", "street"), (32, 32))
    assert {split: len(names) for split, names in pairs.splits.items()} == SMALL


def test_default_counts_are_not_in_the_name(tmp_path):
    folder = tmp_path / "town-v1-128-seed0"
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    assert town.ensure_town(tmp_path) == folder
    assert town.COUNTS == {"train": 600, "val": 60, "test": 60}


def test_second_call_draws_nothing(tmp_path, monkeypatch):
    folder = town.ensure_town(tmp_path, 16, counts=SMALL, workers=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(town, "_draw_file", lambda job: pytest.fail("drew again"))
    assert town.ensure_town(tmp_path, 16, counts=SMALL, workers=1) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("bug"), OSError(28, "No space left on device")])
def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch, error):
    draw, drawn = town._draw_file, []

    def draw_two(job):
        if len(drawn) == 2:
            raise error
        drawn.append(job)
        draw(job)

    monkeypatch.setattr(town, "_draw_file", draw_two)
    expected = (
        UserError if isinstance(error, OSError) else KeyboardInterrupt if error is KeyboardInterrupt else type(error)
    )
    with pytest.raises(expected):
        town.ensure_town(tmp_path, 16, counts=SMALL, workers=1)
    assert len(drawn) == 2
    assert list(tmp_path.iterdir()) == []


def test_removes_what_killed_processes_left(tmp_path):
    def half_drawn(name: str, hours: float, image_hours: float) -> Path:
        image = tmp_path / name / name / "train" / "00000.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"")
        for path in (image, *image.parents[:3]):  # only the image may be younger than its folders
            age = image_hours if path == image else hours
            os.utime(path, (time.time() - age * 3600.0,) * 2)
        return tmp_path / name

    stale = [half_drawn(".town-v1-16-seed0-a1b2c3d4", 25.0, 25.0), half_drawn(".town-v0-64-seed7-val1-x", 99.0, 99.0)]
    kept = [half_drawn(".town-v1-16-seed0-young", 23.0, 23.0), half_drawn(".town-v1-16-seed0-slow", 99.0, 1.0)]
    kept += [half_drawn("town-v0-16-seed0", 99.0, 99.0), half_drawn(".other-v1-16", 99.0, 99.0)]
    kept.append(town.ensure_town(tmp_path, 16, counts=SMALL, workers=1))
    assert not any(folder.exists() for folder in stale)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_file_in_place_of_the_cache_is_a_user_error(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to a folder with room") as raised:
        town.ensure_town(tmp_path / "cache", 16, counts=SMALL, workers=1)
    assert str(tmp_path / "cache") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_quicker_process_wins(tmp_path):
    target = tmp_path / "town-v1-16-seed0-test2-train3-val1"

    def other_process(done, total):
        if done == total:
            target.mkdir()
            (target / "dataset.json").write_text("theirs")

    assert town.ensure_town(tmp_path, 16, counts=SMALL, workers=1, on_progress=other_process) == target
    assert (target / "dataset.json").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_number_of_workers_does_not_matter(tmp_path):
    contents = []
    for workers in (1, 2):
        folder = town.ensure_town(tmp_path / str(workers), 16, counts=SMALL, workers=workers)
        contents.append(tree(folder))
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7


def test_main_that_cannot_be_imported_again_does_not_matter(tmp_path):
    script = (
        f"from pathlib import Path; from p2p_keras.data.town import ensure_town as make; make(Path({str(tmp_path)!r}), "
    )
    script += f"16, counts={SMALL}, workers=2)"
    command = [sys.executable, "-"]
    subprocess.run(command, input=script, text=True, cwd=ROOT, check=True, capture_output=True, timeout=DEADLINE_SECS)
    assert len(list(tmp_path.glob("town-*/*/*.png"))) == 6
