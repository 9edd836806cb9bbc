import io

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, cell, draw_levels, png_of
from PIL import Image, ImageOps

from p2p_keras.images import codec
from p2p_keras.images.files import palette_of, upright, write_png
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours, grid

KINDS = [Kind(1), Kind(2), Kind(4), Kind(1, 16), Kind(2, 16), Kind(3, 16), Kind(4, 16), Kind(12, labels=True)]


def test_every_level_survives_the_way_there_and_back():
    levels = np.arange(256, dtype=np.uint8)
    unit = codec.to_unit_range(levels).numpy()
    assert unit.dtype == np.float32
    assert (unit[0], unit[255]) == (-1.0, 1.0)
    np.testing.assert_array_equal(codec.from_unit_range(unit), levels)


def test_from_unit_range_rounds_to_the_nearest_level_and_clips():
    np.testing.assert_array_equal(codec.from_unit_range(np.array([-3.0, 0.001, 2.0])), [0, 128, 255])


def _noise(mode: str) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    # Smooth noise: blocks and gradients, so that chroma subsampling and the DCT have something to differ in.
    small = np.random.RandomState(0).randint(0, 256, (9, 13, channels), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(small[..., i]).resize((77, 51)) for i in range(channels)])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 90])
def test_jpeg_is_bit_exact_with_pillow(quality, subsampling):
    encoded = as_file(_noise("RGB"), "JPEG", quality=quality, subsampling=subsampling)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(codec.decode(tf.constant(encoded)), expected)


