import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from p2p_keras import images
from p2p_keras.pictures import grid, write_png


def test_every_level_survives_the_way_there_and_back():
    levels = np.arange(256, dtype=np.uint8)
    unit = images.to_unit_range(levels).numpy()
    assert unit.dtype == np.float32
    assert (unit[0], unit[255]) == (-1.0, 1.0)
    np.testing.assert_array_equal(images.to_uint8(unit), levels)


def test_to_uint8_rounds_to_the_nearest_level_and_clips():
    np.testing.assert_array_equal(images.to_uint8(np.array([-3.0, 0.001, 2.0])), [0, 128, 255])


def _encode(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _noise(mode: str) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    # Smooth noise: blocks and gradients, so that chroma subsampling and the DCT have something to differ in.
    small = np.random.RandomState(0).randint(0, 256, (9, 13, channels), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(small[..., i]).resize((77, 51)) for i in range(channels)])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 90])
def test_jpeg_is_bit_exact_with_pillow(quality, subsampling):
    encoded = _encode(_noise("RGB"), format="JPEG", quality=quality, subsampling=subsampling)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(images.decode(tf.constant(encoded)), expected)


def test_progressive_and_grey_jpeg_are_bit_exact_with_pillow():
    for mode, options in (("RGB", {"progressive": True}), ("L", {})):
        encoded = _encode(_noise(mode), format="JPEG", **options)
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(images.decode(tf.constant(encoded)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_png_is_bit_exact_with_pillow(mode):
    image = _noise(mode) if mode not in ("P", "1") else _noise("RGB").convert(mode)
    encoded = _encode(image, format="PNG")
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(images.decode(tf.constant(encoded)), expected)


def test_grid_shows_each_picture_whole_in_its_place():
    rows = [[np.full((8, 8, 3), 10 * (3 * r + c), np.uint8) for c in range(3)] for r in range(2)]
    sheet = grid(rows, ["a", "b", "c"])
    for value in range(0, 60, 10):
        # 8x8 enlarged to 128x128; black title letters add to value 0
        assert (sheet == value).all(axis=-1).sum() >= 128 * 128
    assert (sheet[-1] == 255).all()


def test_grid_leaves_pictures_that_are_large_enough_as_they_are():
    picture = np.random.RandomState(0).randint(0, 256, (200, 130, 3), dtype=np.uint8)
    sheet = grid([[picture, picture]], ["a", "b"])
    np.testing.assert_array_equal(sheet[20:220, 2:132], picture)
    np.testing.assert_array_equal(sheet[20:220, 134:264], picture)


def test_write_png_round_trips_and_leaves_nothing_beside(tmp_path):
    picture = np.random.RandomState(1).randint(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
