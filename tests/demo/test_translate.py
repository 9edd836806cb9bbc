import io

import numpy as np
import pytest
from conftest import as_file, draw_levels, draw_pair, png_of, write_bomb
from PIL import Image

from p2p_keras.config import TrainConfig
from p2p_keras.demo import translate
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model
from p2p_keras.images.files import class_numbers
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.sizes import Size

FIVE = Kind(5, labels=True)


def _model(called: list | None = None, **settings) -> Model:
    """Makes the negative of its first input; notes which function was called with which seeds, and the inputs."""

    def function(name):
        def run(images, seeds):
            if called is not None:
                called.append((name, None if seeds is None else seeds.tolist(), images))
            return 255 - images[0]

        return run

    config = TrainConfig(image_size=32, direction="AtoB", **settings)
    return Model(function("translate"), function("tiled"), config, noise=True)


def _decoded(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def _opaque(colours: np.ndarray) -> np.ndarray:
    return np.concatenate([colours, np.full_like(colours[..., :1], 255)], axis=-1)


def test_a_file_is_translated_in_its_own_size_and_shown_enlarged(tmp_path):
    picture = draw_pair(3, size=40)[0][:30]
    (tmp_path / "a.png").write_bytes(as_file(picture))
    result = translate.translate(_model(), [tmp_path / "a.png"])
    np.testing.assert_array_equal(_decoded(result.file), 255 - picture)
    assert (result.size, result.before.shape) == ((30, 40), (360, 480, 3))  # 12 times: the most that 512 holds
    np.testing.assert_array_equal(result.before[::12, ::12], picture)
    np.testing.assert_array_equal(result.after, 255 - result.before)


def test_tiles_and_seeds_are_handed_on(tmp_path):
    (tmp_path / "a.png").write_bytes(as_file(draw_pair(3, size=40)[0]))
    for settings, more, expected in (
        ({}, {}, ("translate", None)),
        ({}, {"tile": True, "seed": 7}, ("tiled", [7])),
        ({"crops": "native"}, {}, ("tiled", None)),
        ({"crops": "native"}, {"tile": False, "seed": -1}, ("translate", [-1])),
    ):
        called = []
        translate.translate(_model(called, **settings), [tmp_path / "a.png"], **more)
        assert called[0][:2] == expected


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    write_bomb(tmp_path / "bomb.png")
    (tmp_path / "classes.png").write_bytes(png_of(np.full((8, 8), 5), 8))
    for name, size in (("one", 32), ("two", 40)):
        (tmp_path / f"{name}.png").write_bytes(as_file(draw_pair(0, size)[0]))
    two = {"panels": ("a", "b", "c"), "input_panels": ("a", "b"), "target_panel": "c"}
    for settings, inputs, words in (
        ({}, [None], "Put a picture here first."),
        ({}, ["text.png"], "This picture cannot be used: it is not an image."),
        ({}, ["gone.png"], "This picture cannot be used: it is not there."),
        ({}, ["bomb.png"], "This picture cannot be used: 13000x13000 is more than 64 megapixels."),
        ({"labels": (5,)}, ["classes.png"], "it has class 5; with 5 classes the highest is 4."),
        (two, ["one.png", None], "Put a picture here for b."),
        (two, ["one.png", "text.png"], "The picture for b cannot be used: it is not an image."),
        (two, ["one.png", "two.png"], "The inputs must be of one size. These are 32x32 and 40x40."),
    ):
        with pytest.raises(UserError) as raised:
            translate.translate(_model(**settings), [tmp_path / name if name else None for name in inputs])
        assert str(raised.value).endswith(words)


def test_a_painting_that_no_canvas_of_the_page_gave_is_refused():
    with pytest.raises(UserError, match=r"A painting is of 512x512\. This is 2049x10\."):
        translate.translate(_model(), [np.zeros((2049, 10, 4), np.uint8)])


def test_a_painting_is_as_large_as_the_file_beside_it_or_of_the_size_trained_on(tmp_path):
    (tmp_path / "a.png").write_bytes(as_file(draw_pair(3, size=40)[0][:30]))
    painting = _opaque(translate.empty_canvas(FIVE, Size(32, 32)))
    settings = {"panels": ("a", "b", "c"), "input_panels": ("a", "b"), "target_panel": "c", "labels": (0, 5)}
    called = []
    translate.translate(_model(called, **settings), [tmp_path / "a.png", painting])
    translate.translate(_model(called, labels=(5,)), [painting])
    assert [[image.shape for image in images] for _, _, images in called] == [
        [(1, 30, 40, 3), (1, 30, 40, 1)],
        [(1, 32, 32, 1)],
    ]


@pytest.mark.parametrize("kind", [RGB, Kind(2, labels=True), FIVE, Kind(256, labels=True)], ids=str)
@pytest.mark.parametrize("size", [Size(32, 64), Size(600, 520)], ids=str)
def test_a_picture_put_on_the_canvas_and_not_painted_on_is_itself(kind, size):
    levels = draw_levels(kind, *size)
    canvas = translate.to_canvas(levels, kind, size)
    assert canvas.shape == (*translate.canvas_size(size), 3)
    np.testing.assert_array_equal(translate.from_painting(_opaque(canvas), kind, size), levels)


def test_what_is_not_painted_is_white_or_class_0():
    painting = np.zeros((64, 64, 4), np.uint8)
    painting[:32] = (*class_colours()[3], 255)
    classes = translate.from_painting(painting, FIVE, Size(32, 32))
    np.testing.assert_array_equal(classes[..., 0], np.repeat([3, 0], 16)[:, None].repeat(32, axis=1))
    colours = translate.from_painting(painting, RGB, Size(32, 32))
    np.testing.assert_array_equal(colours[:16], np.broadcast_to(class_colours()[3], (16, 32, 3)))
    assert (colours[16:] == 255).all()


def test_the_smoothed_edge_of_a_brush_brings_no_third_class():
    """Between the colours of two classes, in which the nearest colour would often be another class's."""
    kind, colours = Kind(40, labels=True), class_colours().astype(float)
    share = np.clip((np.arange(64) - 29) / 5, 0, 1)[:, None]  # over four pixels, from 30 to 33
    for one, other in ((0, 1), (2, 3), (7, 11)):
        line = np.rint(colours[one] * (1 - share) + colours[other] * share).astype(np.uint8)
        painting = _opaque(np.broadcast_to(line, (64, 64, 3)))
        nearest = np.abs(line[:, None].astype(int) - class_colours()[:40]).sum(-1).argmin(-1)
        found = translate.from_painting(painting, kind, Size(64, 64))[..., 0]
        assert (found == found[0]).all()
        np.testing.assert_array_equal(found[0], [one] * 32 + [other] * 32)
        if (one, other) == (0, 1):
            assert set(nearest) - {0, 1}  # or this would test nothing


def test_a_painting_in_other_colours_takes_the_nearest_class():
    painting = np.full((32, 32, 4), 255, np.uint8)
    painting[..., :3] = np.clip(class_colours()[4].astype(int) - 3, 1, 254)
    assert (translate.from_painting(painting, FIVE, Size(32, 32)) == 4).all()


def test_a_label_map_is_shown_in_colours_and_kept_as_an_indexed_png():
    model = _model(labels=(5,), output_labels=5)
    model = model._replace(translate=lambda images, seeds: 4 - images[0])
    classes = draw_levels(FIVE, 32, 32)
    result = translate.translate(model, [_opaque(translate.to_canvas(classes, FIVE, Size(32, 32)))])
    np.testing.assert_array_equal(result.after[::16, ::16], class_colours()[4 - classes[..., 0]])
    with Image.open(io.BytesIO(result.file)) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(class_numbers(image, 8), 4 - classes[..., 0])


def test_a_brush_is_offered_the_frequent_colours_that_are_well_apart():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:4] = (250, 128, 0)
    image[4] = (255, 120, 0)  # nearly the same
    image[5, :2] = (0, 0, 200)
    assert translate.as_hex(translate.frequent_colours([image])) == ["#000000", "#fa8000", "#0000c8"]
    many = np.arange(0, 250, 50, np.uint8)
    cube = np.stack(np.meshgrid(many, many, many), axis=-1).reshape(1, -1, 3)
    assert len(translate.frequent_colours([cube])) == 10
    assert translate.as_hex(translate.frequent_colours([])) == []


@pytest.mark.parametrize(
    ("kind", "can"), [(RGB, True), (FIVE, True), (Kind(1), False), (Kind(3, 16), False), (Kind(4), False)], ids=str
)
def test_colours_and_classes_can_be_painted(kind, can):
    assert translate.paintable(kind) is can