def test_progressive_and_grey_jpeg_are_bit_exact_with_pillow():
    for mode, options in (("RGB", {"progressive": True}), ("L", {})):
        encoded = as_file(_noise(mode), "JPEG", **options)
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(codec.decode(tf.constant(encoded)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_png_is_bit_exact_with_pillow(mode):
    image = _noise(mode) if mode not in ("P", "1") else _noise("RGB").convert(mode)
    encoded = as_file(image)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(codec.decode(tf.constant(encoded)), expected)


@pytest.mark.parametrize("kind", [*KINDS, Kind(256, labels=True)], ids=str)
def test_every_kind_survives_the_way_through_a_file_and_the_range_of_the_networks(kind):
    levels = draw_levels(kind, 9, 7)
    for palette in [None, class_colours()] if kind.labels else [None]:
        decoded = codec.decode(tf.constant(codec.encode(levels, palette)), kind)
        np.testing.assert_array_equal(decoded, levels)
        assert decoded.dtype == levels.dtype
    unit = codec.to_unit_range(decoded, kind)
    assert unit.shape == (9, 7, kind.channels)
    assert (float(tf.reduce_min(unit)), float(tf.reduce_max(unit))) == pytest.approx((-1, 1), abs=0.1)
    for back in (codec.from_unit_range(unit.numpy(), kind), codec.quantise(unit, kind).numpy()):
        np.testing.assert_array_equal(back, levels)
        assert back.dtype == levels.dtype


@pytest.mark.parametrize("transparent", [None, 1])
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_class_numbers_are_those_in_the_file(bits, indexed, transparent):
    numbers = np.random.RandomState(bits).randint(0, 2**bits, (7, 13))
    encoded = png_of(numbers, bits, indexed, transparent)
    decoded = codec.decode(tf.constant(encoded), Kind(256, labels=True))
    np.testing.assert_array_equal(decoded[..., 0], numbers)


@pytest.mark.parametrize(
    ("image", "form", "problem"),
    [
        (Image.new("RGB", (4, 4)), "PNG", "its pixels are RGB; a label map is"),
        (Image.new("I;16", (4, 4)), "PNG", "its pixels are I;16; a label map is"),
        (Image.new("L", (4, 4)), "JPEG", "it is a JPEG; a label map is a PNG"),
    ],
)
def test_what_is_no_label_map_is_not_taken_for_one(image, form, problem):
    with pytest.raises(ValueError, match=problem):
        codec.decode(tf.constant(as_file(image, form)), Kind(256, labels=True))


def test_all_levels_of_16_bits_survive():
    levels = np.arange(65536, dtype=np.uint16)
    unit = codec.to_unit_range(levels, Kind(1, 16))
    np.testing.assert_array_equal(codec.from_unit_range(unit.numpy(), Kind(1, 16)), levels)
    np.testing.assert_array_equal(codec.quantise(unit, Kind(1, 16)), levels)


def test_a_file_of_another_kind_is_converted():
    grey, colours = draw_levels(Kind(1), 9, 7), draw_levels(Kind(3), 9, 7)
    deep = codec.decode(codec.encode(grey), Kind(3, 16)).numpy()
    np.testing.assert_array_equal(deep, np.repeat(grey, 3, axis=-1).astype(np.uint16) * 257)
    np.testing.assert_array_equal(codec.decode(codec.encode(deep), Kind(1)), grey)
    np.testing.assert_array_equal(codec.decode(codec.encode(grey), Kind(2))[..., 1], np.full((9, 7), 255))
    luminance = colours @ np.array([0.299, 0.587, 0.114])
    for encoded in (
        codec.encode(colours),
        as_file(colours, "JPEG", subsampling=0, quality=100),
    ):
        with_alpha = codec.decode(encoded, Kind(2)).numpy()
        assert np.abs(with_alpha[..., 0] - luminance).max() < 3  # JPEG's own loss; PNG rounds
        assert (with_alpha[..., 1] == 255).all()


def test_images_of_every_kind_are_made_visible():
    grey = draw_levels(Kind(1), 9, 7)
    np.testing.assert_array_equal(codec.visible(grey, Kind(1)), np.repeat(grey, 3, axis=-1))
    deep = draw_levels(Kind(3, 16), 9, 7)
    np.testing.assert_array_equal(codec.visible(deep, Kind(3, 16)), deep >> 8)
    classes = draw_levels(Kind(12, labels=True), 9, 7)
    np.testing.assert_array_equal(codec.visible(classes, Kind(12, labels=True)), class_colours()[classes[..., 0]])
    colours = draw_levels(Kind(3), 9, 7)
    np.testing.assert_array_equal(codec.visible(colours), colours)

    half = np.zeros((16, 16, 4), np.uint8)
    half[..., 3] = 51  # black, of which a fifth is there
    board = codec.visible(half, Kind(4))
    assert (board[:8, :8] == 204).all()  # 255 * 4 / 5
    assert (board[:8, 8:] == 163).all()  # 204 * 4 / 5
    np.testing.assert_array_equal(board[8:], board[:8, ::-1])
    opaque = np.dstack([colours, np.full((9, 7), 255, np.uint8)])
    np.testing.assert_array_equal(codec.visible(opaque, Kind(4)), colours)
    np.testing.assert_array_equal(codec.to_rgb(half, Kind(4)), half[..., :3])  # for a network: without its board


def test_rows_of_a_sheet_are_the_first_of_each_column_then_the_second():
    grey, colours = draw_levels(Kind(1), 2, 9, 7), draw_levels(Kind(3), 2, 9, 7)
    columns = [codec.to_unit_range(grey, Kind(1)).numpy(), codec.to_unit_range(colours).numpy()]
    rows = codec.visible_rows(columns, (Kind(1), Kind(3)))
    np.testing.assert_array_equal(rows[1], [np.repeat(grey[1], 3, axis=-1), colours[1]])


def test_colours_of_classes_are_fixed_and_well_apart():
    colours = class_colours()
    assert colours.shape == (256, 3)
    assert len(np.unique(colours, axis=0)) == 256
    golden = [[0, 0, 0], [255, 255, 255], [204, 0, 255], [0, 255, 51], [255, 119, 0], [0, 136, 255]]
    assert colours[:6].tolist() == golden
    first = colours[:20].astype(int)
    apart = np.abs(first[:, None] - first[None]).sum(axis=-1) + 1000 * np.eye(20, dtype=int)
    assert apart.min() >= 85


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_makes_of_the_orientation(orientation):
    pixels, exif = draw_levels(Kind(3), 9, 7), Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(as_file(pixels, exif=exif))) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(upright(pixels, orientation), expected)


def test_an_indexed_file_tells_its_palette(tmp_path):
    indexed = Image.fromarray(draw_levels(Kind(3, labels=True), 9, 7)[..., 0])
    indexed.putpalette([7, 8, 9, 0, 0, 255])
    indexed.save(tmp_path / "a.png")
    assert palette_of(tmp_path / "a.png")[:3].tolist() == [[7, 8, 9], [0, 0, 255], [0, 0, 0]]
    assert palette_of(tmp_path / "a.png").shape == (256, 3)
    write_png(tmp_path / "b.png", draw_levels(Kind(1), 9, 7))
    assert palette_of(tmp_path / "b.png") is None


def test_grid_shows_each_image_whole_in_its_place():
    rows = [[np.full((8, 8, 3), 10 * (3 * r + c), np.uint8) for c in range(3)] for r in range(2)]
    sheet = grid(rows, ["a", "b", "c"])
    for row in range(2):
        for column in range(3):
            np.testing.assert_array_equal(cell(sheet, row, column, size=8), rows[row][column])
    # Around them it is white, but for the titles on top.
    assert sheet.shape == (20 + 2 * 130, 2 + 3 * 130, 3)
    for lines in (sheet[148:150], sheet[278:], sheet[20:, :2], sheet[20:, 130:132]):
        assert (lines == 255).all()
    assert all((sheet[:20, left : left + 128] < 128).any() for left in (2, 132, 262))


def test_grid_leaves_images_that_are_large_enough_as_they_are():
    image = np.random.RandomState(0).randint(0, 256, (200, 130, 3), dtype=np.uint8)
    sheet = grid([[image, image]], ["a", "b"])
    np.testing.assert_array_equal(sheet[20:220, 2:132], image)
    np.testing.assert_array_equal(sheet[20:220, 134:264], image)


def test_write_png_round_trips_and_leaves_nothing_beside(tmp_path):
    image = np.random.RandomState(1).randint(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
