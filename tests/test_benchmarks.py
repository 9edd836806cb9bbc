"""What the scripts in benchmarks/ measure, where a mistake would be a wrong table and no error."""

import importlib
import sys

import pytest
from conftest import ROOT

FLAGS = ["--image_size=64"]


@pytest.fixture
def load(monkeypatch):
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.setenv("PYTHONPATH", "")  # which the scripts set for their commands
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return importlib.import_module


def _record(**other) -> dict:
    numbers = {"fid": 1.0, "kid": 0.1, "ssim": 0.5, "psnr": 20.0, "l1": 0.1, "checkerboard": 0.0}
    known = {"cell": "base", "flags": FLAGS, "seed": 0, "images": 20, "split": "val", "secs": 1.0, "count": 9}
    return {**known, "label": "", **numbers, **other}


def test_what_is_scored_again_counts_once(load, tmp_path):
    """As `--images=20,40` after `--images=20`: it trains anew, and scores both."""
    results = load("quality").Results(tmp_path, "data", "AtoB")
    results.add([_record()])
    results.add([_record(fid=2.0), _record(images=40)])
    assert [(record["images"], record["fid"]) for record in results.records] == [(20, 2.0), (40, 1.0)]
    assert "| base | 1 | 2.000 |" in results.table.read_text()


def test_other_flags_or_another_direction_under_an_old_name_are_an_error(load, tmp_path):
    """With another seed or number of images, too: their mean would be of two different cells."""
    quality = load("quality")
    quality.Results(tmp_path, "data", "AtoB").add([_record()])
    results = quality.Results(tmp_path, "data", "AtoB")
    assert results.has("base", FLAGS, 0, 20)
    assert not results.has("base", FLAGS, 1, 20)
    for seed, images in ((0, 20), (1, 20), (0, 40)):
        with pytest.raises(SystemExit, match="base was measured with AtoB --image_size=64, and is now AtoB --lambda"):
            results.has("base", ["--lambda_l1=10"], seed, images)
        with pytest.raises(SystemExit, match="and is now BtoA --image_size=64"):
            quality.Results(tmp_path, "data", "BtoA").has("base", FLAGS, seed, images)


@pytest.mark.parametrize(("size", "count"), [(256, 3), (128, 2), (64, 1)])
def test_the_pytorch_generator_has_the_dropout_of_that_repository(load, size, count):
    """Its `unet_128` has num_downs = 7, and num_downs - 5 blocks with dropout, all of them of 8 times the filters."""
    torch = pytest.importorskip("torch", reason="PyTorch is installed beside some checkouts only")
    generator = load("pytorch_pix2pix").build_generator(size, filters=4)
    blocks = [part for part in generator.modules() if isinstance(getattr(part, "model", None), torch.nn.Sequential)]
    dropping = [part for part in blocks if isinstance(part.model[-1], torch.nn.Dropout)]
    assert len(dropping) == count
    assert {part.model[-2].num_features for part in dropping} == {8 * 4}
