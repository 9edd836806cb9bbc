"""One pair at a time: what a composite is made of, and what cannot be made into one."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, draw_pair, write_bomb
from PIL import Image

from p2p_keras.data.check import bit_depth
from p2p_keras.data.picture import ImageError
from p2p_keras.data.prepare.sources import Source
from p2p_keras.data.prepare.stack import Form, difference_hash, make_pair
from p2p_keras.sizes import Size

PNG = Form(image_size=Size(32, 32), format="png")


def _source(tmp_path, left, right, extension=".png", **options):
    files = []
    for name, image in (("a", left), ("b", right)):
        files.append(str(tmp_path / f"{name}{extension}"))
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(files[-1], **options)
    return Source("x", tuple(files))


def _made(source, tmp_path, form=PNG):
    entry = make_pair(source, "train", tmp_path / "out", form)
    return np.asarray(Image.open(tmp_path / "out" / entry.name)), entry


def test_panels_of_the_right_size_stay_as_they_are(tmp_path):
    left, right = draw_pair(1)
    both, entry = _made(_source(tmp_path, left, right), tmp_path)
    np.testing.assert_array_equal(both, np.concatenate([left, right], axis=1))
    assert (entry.pair, entry.split, entry.width, entry.height) == ("x.png", "train", 64, 32)
    assert entry.source_bytes == "+".join(str((tmp_path / name).stat().st_size) for name in ("a.png", "b.png"))


def test_a_composite_in_the_wanted_form_is_copied_byte_by_byte(tmp_path):
    Image.fromarray(np.concatenate(draw_pair(1), axis=1)).save(tmp_path / "both.jpg", quality=71)
    form = PNG._replace(format="jpeg")
    source = Source("x", (str(tmp_path / "both.jpg"),), "train", 2, (0, 1))
    _, entry = _made(source, tmp_path, form)
    assert (tmp_path / "out" / entry.name).read_bytes() == (tmp_path / "both.jpg").read_bytes()
    assert entry.sha256 == hashlib.sha256((tmp_path / "both.jpg").read_bytes()).hexdigest()
    for other in (source._replace(chosen=(1, 0)), source):  # in another order, or of another size: made anew
        size = 32 if other is not source else 16
        _, entry = _made(other, tmp_path, form._replace(image_size=Size(size, size)))
        assert (tmp_path / "out" / entry.name).read_bytes() != (tmp_path / "both.jpg").read_bytes()


def test_a_composite_of_16_bits_is_made_one_of_8(tmp_path):
    both = np.concatenate(draw_pair(1), axis=1)
    (tmp_path / "both.png").write_bytes(tf.io.encode_png(both.astype(np.uint16) * 257).numpy())
    made, entry = _made(Source("x", (str(tmp_path / "both.png"),), "train", 2, (0, 1)), tmp_path)
    np.testing.assert_array_equal(made, both)
    assert bit_depth(str(tmp_path / "out" / entry.name)) == 8


def test_panels_of_a_composite_are_picked_and_reordered(tmp_path):
    levels = [10, 80, 150, 220]
    Image.fromarray(np.concatenate([np.full((8, 8, 3), x, np.uint8) for x in levels], axis=1)).save(tmp_path / "c.png")
    source = Source("x", (str(tmp_path / "c.png"),), "", 4, (2, 0))
    both, _ = _made(source, tmp_path, PNG._replace(image_size=Size(8, 8)))
    assert [np.unique(both[:, :8]), np.unique(both[:, 8:])] == [150, 10]


def test_rotated_images_are_turned_upright(tmp_path):
    left, right = draw_pair(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    both, _ = _made(_source(tmp_path, left, right, exif=exif), tmp_path)
    np.testing.assert_array_equal(both, np.concatenate([np.rot90(left, -1), np.rot90(right, -1)], axis=1))


def test_grey_alpha_and_sixteen_bits_are_kept_if_asked_for(tmp_path):
    left, right = draw_pair(3)
    grey, _ = _made(_source(tmp_path, left[..., 0], right[..., 0]), tmp_path, PNG._replace(channels=1))
    np.testing.assert_array_equal(grey, np.concatenate([left[..., 0], right[..., 0]], axis=1))
    alphas = [np.dstack([image, image[..., 0]]) for image in (left, right)]
    alpha, _ = _made(_source(tmp_path, *alphas), tmp_path, PNG._replace(channels=4))
    np.testing.assert_array_equal(alpha, np.concatenate(alphas, axis=1))
    dropped, _ = _made(_source(tmp_path, *alphas), tmp_path)
    np.testing.assert_array_equal(dropped, np.concatenate([left, right], axis=1))

    deep = (np.arange(1024, dtype=np.uint16) * 64 + 7).reshape(32, 32)
    form = PNG._replace(channels=1, bits=16)
    both, _ = _made(_source(tmp_path, deep, left[..., 0]), tmp_path, form)  # one of 16 bits, one of 8
    np.testing.assert_array_equal(both, np.concatenate([deep, left[..., 0].astype(np.uint16) * 257], axis=1))
    shrunk, _ = _made(_source(tmp_path, deep, deep), tmp_path, form._replace(image_size=Size(16, 16)))
    assert shrunk.dtype == np.uint16
    assert len(np.unique(shrunk)) > 200  # of 16 bits, not of 8 made wider
    assert abs(shrunk[:, :16].astype(float) - deep.reshape(16, 2, 16, 2).mean(axis=(1, 3))).max() < 600  # of 65535
    eight, _ = _made(_source(tmp_path, deep, deep), tmp_path)
    np.testing.assert_array_equal(eight[..., 0], np.concatenate([deep, deep], axis=1) >> 8)
    both, _ = _made(_source(tmp_path, left, right), tmp_path, form)
    grey = np.concatenate([np.asarray(Image.fromarray(image).convert("L")) for image in (left, right)], axis=1)
    np.testing.assert_array_equal(both, grey.astype(np.uint16) * 257)
    colours = tf.io.encode_png(left.astype(np.uint16) * 257).numpy()
    source = _source(tmp_path, left, right)
    (tmp_path / "a.png").write_bytes(colours)
    with pytest.raises(ImageError, match="16 bits of colour"):
        _made(source, tmp_path, form)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_text("text"), "it is not an image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be decoded"),
        (lambda path: Image.new("CMYK", (32, 32)).save(path, format="JPEG"), "its pixels are CMYK"),
        (lambda path: Image.new("RGB", (32, 32)).save(path, format="GIF"), "it is a GIF"),
        (write_bomb, "13000x13000 is more than 64 megapixels"),
        (lambda path: path.unlink(), "it is not there"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # the run silences it for all its pairs
def test_bad_files_are_named_with_their_problem_and_nothing_is_written(tmp_path, spoil, problem):
    source = _source(tmp_path, *draw_pair(1))
    spoil(tmp_path / "b.png")
    with pytest.raises(ImageError, match=rf"b\.png: .*{problem}"):
        make_pair(source, "train", tmp_path / "out", PNG)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_composite_whose_width_does_not_divide_is_mismatched(tmp_path):
    Image.new("RGB", (65, 32)).save(tmp_path / "c.png")
    with pytest.raises(ImageError, match="width 65 is not divisible by 2 panels"):
        make_pair(Source("x", (str(tmp_path / "c.png"),), "", 2, (0, 1)), "train", tmp_path / "out", PNG)


def test_a_known_pair_is_believed_only_if_its_bytes_are_right(tmp_path):
    source = _source(tmp_path, *draw_pair(1))
    _, entry = _made(source, tmp_path)
    path = tmp_path / "out" / entry.name
    before = path.stat().st_mtime_ns
    assert make_pair(source, "train", tmp_path / "out", PNG, entry) == entry
    sizes = entry.source_bytes.split("+")
    summed = entry._replace(source_bytes=str(sum(map(int, sizes))))  # as earlier versions wrote it
    assert make_pair(source, "train", tmp_path / "out", PNG, summed) == entry
    assert path.stat().st_mtime_ns == before
    turned = entry._replace(source_bytes="+".join(sizes[::-1]))
    assert make_pair(source, "train", tmp_path / "out", PNG, turned) == entry
    assert path.stat().st_mtime_ns > before
    path.write_bytes(b"x")
    assert make_pair(source, "train", tmp_path / "out", PNG, entry) == entry
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def test_the_hash_survives_size_and_compression_and_tells_images_apart(tmp_path):
    ramp = np.linspace(0, 255, 64)[None, :].repeat(64, axis=0)
    pixels = np.dstack([ramp, ramp.T, np.roll(ramp, 20, axis=1)]).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.resize((40, 40)).save(tmp_path / "small.jpg", quality=50)
    with Image.open(tmp_path / "small.jpg") as small:
        assert _bits(difference_hash(image), difference_hash(small)) <= 4
    assert _bits(difference_hash(image), difference_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))) > 20
    assert difference_hash(Image.new("RGB", (32, 32), (9, 9, 9))) == "0" * 16


def _bits(first, second):
    return bin(int(first, 16) ^ int(second, 16)).count("1")


def _pixels(image: np.ndarray, number: int) -> bytes:
    """A TIFF of 16 bits, as `number` says: low or high byte first, or with white as zero."""
    mode, order = (("I;16", "<u2"), ("I;16B", ">u2"), ("I;16", "<u2"))[number]
    levels = 65535 - image if number == 2 else image
    content = as_file(Image.frombytes(mode, image.shape[::-1], levels.astype(order).tobytes()), "TIFF")
    white_is_zero = content.replace(struct.pack("<HHIH", 262, 3, 1, 1), struct.pack("<HHIH", 262, 3, 1, 0))
    return white_is_zero if number == 2 else content


@pytest.mark.parametrize("number", [0, 1, 2])
def test_tiffs_of_16_bits_become_16_bit_pngs_and_are_cut_to_8_by_their_upper_bits(tmp_path, number):
    deep = (np.arange(1024, dtype=np.uint16) * 64 + 7).reshape(32, 32)
    source = Source("x", (str(tmp_path / "a.tif"),) * 2)
    (tmp_path / "a.tif").write_bytes(_pixels(deep, number))
    both, entry = _made(source, tmp_path, PNG._replace(channels=1, bits=16))
    np.testing.assert_array_equal(both, np.concatenate([deep, deep], axis=1))
    assert bit_depth(str(tmp_path / "out" / entry.name)) == 16
    both, _ = _made(source, tmp_path, PNG._replace(channels=1))
    np.testing.assert_array_equal(both, np.concatenate([deep, deep], axis=1) >> 8)


@pytest.mark.parametrize(("form", "options"), [("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_other_formats_give_the_pixels_that_they_hold(tmp_path, form, options):
    left, right = draw_pair(3)
    source = Source("x", (str(tmp_path / "a"), str(tmp_path / "b")))
    for image, path in zip((left, right), source.files, strict=True):
        Path(path).write_bytes(as_file(image, form, **options))
    both, _ = _made(source, tmp_path)
    np.testing.assert_array_equal(both, np.concatenate([left, right], axis=1))
    composite = Source("y", (str(tmp_path / "c"),), "", 2, (1, 0))
    (tmp_path / "c").write_bytes(as_file(both, form, **options))
    both, _ = _made(composite, tmp_path)
    np.testing.assert_array_equal(both, np.concatenate([right, left], axis=1))
    (tmp_path / "a").write_bytes(as_file(Image.fromarray(left).convert("L"), form, **options))
    both, _ = _made(source, tmp_path, PNG._replace(channels=1))
    np.testing.assert_array_equal(both[:, :32], np.asarray(Image.fromarray(left).convert("L")))
    if form == "BMP":  # which has neither alpha that Pillow writes nor an orientation
        return
    alpha = np.dstack([left, 255 - left[..., 0]])
    (tmp_path / "a").write_bytes(as_file(alpha, form, **options, **({"exact": True} if form == "WEBP" else {})))
    both, _ = _made(source, tmp_path, PNG._replace(channels=4))
    np.testing.assert_array_equal(both[:, :32], alpha)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    (tmp_path / "a").write_bytes(as_file(left[:20], form, exif=exif, **options))
    both, _ = _made(source, tmp_path, PNG._replace(image_size=Size(32, 20)))
    np.testing.assert_array_equal(both[:, :20], np.rot90(left[:20], -1))


def test_colours_of_16_bits_in_a_tiff_are_refused_as_16_bits_and_cut_to_8(tmp_path):
    levels = (np.arange(32 * 32 * 3, dtype=np.uint16) * 20 + 3).reshape(32, 32, 3)
    bits_at = 10 + 9 * 12 + 4  # after the head, nine tags, and the zero that ends them
    tags = [(256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, bits_at + 6), (277, 3, 1, 3), (278, 3, 1, 32), (279, 4, 1, levels.nbytes)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content = head + bytes(4) + struct.pack("<3H", 16, 16, 16) + levels.astype("<u2").tobytes()
    (tmp_path / "a.tif").write_bytes(content)
    source = Source("x", (str(tmp_path / "a.tif"),) * 2)
    with pytest.raises(ImageError, match="16 bits of colour"):
        _made(source, tmp_path, PNG._replace(channels=1, bits=16))
    both, _ = _made(source, tmp_path)
    np.testing.assert_array_equal(both[:, :32], levels >> 8)


def test_panels_are_higher_than_wide_or_wider_than_high(tmp_path):
    left, right = draw_pair(3)
    both, entry = _made(_source(tmp_path, left, right), tmp_path, PNG._replace(image_size=Size(24, 40)))
    resized = [Image.fromarray(image).resize((40, 24), Image.Resampling.BICUBIC) for image in (left, right)]
    np.testing.assert_array_equal(both, np.concatenate([np.asarray(image) for image in resized], axis=1))
    assert (entry.width, entry.height) == (80, 24)
    deep = (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)
    form = PNG._replace(channels=1, bits=16, image_size=Size(16, 32))
    both, _ = _made(_source(tmp_path, deep, deep), tmp_path, form)
    assert both.shape == (16, 64)
    # Bicubic keeps a ramp but for the rows at the edges.
    np.testing.assert_allclose(both[2:-2, :32], deep.reshape(16, 2, 32).mean(axis=1)[2:-2], atol=1)


@pytest.mark.parametrize("size", [(60, 40), (64, 64), (66, 20)])
def test_native_composites_in_the_wanted_form_are_copied_whatever_their_size(tmp_path, size):
    image = Image.fromarray(draw_pair(1, 80)[0]).resize(size)
    image.save(tmp_path / "both.jpg", quality=71)
    form = Form(image_size=None)
    _, entry = _made(Source("x", (str(tmp_path / "both.jpg"),), "train", 2, (0, 1)), tmp_path, form)
    assert (tmp_path / "out" / entry.name).read_bytes() == (tmp_path / "both.jpg").read_bytes()
    assert (entry.width, entry.height) == size
    both, entry = _made(Source("x", (str(tmp_path / "both.jpg"),), "train", 2, (1, 0)), tmp_path, form)
    assert (entry.width, entry.height) == size == both.shape[1::-1]


def test_native_panels_need_one_size_and_a_file_that_can_hold_them(tmp_path, monkeypatch):
    left, right = draw_pair(1)
    form = PNG._replace(image_size=None)
    both, _ = _made(_source(tmp_path, left[:20], right[:20]), tmp_path, form)
    np.testing.assert_array_equal(both, np.concatenate([left[:20], right[:20]], axis=1))
    source = _source(tmp_path, left[:20], right)
    with pytest.raises(ImageError, match=r"panels are of 20x32, 32x32 .*--image_size=20x32"):
        make_pair(source, "train", tmp_path / "out", form)
    long = Image.new("RGB", (33_000, 1))
    with pytest.raises(ImageError, match="than the 65500 pixels of a JPEG"):
        make_pair(_source(tmp_path, long, long), "train", tmp_path / "out", form._replace(format="jpeg"))
    make_pair(_source(tmp_path, long, long), "train", tmp_path / "out", form)
    monkeypatch.setattr("p2p_keras.data.prepare.stack.MAX_PIXELS", 2 * 20 * 32)
    make_pair(_source(tmp_path, left[:20], right[:20]), "train", tmp_path / "out", form)
    with pytest.raises(ImageError, match="the pair would have more than"):
        make_pair(_source(tmp_path, left, right), "train", tmp_path / "out", form)
