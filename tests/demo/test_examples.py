import dataclasses

import numpy as np
import pytest
from conftest import draw_pair, quiet, small_config
from PIL import Image

from p2p_keras.data import town
from p2p_keras.demo import examples
from p2p_keras.errors import UserError
from p2p_keras.workdir.folder import read_config


def _saved(folder, images):
    folder.mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


def test_a_run_offers_the_first_inputs_of_its_validation_pairs(finished):
    config, _ = read_config(finished[0] / "config.json")
    (first,), (second,), (third,) = examples.from_run(config)
    for index, found in enumerate((first, second, third)):
        np.testing.assert_array_equal(found, draw_pair(100 + index)[0])  # of the size trained on, so not resized
    (found,), *_ = examples.from_run(dataclasses.replace(config, direction="BtoA"))
    np.testing.assert_array_equal(found, draw_pair(100)[1])


def test_nothing_is_offered_of_data_that_are_not_here(finished, tmp_path):
    config, _ = read_config(finished[0] / "config.json")
    for data_dir in (str(tmp_path / "gone"), "https://nowhere.example/data"):
        assert examples.from_run(dataclasses.replace(config, data_dir=data_dir)) == []


@pytest.mark.parametrize(("direction", "panel"), [("a2s", 0), ("s2a", 1)])
def test_of_the_town_scenes_are_drawn(direction, panel):
    config = dataclasses.replace(
        small_config(None), data_dir=None, direction=direction, panels=("aerial", "street"), image_size=32
    )
    offered = examples.from_run(config)
    assert len(offered) == examples.COUNT
    for index, (found,) in enumerate(offered):
        np.testing.assert_array_equal(found, town.draw_scene(0, "val", index, 32)[panel])
    assert examples.from_run(dataclasses.replace(config, panels=(), direction="AtoB")) == []  # as p2p-import writes it


def test_a_folder_is_offered_and_what_cannot_be_read_is_named(tmp_path):
    images = {f"{index}.png": draw_pair(index, size=20 + index)[0] for index in range(examples.COUNT + 2)}
    folder, told = _saved(tmp_path / "a", images), []
    (folder / "0.png").write_text("none")
    offered = examples.from_folders([str(folder)], small_config(tmp_path), told.append)
    assert told == [f"Skipped {folder}/0.png: it is not an image"]
    assert len(offered) == examples.COUNT
    for (found,), name in zip(offered, list(images)[1:], strict=False):
        np.testing.assert_array_equal(found, images[name])


def test_of_several_inputs_the_pictures_go_together_by_name(tmp_path):
    one, other = {"x.png": draw_pair(1)[0], "y.png": draw_pair(2)[0]}, {"y.png": draw_pair(3)[0]}
    folders = [str(_saved(tmp_path / name, images)) for name, images in (("a", one), ("b", other))]
    config = small_config(tmp_path, panels=("a", "b", "c"), input_panels=("a", "b"), target_panel="c")
    ((first, second),) = examples.from_folders(folders, config, quiet)
    np.testing.assert_array_equal(first, one["y.png"])
    np.testing.assert_array_equal(second, other["y.png"])
    with pytest.raises(UserError, match=r"a folder for each input.* takes 2. Received: only"):
        examples.from_folders(["only"], config, quiet)


def test_what_is_not_there_is_said_of_the_flag_that_was_given(tmp_path):
    with pytest.raises(UserError, match=r"^--examples is an image, a folder of images .* There is none in /gone"):
        examples.from_folders(["/gone"], small_config(tmp_path), quiet)
    folders = [str(_saved(tmp_path / name, {f"{name}.png": draw_pair(1)[0]})) for name in ("a", "b")]
    config = small_config(tmp_path, panels=("a", "b", "c"), input_panels=("a", "b"), target_panel="c")
    with pytest.raises(UserError, match=r"^The images of several --examples folders go together"):
        examples.from_folders(folders, config, quiet)
