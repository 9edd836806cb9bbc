"""The generator that comes with the package: whole, small, and one that has learnt something."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, quiet

import p2p_keras
from p2p_keras.data.town import draw_scene
from p2p_keras.errors import UserError
from p2p_keras.pretrained import NAMES, locate
from p2p_keras.training.initial import open_source

TOWN = locate("town")


def test_names_alone_are_located_and_paths_stay():
    assert TOWN == ROOT / "p2p_keras" / "pretrained" / "town"
    for path in ("./town", "town/", "runs/town", Path("town")):
        assert locate(path) == Path(path)


def test_it_is_small_and_says_how_it_was_made():
    files = [path for path in TOWN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8 * 2**20
    scores = json.loads((TOWN / "scores.json").read_text())
    metadata = json.loads((TOWN / "1" / "metadata.json").read_text())
    assert scores["metrics"] == metadata["evaluations"][-1]["metrics"]
    assert scores["made by"].startswith("python benchmarks/town.py ")
    assert metadata["config"]["data_dir"] is None  # a folder of the machine that it was made on
    assert "/" not in metadata["evaluations"][-1]["extractor"]["source"]


def test_it_draws_the_street_of_a_scene_it_has_never_seen():
    """L1 on [-1, 1] of 500 such scenes was 0.139; that of the mean street is 0.28, of another scene's street more."""
    translate = p2p_keras.load("town", report=quiet)
    scenes = [draw_scene(99, "unseen", i, 128) for i in range(6)]
    streets = np.stack([street for _, street in scenes]).astype(float)
    generated = np.stack([translate(aerial) for aerial, _ in scenes]).astype(float)
    own = np.abs(generated - streets).mean() / 127.5
    others = np.abs(generated - np.roll(streets, 1, axis=0)).mean() / 127.5
    assert own < 0.2
    assert others > 1.5 * own


@pytest.mark.parametrize("model", ["./town", "town/"])
def test_a_folder_of_ones_own_with_its_name_is_not_taken_for_it(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "town").mkdir()
    with pytest.raises(UserError, match="town is none of them"):
        p2p_keras.load(model)


def test_a_run_can_begin_with_it():
    source = open_source(TOWN)
    assert (source.config.base_filters, source.config.upsampling, source.config.image_size.plain) == (16, "resize", 128)
    kernels = {name: value.shape for name, value in source.values.items() if name.endswith("/kernel")}
    assert len(kernels) == 14
    assert kernels["down1/kernel"] == (4, 4, 3, 16)


@pytest.mark.slow
def test_it_is_installed_with_the_package(tmp_path):
    build = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={tmp_path / 'lib'}"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    for name in NAMES:
        source, installed = ROOT / "p2p_keras/pretrained" / name, tmp_path / "lib/p2p_keras/pretrained" / name
        found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
        assert found == {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
