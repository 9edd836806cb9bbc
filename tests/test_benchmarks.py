"""What the scripts in benchmarks/ measure, where a mistake would be a wrong table and no error."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, draw_pair, write_pairs

from p2p_keras.images import codec
from p2p_keras.images.resizing import resize
from p2p_keras.sizes import Size

FLAGS = ["--image_size=64"]


@pytest.fixture
def load(monkeypatch):
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.setenv("PYTHONPATH", "")  # which the scripts set for their commands
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return importlib.import_module


@pytest.fixture
def with_torch():
    """Runs Python code beside PyTorch: in a process of its own, for it crashes beside TensorFlow."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is installed beside some checkouts only")

    def run(code: str, *flags: str) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(ROOT / "benchmarks"), *sys.path])
        command = [sys.executable, "-c", f"import json\nimport pytorch_pix2pix as script\n{code}", *flags]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})

    return run


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


def test_pairs_that_could_not_be_scored_are_not_trained_on(load, monkeypatch, tmp_path, capsys):
    """As those of a folder for each side, A/val and B/val: there would be no table, and no checkpoints either."""
    (tmp_path / "cells").write_text("base\n")
    (tmp_path / "data" / "A" / "val").mkdir(parents=True)
    flags = {"cells": "cells", "data_dir": "data", "output": "out", "inception": "none"}
    monkeypatch.setattr(sys, "argv", ["quality.py", *(f"--{name}={tmp_path / flags[name]}" for name in flags)])
    with pytest.raises(SystemExit):
        load("quality").main()
    assert f"{tmp_path / 'data'} has neither val/ nor test/" in capsys.readouterr().err


def test_images_are_counted_by_the_batch_that_is_trained_with(load):
    quality = load("quality")
    for flags, size in (
        (["--image_size=64", "--nomirror"], 8),
        (["--batch_size=4", "--batch_size=2"], 2),
        (["--preset=experiment3"], 24),
        (["--preset=experiment3", "--batch_size=8"], 8),
        (["--preset=best"], 8),
        (["--preset=paper"], 1),
    ):
        assert quality.batch_of(flags) == size
    with pytest.raises(SystemExit, match=r"as --name=value\. Received: 4"):
        quality.batch_of(["--batch_size", "4"])


def test_the_pytorch_generator_has_the_dropout_of_that_repository(with_torch):
    """Its `unet_128` has num_downs = 7, and num_downs - 5 blocks with dropout, all of them of 8 times the filters."""
    code = """
for size in (256, 128):
    parts = [getattr(part, "model", ()) for part in script.build_generator(size, filters=4).modules()]
    last = [list(part)[-2:] for part in parts]
    print(json.dumps([norm.num_features for norm, drop in filter(None, last) if type(drop).__name__ == "Dropout"]))
"""
    done = with_torch(code)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[32] * 3, [32] * 2], done.stderr


def test_the_pytorch_pairs_are_those_that_p2p_keras_trains_on_and_scores_by(with_torch, tmp_path):
    """To within the one level that Pillow rounds otherwise; bicubic ones are many levels away, at edges."""
    write_pairs(tmp_path / "val", 1, size=64)
    code = """
import argparse, pathlib, sys
arguments = argparse.Namespace(data_dir=pathlib.Path(sys.argv[1]), direction="BtoA")
print(json.dumps([side.tolist() for side in script.read_pairs(arguments, "val", 24)[0][1:]]))
"""
    done = with_torch(code, str(tmp_path))
    for side, image in zip(json.loads(done.stdout), draw_pair(0, 64)[::-1], strict=True):
        expected = codec.from_unit_range(resize(tf.constant(image), Size(24, 24)))
        np.testing.assert_allclose(side, np.asarray(expected).astype(int), atol=1)


def test_another_pytorch_run_does_not_go_on_with_the_same_state(with_torch, tmp_path):
    write_pairs(tmp_path / "data" / "train", 1)

    def call(*flags: str) -> subprocess.CompletedProcess:
        common = [f"--data_dir={tmp_path / 'data'}", f"--output={tmp_path}", "--image_size=32", "--images=2"]
        return with_torch("script.main()", *common, *flags)

    for _ in range(2):  # the second time it is finished
        assert call().returncode == 0
    for flags, words in (("--direction=BtoA", "was begun with"), ("--images=1,4", "is at 2 images, past [1]")):
        done = call(flags)
        assert done.returncode == 2
        assert words in done.stderr
