import dataclasses
import json

import pytest
from conftest import quiet, small_config

from p2p_keras.errors import UserError
from p2p_keras.sizes import Size
from p2p_keras.workdir.resolve import resolve


def test_the_size_is_that_asked_for_or_the_runs_or_the_data_sets_or_the_papers(pairs_dir, tmp_path):
    config = small_config(pairs_dir, image_size=None)

    def size(asked, saved=None):
        return resolve(asked, saved, tmp_path, quiet)[0].image_size

    assert size(config) == (256, 256)
    (pairs_dir / "dataset.json").write_text(json.dumps({"panels": ["left", "right"], "image_size": 64}))
    assert size(config) == (64, 64)
    assert size(config, small_config(pairs_dir, image_size=128)) == (128, 128)
    assert size(small_config(pairs_dir, image_size=32), small_config(pairs_dir, image_size=128)) == (32, 32)


def test_what_is_asked_of_crops_and_mirroring_reaches_the_reading(pairs_dir, tmp_path):
    def reading(**settings):
        return resolve(small_config(pairs_dir, image_size=64, **settings), None, tmp_path, quiet)[1].reading

    default = reading()
    assert (default.load_size, default.native, default.mirror) == ((72, 72), False, True)
    assert reading(load_size="80x96") == default._replace(load_size=Size(80, 96))
    assert reading(jitter=False) == default._replace(load_size=Size(64, 64))
    assert reading(mirror=False) == default._replace(mirror=False)
    assert reading(crops="native") == default._replace(native=True)


def test_a_data_sets_own_size_that_the_networks_cannot_take_is_named(pairs_dir, tmp_path):
    (pairs_dir / "dataset.json").write_text(json.dumps({"image_size": [40, 64]}))
    config = small_config(pairs_dir, image_size=None)
    with pytest.raises(UserError, match=r"are of 40x64 pixels, as its dataset\.json says.* as --image_size=256"):
        resolve(config, None, tmp_path, quiet)
    assert resolve(dataclasses.replace(config, image_size="64"), None, tmp_path, quiet)[0].image_size == (64, 64)
