import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_refused, call_command, draw_levels, draw_pair, quiet, run_command
from PIL import Image

from p2p_keras.cli import translate as translate_command
from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model, open_model
from p2p_keras.images import codec
from p2p_keras.images.files import palette_of
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.translate import STD_GAIN, Job, find_sources, translate_images


def _negative(noise: bool = False) -> Model:
    """Gives the negative; with noise, brightened by the seed."""

    def translate(inputs: list[np.ndarray], seed: np.ndarray | None) -> np.ndarray:
        (images,) = inputs
        assert images.dtype == np.uint8
        seen.append(images.shape)
        return 255 - images if seed is None else (255 - images // 2 - seed[:, None, None, None]).astype(np.uint8)

    seen: list[tuple] = []
    config = TrainConfig(data_dir="x", image_size=32, panels=("street", "aerial"), direction="s2a")
    model = Model(translate, lambda inputs, seed: inputs[0], config, noise)
    translate.seen = seen
    return model


def _giving(model: Model, **settings) -> Model:
    return model._replace(config=dataclasses.replace(model.config, **settings))


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(draw_pair(i)[0]).save(folder / f"{i}.png")
    Image.fromarray(draw_pair(3, size=48)[0]).save(folder / "deep" / "3 ä.jpg", quality=95)
    return folder


def _open(path: Path) -> tuple[np.ndarray, str]:
    with Image.open(path) as image:
        return np.asarray(image), image.format


def test_images_keep_their_name_place_format_and_size(photos, tmp_path):
    model, output = _negative(), tmp_path / "out"
    outcome = translate_images(model, find_sources([str(photos)]), output, Job(), quiet)
    assert (outcome.written, outcome.kept, outcome.bad, outcome.other_sizes) == (4, 0, {}, 1)
    for i in range(3):
        np.testing.assert_array_equal(_open(output / f"{i}.png")[0], 255 - draw_pair(i)[0])
    with Image.open(output / "deep" / "3 ä.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (48, 48))
    assert model.translate.seen == [(3, 32, 32, 3), (1, 48, 48, 3)]  # one batch a size
    assert not list(output.rglob("*.part"))


def test_a_batch_has_a_bounded_number_of_pixels(photos, tmp_path):
    model = _negative()
    translate_images(model, find_sources([str(photos)]), tmp_path / "out", Job(batch_size=2), quiet)
    assert model.translate.seen == [(2, 32, 32, 3), (1, 32, 32, 3), (1, 48, 48, 3)]


def test_what_is_there_already_stays_unless_told_otherwise(photos, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    Image.fromarray(draw_pair(9)[0]).save(output / "1.png")
    before = (output / "1.png").read_bytes()
    outcome = translate_images(_negative(), find_sources([str(photos)]), output, Job(), quiet)
    assert (outcome.written, outcome.kept) == (3, 1)
    assert (output / "1.png").read_bytes() == before
    outcome = translate_images(_negative(), find_sources([str(photos)]), output, Job(overwrite=True), quiet)
    assert (outcome.written, outcome.kept) == (4, 0)
    assert (output / "1.png").read_bytes() != before


def test_sources_are_never_overwritten(photos):
    with pytest.raises(UserError, match="--output must not be where the images come from"):
        translate_images(_negative(), find_sources([str(photos)]), photos, Job(overwrite=True), quiet)


def test_bad_files_are_named_and_the_others_are_translated(photos, tmp_path):
    (photos / "a.jpg").write_bytes(b"")
    (photos / "b.png").write_bytes((photos / "1.png").read_bytes()[:-30])
    (photos / "c.jpg").write_text("text")
    Image.fromarray(np.full((4, 4), 255, np.uint16)).save(photos / "d.png")  # of 16 bits: not bad, but dark
    Image.new("CMYK", (8, 8)).save(photos / "e.jpg")
    Image.fromarray(draw_pair(1)[0]).save(photos / "f.gif.png", format="GIF")
    told = []
    outcome = translate_images(_negative(), find_sources([str(photos)]), tmp_path / "out", Job(), told.append)
    assert outcome.written == 5
    assert (_open(tmp_path / "out" / "d.png")[0] == 255).all()  # its upper 8 bits are 0, and that is the negative
    problems = {Path(source).name: problem for source, problem in outcome.bad.items()}
    assert problems["a.jpg"] == "it is empty"
    assert "cannot be decoded" in problems["b.png"]
    assert problems["c.jpg"] == "it is not an image"
    assert problems["e.jpg"].startswith("its pixels are CMYK")
    assert problems["f.gif.png"] == "it is a GIF, not a JPEG or PNG"
    assert len(told) == 5


def test_rotated_grey_and_transparent_images_come_out_upright_and_in_colour(tmp_path):
    folder, (image, _) = tmp_path / "photos", draw_pair(4)
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(image[:16]).save(folder / "turned.png", exif=exif)
    Image.fromarray(image[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([image, image[..., 0]])).save(folder / "alpha.png")
    translate_images(_negative(), find_sources([str(folder)]), tmp_path / "out", Job(), quiet)
    turned, grey, alpha = (_open(tmp_path / "out" / f"{name}.png")[0] for name in ("turned", "grey", "alpha"))
    np.testing.assert_array_equal(turned, 255 - np.rot90(image[:16], -1))
    np.testing.assert_array_equal(grey, 255 - np.repeat(image[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(alpha, 255 - image)


def _same(kind: Kind, noise: bool = False) -> Model:
    """Gives back what it is given; with noise, the seed added."""

    def translate(inputs: list[np.ndarray], seed: np.ndarray | None) -> np.ndarray:
        (images,) = inputs
        assert (images.dtype, images.shape[-1]) == (np.dtype(kind.dtype), kind.depth)
        return images if seed is None else images + seed.astype(images.dtype)[:, None, None, None]

    classes, channels = (kind.channels, None) if kind.labels else (0, kind.channels)
    config = TrainConfig(
        data_dir="x",
        direction="AtoB",
        image_size=32,
        labels=classes,
        output_labels=classes,
        input_channels=channels,
        output_channels=channels,
        input_bits=kind.bits,
        output_bits=kind.bits,
    )
    return Model(translate, translate, config, noise)


KINDS = [Kind(1), Kind(2), Kind(4), Kind(1, 16), Kind(3, 16), Kind(4, 16), Kind(5, labels=True)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_comes_out_bit_equal_in_its_kind(kind, tmp_path):
    levels = draw_levels(kind, 20, 32)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(codec.encode(levels, class_colours()[::-1] if kind.labels else None))
    translate_images(_same(kind), find_sources([str(tmp_path / "in")]), tmp_path / "out", Job(), quiet)
    content = (tmp_path / "out" / "a.png").read_bytes()
    np.testing.assert_array_equal(codec.decode(tf.constant(content), kind), levels)
    assert content[24] == kind.bits
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[kind.depth]
    assert content[25] == (3 if kind.labels else colour_type)  # 3 is indexed
    if kind.labels:
        np.testing.assert_array_equal(palette_of(tmp_path / "out" / "a.png"), class_colours())


def test_16_bits_are_turned_upright_and_cut_out_of_composites(tmp_path):
    kind, levels = Kind(1, 16), draw_levels(Kind(1, 16), 20, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(levels[..., 0]).save(tmp_path / "in" / "a.png", exif=exif)
    images = find_sources([str(tmp_path / "in")])
    translate_images(_same(kind), images, tmp_path / "turned", Job(), quiet)
    np.testing.assert_array_equal(_open(tmp_path / "turned" / "a.png")[0], np.rot90(levels[..., 0], -1))
    Image.fromarray(levels[..., 0]).save(tmp_path / "in" / "a.png")
    translate_images(_same(kind), images, tmp_path / "panel", Job(panels=((1,), 2)), quiet)
    np.testing.assert_array_equal(_open(tmp_path / "panel" / "a.png")[0], levels[:, 16:, 0])


def test_what_no_jpeg_can_hold_is_written_as_png_and_said_once(photos, tmp_path):
    Image.fromarray(draw_pair(1)[0]).save(photos / "1.jpg")
    model, told = _negative(), []
    model = _giving(model, output_bits=16)
    translate_images(model, find_sources([str(photos)]), tmp_path / "out", Job(), told.append)
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.*"))
    assert names == ["0.png", "1.jpg.png", "1.png.png", "2.png", "3 ä.png"]
    assert told == ["Written as PNG, also where the source is a JPEG: that cannot hold 16 bits"]
    images = find_sources([str(photos / "2.png")])
    translate_images(model, images, tmp_path / "out2", Job(), told.append)
    assert len(told) == 1  # the source is a PNG already
    for given, words in (
        ({"output_bits": 16}, "16 bits"),
        ({"output_channels": 2}, "an alpha channel"),
        ({"output_labels": 5}, "label maps"),
    ):
        with pytest.raises(UserError, match=f"Received --format=jpg for {words}, which this model gives"):
            translate_images(_giving(_negative(), **given), images, tmp_path, Job(suffix=".jpg"), quiet)


def test_grey_is_written_as_jpeg_too(photos, tmp_path):
    images = find_sources([str(photos / "deep")])
    translate_images(_same(Kind(1)), images, tmp_path / "out", Job(), quiet)
    image, form = _open(tmp_path / "out" / "3 ä.jpg")
    assert (image.shape, form) == ((48, 48), "JPEG")
    expected = np.asarray(Image.fromarray(draw_pair(3, size=48)[0]).convert("L")).astype(int)
    assert np.abs(image - expected).mean() < 2


def test_a_class_beyond_the_models_is_a_bad_file(tmp_path):
    (tmp_path / "in").mkdir()
    kind = Kind(5, labels=True)
    (tmp_path / "in" / "a.png").write_bytes(codec.encode(draw_levels(kind, 20, 32), class_colours()))
    (tmp_path / "in" / "b.png").write_bytes(codec.encode(draw_levels(kind, 20, 32) + 1, class_colours()))
    Image.fromarray(draw_pair(0)[0]).save(tmp_path / "in" / "c.png")
    outcome = translate_images(_same(kind), find_sources([str(tmp_path / "in")]), tmp_path / "out", Job(), quiet)
    assert outcome.written == 1
    problems = {Path(source).name: problem for source, problem in outcome.bad.items()}
    assert problems["b.png"] == "it has class 5; with 5 classes the highest is 4"
    assert problems["c.png"].startswith("its pixels are RGB; a label map is an indexed or grey PNG")


def test_the_spread_of_samples_is_seen_in_every_kind(tmp_path):
    (tmp_path / "in").mkdir()
    levels = (draw_levels(Kind(1, 16), 20, 32) >> 1).astype(np.uint16)
    (tmp_path / "in" / "a.png").write_bytes(codec.encode(levels))
    images = find_sources([str(tmp_path / "in" / "a.png")])
    deep = _same(Kind(1, 16), noise=True)

    def far(inputs: list[np.ndarray], seed: np.ndarray) -> np.ndarray:
        return inputs[0] + seed.astype(np.uint16)[:, None, None, None] * 257 * 5

    translate_images(deep._replace(translate=far), images, tmp_path / "deep", Job(samples=3), quiet)
    spread = _open(tmp_path / "deep" / "a_std.png")[0]
    assert spread.shape == (20, 32, 3)
    assert set(np.unique(spread)) == {round(STD_GAIN * 5 * float(np.std([1, 2, 3])))}  # as of 8 bits
    np.testing.assert_array_equal(_open(tmp_path / "deep" / "a_sample2.png")[0], levels[..., 0] + 2570)

    kind = Kind(5, labels=True)
    (tmp_path / "in" / "a.png").write_bytes(codec.encode(np.zeros((20, 32, 1), np.uint8)))

    def vote(inputs: list[np.ndarray], seed: np.ndarray) -> np.ndarray:  # on the right one of four differs
        stack = inputs[0].copy()
        stack[:, :, 16:] += np.uint8(4 * (seed[0] == 3))
        return stack

    model = _same(kind, noise=True)._replace(translate=vote)
    translate_images(model, images, tmp_path / "maps", Job(samples=4), quiet)
    spread = _open(tmp_path / "maps" / "a_variation.png")[0]
    assert (spread[:, :16] == 0).all()
    assert (spread[:, 16:] == 64).all()  # a quarter of 255
    np.testing.assert_array_equal(palette_of(tmp_path / "maps" / "a_sample3.png"), class_colours())


def test_of_composites_the_input_panel_is_translated(tmp_path):
    folder, (first, second) = tmp_path / "pairs", draw_pair(4)
    folder.mkdir()
    Image.fromarray(np.concatenate([first, second], axis=1)).save(folder / "a.png")
    Image.fromarray(first[:, :31]).save(folder / "odd.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.concatenate([first, second], axis=1)).save(folder / "turned.png", exif=exif)
    outcome = translate_images(_negative(), find_sources([str(folder)]), tmp_path / "out", Job(panels=((1,), 2)), quiet)
    np.testing.assert_array_equal(_open(tmp_path / "out" / "a.png")[0], 255 - second)
    assert [problem[:31] for problem in outcome.bad.values()] == [
        "its width 31 is not divisible b",
        "its EXIF orientation is not 1; ",  # turned, its panels would lie one above the other
    ]


def test_another_format_keeps_both_of_two_that_differ_only_in_theirs(photos, tmp_path):
    Image.fromarray(draw_pair(1)[0]).save(photos / "1.jpg")
    translate_images(_negative(), find_sources([str(photos)]), tmp_path / "out", Job(suffix=".png"), quiet)
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.png"))
    assert names == ["0.png", "1.jpg.png", "1.png.png", "2.png", "3 ä.png"]
    assert all(_open(path)[1] == "PNG" for path in (tmp_path / "out").rglob("*.png"))


def test_samples_and_their_standard_deviation(photos, tmp_path):
    images = find_sources([str(photos / "1.png")])
    translate_images(_negative(noise=True), images, tmp_path / "out", Job(samples=3), quiet)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1_sample1.png",
        "1_sample2.png",
        "1_sample3.png",
        "1_std.png",
    ]
    spread = _open(tmp_path / "out" / "1_std.png")[0]
    assert set(np.unique(spread)) == {round(STD_GAIN * float(np.std([1, 2, 3])))}
    assert translate_images(_negative(True), images, tmp_path / "out", Job(samples=3), quiet).kept == 1
    with pytest.raises(UserError, match="--samples needs a model with noise"):
        translate_images(_negative(), images, tmp_path / "out", Job(samples=2), quiet)


def test_names_that_are_not_utf8_are_translated_too(photos, tmp_path):
    odd = [Path(os.fsdecode(name)) for name in (b"\xff.png", b"\xfe/in.jpg")]
    for name in odd:
        (photos / name).parent.mkdir(exist_ok=True)
        Image.fromarray(draw_pair(5)[0]).save(photos / name)
    for kind in (Kind(3), Kind(3, 16)):
        outcome = translate_images(_same(kind), find_sources([str(photos)]), tmp_path / str(kind.bits), Job(), quiet)
        assert (outcome.written, outcome.bad) == (6, {})
    np.testing.assert_array_equal(_open(tmp_path / "8" / odd[0])[0], draw_pair(5)[0])
    assert _open(tmp_path / "8" / odd[1])[1] == "JPEG"


def test_no_image_waits_for_the_disk(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", pytest.fail)
    assert translate_images(_negative(), find_sources([str(photos)]), tmp_path / "out", Job(), quiet).written == 4


def test_inputs_are_a_file_a_folder_or_a_pattern(photos):
    assert [source.name for source in find_sources([str(photos)])] == ["0.png", "1.png", "2.png", "deep/3 ä.jpg"]
    assert [source.name for source in find_sources([str(photos / "*.png")])] == ["0.png", "1.png", "2.png"]
    assert [source.name for source in find_sources([str(photos / "**" / "*.jpg")])] == ["3 ä.jpg"]
    with pytest.raises(UserError, match=r"There is none in .*nothing\*"):
        find_sources([str(photos / "nothing*")])


def test_a_run_translates_and_draws_samples(finished, photos, tmp_path):
    model = open_model(finished[0])
    job = Job(samples=2, tile=True)
    outcome = translate_images(model, find_sources([str(photos)]), tmp_path / "out", job, quiet)
    assert outcome.written == 4
    one, other = (_open(tmp_path / "out" / f"1_sample{i}.png")[0] for i in (1, 2))
    assert (one != other).any()


def test_what_is_no_model_is_an_error(photos, tmp_path):
    with pytest.raises(UserError, match=r"is none of them\. For one: --model=runs/a2s"):
        open_model(photos)
    (tmp_path / "model.tflite").write_bytes(b"x")
    with pytest.raises(UserError, match=r"metadata\.json beside it, which says what it was trained on"):
        open_model(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("translate", [], "--model is needed, as --model=runs/a2s"),
        ("translate", ["--model=nowhere", "--input=x", "--output=y"], "There is no nowhere"),
        ("translate", ["--model=tests", "--input=x", "--output=y", "--samples=-1"], "--samples must be at least 0"),
        ("export", ["--output=x"], "--workdir is needed"),
        ("export", ["--workdir=nowhere", "--output=x"], "There is none in nowhere"),
        ("export", ["--workdir=x", "--output=x", "--version=0"], "--version must be at least 1. Received: 0"),
        ("export", ["--workdir=x", "--output=x", "--format=keras", "--noise"], "are for --format=savedmodel"),
    ],
)
def test_commands_say_what_is_wrong_in_one_line(command, flags, words):
    assert_refused(run_command(command, *flags), words)


def test_the_command_exits_with_1_after_a_bad_file(finished, photos, tmp_path, capfd):
    (photos / "bad.png").write_bytes(b"")
    flags = [f"--model={finished[0]}", f"--input={photos}", f"--output={tmp_path / 'out'}"]
    assert call_command(translate_command, *flags) == 1
    done = capfd.readouterr()
    assert "4 images translated" in done.out
    assert "1 was resized to 32x32, as in training, and back; --tile keeps the own resolution" in done.out
    assert "bad.png: it is empty" in done.err
