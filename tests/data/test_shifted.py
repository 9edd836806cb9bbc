"""Shifted and mirrored pairs are found, by the right vector; of sides that show different things nothing is said."""

import numpy as np
import pytest
from conftest import as_file, prepare_folders
from PIL import Image, ImageDraw

from p2p_keras.data import shifted, town
from p2p_keras.data.pairs import Files, find_pairs
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.stack import Form
from p2p_keras.data.shifted import CELLS, Misaligned, find_misaligned, find_shifts, in_one_line, report_misaligned
from p2p_keras.sizes import Size


def _draw(number: int, size: int = 2 * CELLS, right: int = 0, down: int = 0) -> list[Image.Image]:
    """Boxes and discs, as a label map and as what has textures and other brightness; the second by so much aside."""
    rng = np.random.default_rng(number)
    sides = []
    shapes = [(*rng.uniform(-0.2, 1, 2), *rng.uniform(0.05, 0.4, 2), *rng.integers(0, 255, 2)) for _ in range(14)]
    for side, offset in enumerate(((0, 0), (right, down))):
        image = Image.new("L", (size, size), 128)
        draw = ImageDraw.Draw(image)
        for kind, (x, y, width, height, *colours) in enumerate(shapes):
            left, top = x * size + offset[0], y * size + offset[1]
            box = (left, top, left + width * size, top + height * size)
            (draw.ellipse if kind % 2 else draw.rectangle)(box, fill=int(colours[side]))
        noise = rng.normal(0, 6 * side, (size, size))
        sides.append(Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)))
    return sides


def _cells(pairs) -> np.ndarray:
    return np.array(
        [[np.asarray(side.resize((CELLS, CELLS), Image.Resampling.BOX)) for side in pair] for pair in pairs]
    )


@pytest.mark.parametrize(("right", "down"), [(10, 0), (-10, 0), (0, 14), (9, -12), (-40, 25)])
def test_the_shifted_are_found_with_their_vector(right, down):
    """To half a cell: a pixel of the second side at twice the cells."""
    moved = {2, 5, 11}
    found = find_shifts(_cells([_draw(n, right=right * (n in moved), down=down * (n in moved)) for n in range(16)]))
    assert {shift.pair for shift in found} == moved
    for shift in found:
        assert not shift.mirrored
        assert shift.right * 2 * CELLS == pytest.approx(right, abs=1)
        assert shift.down * 2 * CELLS == pytest.approx(down, abs=1)


def test_the_mirrored_are_found_and_of_what_lies_right_nothing_is_said():
    sides = _cells([_draw(number, right=number % 5 - 2, down=number % 3 - 1) for number in range(16)])
    assert find_shifts(sides) == []
    sides[[3, 8], 1] = sides[[3, 8], 1, :, ::-1]
    assert find_shifts(sides) == [shifted.Shift(3, 0, 0, True), shifted.Shift(8, 0, 0, True)]


@pytest.mark.parametrize("seed", range(4))
def test_of_sides_that_show_different_things_nothing_is_said(seed):
    rng = np.random.default_rng(seed)
    sides = _cells([_draw(number + 100 * seed) for number in range(20)])
    assert find_shifts(np.stack([sides[:, 0], np.roll(sides[:, 1], 1, axis=0)], axis=1)) == []
    assert find_shifts(rng.normal(size=sides.shape)) == []
    assert find_shifts(np.zeros_like(sides)) == []
    frame = np.pad(np.zeros((CELLS - 40, CELLS - 30)), ((9, 31), (30, 0)), constant_values=255)  # all have it, shifted
    sides[:, 0], sides[:, 1] = (
        rng.normal(size=(2, 20, CELLS, CELLS)) * 5 + np.stack([frame, np.roll(frame, 20, 0)])[:, None]
    )
    assert find_shifts(sides) == []
    assert find_shifts(sides[:2]) == find_shifts(sides[:0]) == []


