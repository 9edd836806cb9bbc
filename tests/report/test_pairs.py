"""Pairs of a run: the pictures are the data set's and the generator's, and the scores are theirs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_pair, quiet, raise_

from p2p_keras.errors import UserError
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.metrics import paired
from p2p_keras.report.pairs import translate_pairs
from p2p_keras.report.run import make_reporter, state_of


@pytest.fixture
def translated(finished_copy):
    return translate_pairs(finished_copy, report=quiet)


def test_pictures_and_scores_belong_together(translated, finished_copy):
    """The pairs are of 32x32, the size that the networks work in, so that they come as they were drawn."""
    assert (translated.step, translated.split, translated.count, translated.input_titles) == (6, "val", 3, ("input",))
    assert [pair.name for pair in translated.pairs] == ["000.png", "001.png", "002.png"]
    for number, pair in enumerate(translated.pairs):
        input_image, target = draw_pair(100 + number)
        np.testing.assert_array_equal(pair.inputs[0], input_image)
        np.testing.assert_array_equal(pair.target, target)
        assert pair.generated.shape == (32, 32, 3)
        for name in ("l1", "psnr", "ssim", "sharpness_difference"):
            score = getattr(paired, name)(generated=pair.generated, reference=pair.target)
            assert pair.scores[name] == pytest.approx(float(score), abs=1e-6)  # SSIM is computed in float32
    # What p2p-eval makes of the same.
    (record,) = evaluate(open_evaluation(finished_copy, split="val", report=quiet), None, "none", report=quiet)
    mean = np.mean([pair.scores["l1"] for pair in translated.pairs])
    assert record["metrics"]["l1"] == pytest.approx(mean, abs=1e-12)
    assert record["pictures"]["fingerprint"] == translated.fingerprint


def test_which_pairs(finished_copy, finished):
    train = translate_pairs(finished_copy, split="train", most=5, report=quiet)
    assert (train.split, train.count) == ("train", 12)
    assert [pair.name for pair in train.pairs] == ["000.png", "002.png", "004.png", "007.png", "009.png"]
    elsewhere = translate_pairs(finished_copy, data_dir=finished[1], report=quiet)
    assert elsewhere.split == "val"


def test_what_is_not_there_is_said(finished_copy, tmp_path):
    with pytest.raises(UserError, match="This run has 6"):
        translate_pairs(finished_copy, which="5", report=quiet)
    config = json.loads((finished_copy / "config.json").read_text())
    config["config"]["data_dir"] = str(tmp_path / "gone")
    (finished_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"gone, which is not there\. Say where: --data_dir=DATA"):
        translate_pairs(finished_copy, report=quiet)


def test_pairs_are_translated_anew_when_there_is_another_checkpoint(finished_copy, monkeypatch):
    calls = []

    def translate(workdir: Path, *_: object) -> None:
        calls.append(workdir)
        raise UserError("not now")

    monkeypatch.setattr("p2p_keras.report.run.translate_pairs", translate)
    make = make_reporter([finished_copy], report=quiet)
    make("")
    (finished_copy / "doctor.json").write_text("{}")
    assert b"not now" in make("")
    assert len(calls) == 1
    shutil.copytree(finished_copy / "checkpoints" / "step_00000006", finished_copy / "checkpoints" / "step_00000009")
    make("")
    assert len(calls) == 2


def test_data_that_may_not_be_read_leave_the_rest_of_the_page(finished_copy, monkeypatch):
    problem = PermissionError(13, "Permission denied", "pairs/train")
    monkeypatch.setattr("p2p_keras.report.pairs.find_data", lambda *_: raise_(problem))
    told = []
    page = make_reporter([finished_copy], report=told.append)("")
    assert b"Permission denied" in page
    assert b"Adversarial losses" in page
    assert told == [f"The page shows no pairs of {finished_copy}: {problem}"]


def test_what_is_said_is_said_once_however_often_the_page_is_made(finished_copy, monkeypatch):
    def translate(*arguments: object) -> None:
        arguments[-1]("The data are here.")
        raise UserError("not now")

    monkeypatch.setattr("p2p_keras.report.run.translate_pairs", translate)
    told = []
    make = make_reporter([finished_copy], report=told.append)
    for step in (7, 8):
        make("")
        shutil.copytree(
            finished_copy / "checkpoints" / "step_00000006", finished_copy / f"checkpoints/step_0000000{step}"
        )
    assert told == ["The data are here.", f"The page shows no pairs of {finished_copy}: not now"]


@pytest.mark.parametrize("name", ["history.jsonl", "samples/epoch_0009.png", "doctor.json", "eval/val/metrics.json"])
def test_the_state_changes_with_what_the_page_shows(finished_copy, name):
    before = state_of([finished_copy])
    (finished_copy / "report.html").write_text("")
    assert state_of([finished_copy]) == before
    (finished_copy / name).parent.mkdir(parents=True, exist_ok=True)
    with open(finished_copy / name, "a") as file:
        file.write("\n")
    assert state_of([finished_copy]) != before
