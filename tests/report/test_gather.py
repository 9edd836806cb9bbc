"""What is read of a run's folder, and what of it is left out where it is damaged."""

import json
import shutil

import numpy as np
import pytest
from conftest import names
from PIL import Image

from p2p_keras.doctor import run as doctor
from p2p_keras.doctor.outcomes import Finding, Skipped
from p2p_keras.evaluation.records import read_records
from p2p_keras.report.curves import charts
from p2p_keras.report.gather import gather, names_of, read_diagnosis
from p2p_keras.workdir.history import read_history
from report.scenes import FINDING, decoded, draw_run


def test_a_run_is_what_its_folder_says(finished):
    run = gather(finished[0], "mine", 10**6)
    assert run.history == read_history(finished[0])
    assert (run.steps_per_epoch, run.steps, run.best_step) == (3, [6], None)
    assert run.evaluations == {}
    assert read_records(finished[0] / "eval" / "val") == []
    assert [(sample.epoch, sample.title) for sample in run.samples] == [(2.0, "epoch 2")]
    with Image.open(finished[0] / "samples" / "epoch_0002.png") as sheet:
        assert decoded(run.samples[0].url).shape[:2] == (sheet.height, sheet.width)
    assert run.diagnosis is None
    assert "p2p-doctor --workdir=" in run.why_no_diagnosis


def test_samples_are_in_order_and_damaged_ones_left_out(finished_copy):
    folder = finished_copy / "samples"
    shutil.copy(folder / "epoch_0002.png", folder / "epoch_0001.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "step_00000001.png")
    (folder / "epoch_0003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "epoch_9.png.png").write_bytes(b"")
    run = gather(finished_copy, "mine", 10**6)
    assert [sample.title for sample in run.samples] == ["step 1", "epoch 1", "epoch 2"]
    assert run.samples[0].epoch == pytest.approx(1 / 3)
    assert run.sample_count == 4


@pytest.mark.parametrize("size", [(4, 18_000), (18_000, 4), (1_000, 20)])
def test_a_sheet_of_very_many_pairs_is_made_smaller(finished_copy, size):
    """WebP has sides of up to 16,383 pixels, and --samples may name any number of pairs."""
    path = finished_copy / "samples" / "epoch_0003.png"
    Image.new("RGB", size).save(path)
    (*_, sheet) = gather(finished_copy, "mine", 10**6).samples
    height, width, _ = decoded(sheet.url).shape
    assert (width, height) == {4: (4, 16_383), 18_000: (1_200, 1), 1_000: (1_000, 20)}[size[0]]


def test_it_writes_nothing(finished_copy):
    before = names(finished_copy)
    gather(finished_copy, "mine", 10**6)
    assert names(finished_copy) == before


def test_runs_are_called_by_their_folders(tmp_path):
    one, other, third = tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"
    assert names_of([one]) == ["run"]
    assert names_of([one, third]) == ["run", "c"]
    assert names_of([one, other]) == [str(one), str(other)]


def test_findings_are_those_that_the_doctor_wrote(tmp_path):
    found = doctor.Diagnosis(6, [Finding(**FINDING)], [Skipped("over-fitting", "too young")])
    doctor.write_report(tmp_path, found)
    assert read_diagnosis(tmp_path) == ((6, [FINDING], [{"name": "over-fitting", "reason": "too young"}]), "")


def test_more_than_is_known_of_findings_is_no_harm(tmp_path):
    skipped = {"name": "over-fitting", "reason": "too young"}
    content = {"step": 6, "findings": [{**FINDING, "more": 1}], "skipped": [skipped]}
    (tmp_path / "doctor.json").write_text(json.dumps(content))
    assert read_diagnosis(tmp_path) == ((6, [FINDING], [skipped]), "")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"step": "6", "findings": [], "skipped": []}',
        '{"step": 6, "findings": [{"name": "x"}], "skipped": []}',
        '{"step": 6, "findings": [3], "skipped": []}',
        '{"step": 6, "findings": 3, "skipped": []}',
        '{"step": 6, "findings": [], "skipped": [{"name": 1, "reason": "x"}]}',
    ],
)
def test_other_findings_are_left_out_with_a_word(tmp_path, content):
    (tmp_path / "doctor.json").write_text(content)
    diagnosis, why = read_diagnosis(tmp_path)
    assert diagnosis is None
    assert why.startswith("doctor.json cannot be read")


def test_curves_are_those_of_the_history_and_the_records():
    found = {chart["title"]: chart for chart in charts([draw_run(epochs=2)])}
    assert list(found) == ["Adversarial losses", "L1, [-1, 1]", "PSNR, dB", "KID x1000"]
    (training, scored) = found["L1, [-1, 1]"]["series"]
    assert (training["name"], training["points"]) == ("training pairs", [[1.0, 0.1], [2.0, 0.2]])
    assert (scored["name"], scored["points"]) == ("val/", [[1.0, 0.01], [2.0, 0.02]])
    assert found["KID x1000"]["series"][0]["points"] == [[1.0, pytest.approx(3.0)], [2.0, pytest.approx(6.0)]]
    assert (found["PSNR, dB"]["note"], found["KID x1000"]["note"]) == ("higher is better", "lower is better")


def test_two_runs_share_charts_and_a_long_one_is_thinned():
    short, long = draw_run("short", epochs=2), draw_run("long", epochs=3000, samples=[])
    adversarial = charts([short, long])[0]
    assert [(series["name"], series["run"], series["style"]) for series in adversarial["series"]] == [
        ("short: generator (GAN)", 0, 0),
        ("short: discriminator", 0, 1),
        ("long: generator (GAN)", 1, 0),
        ("long: discriminator", 1, 1),
    ]
    assert len(adversarial["series"][2]["points"]) == 1000
    assert adversarial["series"][2]["points"][-1] == [3000.0, 300.0]


def test_a_run_that_has_only_begun_has_no_curves(finished_copy):
    (finished_copy / "history.jsonl").unlink()
    shutil.rmtree(finished_copy / "samples")
    run = gather(finished_copy, "mine", 10**6)
    assert (run.history, run.samples, charts([run])) == ([], [], [])