def test_the_drawn_town_is_aerial_and_street(tmp_path):
    sides = np.array([town.draw_scene(7, "train", index, 64) for index in range(24)])
    grey = sides.mean(axis=-1)
    assert find_shifts(grey.repeat(CELLS // 64, axis=2).repeat(CELLS // 64, axis=3)) == []


@pytest.mark.parametrize("shards", [0, 2])
def test_it_is_reported_once_by_p2p_prepare_and_before_training(tmp_path, shards):
    """The panels are higher than wide: the vector is in the pixels of a panel."""
    for number in range(20):
        for folder, side in zip(("labels", "photo"), _draw(number, right=16 * (number in (4, 6))), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            side.resize((128, 320)).save(tmp_path / folder / f"{number:02d}.png")
    form = Form(Size(320, 128), quality=90)
    outcome = prepare_folders(tmp_path, tmp_path / "data", form, ("labels", "photo"), shards=shards)
    (line,) = outcome.misaligned
    assert line.startswith("2 pairs seem misaligned, of 20 looked at; photo against labels, in pixels: ")
    rows = (tmp_path / "data" / lists.MISALIGNED).read_text().splitlines()
    assert rows[0] == "pair,panel,against,right,down,mirrored"
    assert sorted(row.partition("/")[2] for row in rows[1:]) == [
        f"{number}.jpg,photo,labels,8,0,False" for number in ("04", "06")
    ]
    told = []
    pairs = find_pairs(tmp_path / "data")
    report_misaligned(pairs, (1, 0), told.append)
    train = [name for name in ("train/04.jpg", "train/06.jpg") if name in pairs.splits["train"]]
    assert train
    assert len(told) == 1
    assert f"target against input, in pixels: {train[0]} by 8 to the left" in told[0]


def test_a_folder_for_each_side_and_other_kinds_of_images_are_read(tmp_path):
    rows = []
    for number in range(8):
        first, second = _draw(number, right=20 * (number == 3))
        deep = np.asarray(second).astype(np.uint16) << 8
        first.quantize(16).save(tmp_path / f"{number}.png")  # indexed
        (tmp_path / f"{number}.b").write_bytes(as_file(deep) if number % 2 else as_file(second, "JPEG"))
        rows.append((str(tmp_path / f"{number}.png"), str(tmp_path / f"{number}.b")))
    (tmp_path / "6.b").write_bytes(b"")
    looked_at, found = find_misaligned(Files(rows), list("abcdefgh"), 2, (0, 1))
    assert (looked_at, found) == (7, [Misaligned("d", 20, 0, False)])


def test_a_large_set_is_sampled_and_large_pictures_are_fewer(tmp_path, monkeypatch):
    content = as_file(np.concatenate([np.asarray(side) for side in _draw(1)], axis=1), "JPEG")
    (tmp_path / "x.jpg").write_bytes(content)
    files = Files([(str(tmp_path / "x.jpg"),)] * 1000)
    numbers, sides, sizes = shifted.read_sides(files, 2, (0, 1))
    assert (len(numbers), numbers[:3], numbers[-1]) == (64, [0, 15, 31], 984)
    assert (sides.shape, set(sizes)) == ((64, 2, CELLS, CELLS), {(256, 256)})
    monkeypatch.setattr(shifted, "_MOST_PIXELS", 10 * 512 * 256)
    assert len(shifted.read_sides(files, 2, (0, 1))[0]) == 40
    (tmp_path / "x.jpg").write_bytes(as_file(Image.open(tmp_path / "x.jpg")))  # a PNG, which is decoded whole
    assert len(shifted.read_sides(files, 2, (0, 1))[0]) == 10


def test_the_line_names_the_first_and_how():
    rows = [Misaligned("a", -3, 10, False), Misaligned("b", 0, 0, True), Misaligned("c", 0, -7, False)]
    line = "in pixels: a by 3 to the left and 10 down, b mirrored, c by 7 up"
    assert in_one_line(9, rows, ("x", "y")) == f"3 pairs seem misaligned, of 9 looked at; y against x, {line}"
    assert in_one_line(9, rows * 2, ("x", "y")).endswith(f"{line}, ...")
    assert in_one_line(9, rows[:1], ("x", "y")).startswith("1 pair seems misaligned, of 9")


def _facades(folder, right: int = 0, count: int = 64):
    """Labels and photos as cells, where the photo shows what lies so many pixels farther left."""
    sides = []
    for path in sorted(folder.glob("*.jpg"))[::6][:count]:
        with Image.open(path) as image:
            labels, photo = image.crop((256, 0, 512 - right, 256)), image.crop((right, 0, 256, 256))
            sides.append(
                [np.asarray(side.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX)) for side in (labels, photo)]
            )
    return np.array(sides)


def test_facades_are_not_shifted_and_if_they_are_it_is_found(shared_data):
    """The measured rates; they are exact, for nothing here is drawn by chance."""
    for split in ("train", "test"):
        assert find_shifts(_facades(shared_data / "facades" / split)) == []
    found = find_shifts(_facades(shared_data / "facades" / "train", right=10))
    assert len(found) > 20
    vectors = np.array([(shift.right * 246, shift.down * 256) for shift in found])
    np.testing.assert_allclose(np.median(vectors, axis=0), (-10, 0), atol=1)
    assert np.mean(np.abs(vectors - (-10, 0)).max(axis=1) <= 2) > 0.9


def test_dayton_is_silent(shared_data):
    for folder in ("street_first", "aerial_first"):
        files = Files([(str(path),) for path in sorted((shared_data / "dayton" / folder).iterdir())])
        for panels in ((0, 1), (0, 2), (1, 3), (2, 3)):  # of one view and the other, and each with its segmentation
            assert find_misaligned(files, [*map(str, range(len(files)))], 4, panels) == (8, [])
